"""A run with folds: who is trained on what, the pooled report, and a wrong label that it finds."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import BASE, read_jsonl, small_yaml, write_csv, write_yaml
from shell import sh

from rbft_plugin.demo.synthetic_video import GENERAL, frame_times, random_scene, render, write_video

pytestmark = pytest.mark.e2e

LABEL_OF = {"drop": "parcel", "take": "parcel", "pass": "travel", "turn": "travel"}
WRONG = "v07"
FOLDS = 3


@pytest.fixture
def forty(ws: Path) -> Path:
    """Forty labelled clips of two classes, and one label that is wrong."""
    shutil.copytree(BASE, "base")
    rows = []
    Path("mine_videos").mkdir()
    for i in range(40):
        rng = random.Random(i)
        event = list(LABEL_OF)[i % 4]
        scene = replace(random_scene(rng), event=event)
        write_video(Path(f"mine_videos/v{i:02}.mp4"), render(scene, GENERAL, frame_times(16), rng), 4)
        rows.append({"id": f"v{i:02}", "label": LABEL_OF[event]})
    other = {"parcel": "travel", "travel": "parcel"}
    for row in rows:
        row["label"] = other[row["label"]] if row["id"] == WRONG else row["label"]
    write_csv("mine.csv", rows)
    labels = [
        {"name": "parcel", "description": "Somebody leaves or takes a box."},
        {"name": "travel", "description": "Somebody passes or turns."},
    ]
    prompts = {"rationale": "Describe the video.", "label": "Which is it, {names}?"}
    write_yaml(small_yaml(labels=labels, splits={"folds": FOLDS}, prompts=prompts))
    return ws


def test_every_sample_is_scored_by_a_model_that_never_saw_it(forty: Path) -> None:
    recipe: dict[str, Any] = yaml.safe_load(Path("recipes/demo.yaml").read_text())
    recipe |= {"run": "folded", "dataset": "mine", "base_model": "base", "arms": {"rbft": ["rationale", "label"]}}
    recipe["training"]["stages"]["rationale"]["overrides"]["max_steps"] = 5
    recipe["training"]["stages"]["label"]["overrides"]["max_steps"] = 80
    recipe["evaluation"] |= {"tasks": ["label", "ll"], "fit": 0}
    Path("recipes/folded.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    ran = sh("rbft run recipes/folded.yaml --jobs 2")
    assert ran.returncode == 0, ran.stdout
    run = Path("runs/folded")
    clip_of = {row["id"]: row["video"] for row in read_jsonl("data/mine/test.jsonl")}
    for fold in range(FOLDS):
        tested = {row["id"] for row in read_jsonl(f"data/mine/fold{fold}.jsonl")}
        for kind in ("rationale", "label"):
            rows = read_jsonl(run / f"rows/{kind}_without-{fold}.jsonl")
            assert {row["id"] for row in rows} <= clip_of.keys() - tested
            assert not {clip_of[i] for i in tested} & {video for row in rows for video in row["videos"]}
            command = json.loads((run / f"steps/train-rbft-seed-0-without-fold-{fold}-{kind}.json").read_text())
            assert f"dataset=mine_{kind}_without-{fold}" in command["inputs"]["argv"]
        (log,) = run.glob(f"rbft/seed-0/without-{fold}/eval_fold{fold}/**/*_samples_rbft_mine_fold{fold}.jsonl")
        assert {row["sample_id"] for row in read_jsonl(log)} == tested
    report = json.loads((run / "report/report.json").read_text())
    assert report["n_test"] == 40 and report["arms"]["rbft"]["seeds"] == [0]
    assert any(f"{FOLDS} models for each seed, one for each fold" in note for note in report["notes"])
    assert sorted(report["models"]) == [f"rbft, fold {fold}" for fold in range(FOLDS)]
    doubtful = [one["id"] for one in report["doubtful_labels"]["samples"]]
    print(report["arms"]["rbft"]["accuracy"], report["doubtful_labels"])
    assert WRONG in doubtful[:3]
    page = (run / "report/index.html").read_text()
    assert '<h2 id="doubtful-title">Doubtful labels</h2>' in page and f'alt="frames of {WRONG}"' in page
    assert "Without frames" not in page and not [note for note in report["notes"] if "several folds" in note]
