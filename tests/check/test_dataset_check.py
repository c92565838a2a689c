"""check: what it finds in real small videos, with its words, levels and numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import BASE, QUIET, prepare, small_dataset, small_yaml, write_csv, write_video, write_yaml

from rbft_plugin.check import dataset_check as check
from rbft_plugin.check import near_duplicates as duplicates
from rbft_plugin.check.dataset_check import CheckResult
from rbft_plugin.clips.canonical import read_frames
from rbft_plugin.clips.video import Clip
from rbft_plugin.data import prompts
from rbft_plugin.errors import Finding, ProblemsError, RbftError
from rbft_plugin.model.processor import load_base, tokens
from rbft_plugin.spec import recipe as recipes
from rbft_plugin.spec.dataset import load

GOOD = {"train": 10, "val": 2, "test": 10}  # five of each label
NOTES = [
    "note not-deep: videos: only equal files were looked for; --deep compares pictures too, and decodes every video",
    "note no-recipe: clips: token lengths, sizes and rates were not checked against a model and its training: give "
    "--recipe RECIPE",
]


def checked(deep: bool = False, recipe: Path | None = None) -> CheckResult:
    return check.check(load("mine"), QUIET, deep, recipes.load(recipe) if recipe else None)


def lines(found: CheckResult, *but: str) -> list[str]:
    return [f"{f.level} {f.kind}: {f}" for f in found.findings if f.kind not in but]


def problems(found: CheckResult) -> list[str]:
    """Errors and warnings, without those on the small numbers of these tests."""
    return [line for line in lines(found, "few-samples") if not line.startswith("note ")]


def test_a_good_dataset_has_notes_alone(ws: Path) -> None:
    small_dataset(per_split=GOOD)
    found = checked()
    assert lines(found) == NOTES
    assert (found.samples, found.count("error"), found.count("warning"), found.count("note")) == (22, 0, 0, 2)
    assert found.counts["test"] == {"calm": 5, "busy": 5}
    assert not Path("data").exists()


def test_a_deep_check_of_a_good_dataset_finds_nothing_more(ws: Path) -> None:
    small_dataset(per_split={"train": 2, "test": 2})
    assert lines(checked(deep=True), "few-samples") == NOTES[1:]


def test_videos_that_cannot_be_used(ws: Path) -> None:
    small_dataset(per_split={"train": 6, "test": 4})
    Path("mine_videos/train0.mp4").unlink()
    Path("mine_videos/train1.mp4").write_bytes(b"")
    Path("mine_videos/test0.mp4").write_bytes(b"text")
    said = [
        "missing-video: row 1 (id 'train0'): mine_videos/train0.mp4 does not exist",
        "empty-video: row 2 (id 'train1'): mine_videos/train1.mp4 is empty",
        "unreadable-video: row 7 (id 'test0'): mine_videos/test0.mp4 cannot be opened (Invalid data found when "
        "processing input)",
    ]
    for allowed, level in ((0, "error"), (2, "error"), (3, "warning"), (9, "warning")):
        write_yaml(small_yaml(max_missing=allowed))
        counts = f"max-missing: max_missing: allows {allowed} videos that cannot be used; there are 3 (train 2, test 1)"
        assert problems(checked()) == [f"{level} {line}" for line in [*said, *([counts] if allowed else [])]]


def test_a_class_that_only_missing_videos_have_is_an_error_even_where_they_may_be_missing(ws: Path) -> None:
    small_dataset(per_split={"train": 6, "test": 2}, max_missing=1)
    Path("mine_videos/test1.mp4").unlink()
    assert problems(checked()) == [
        "error no-sample: label 'busy': has no sample in split 'test'",
        "warning missing-video: row 8 (id 'test1'): mine_videos/test1.mp4 does not exist",
        "warning max-missing: max_missing: allows 1 videos that cannot be used; there are 1 (test 1)",
    ]


def test_a_video_that_is_cut_off_is_found_by_decoding(ws: Path) -> None:
    small_dataset(per_split={"train": 2, "test": 2})
    video = write_video(Path("mine_videos/train1.mp4"), seconds=8, fps=10, movflags="faststart")
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) // 2])
    (line,) = problems(checked(deep=True))
    assert line.startswith("error unreadable-video: row 2 (id 'train1'): mine_videos/train1.mp4 ")


def test_short_videos_by_header_and_by_segment(ws: Path) -> None:
    rows = small_dataset(per_split={"train": 2, "test": 2})
    for row in rows:
        row["end"] = "0.5" if row["id"] == "test1" else ""
    write_csv("mine.csv", rows)
    write_yaml(small_yaml(segment={"end": "end"}))
    write_video(Path("mine_videos/train0.mp4"), seconds=0.75)
    said = [
        "warning short-video: row 1 (id 'train0'): mine_videos/train0.mp4 lasts 0.75 s: little can happen in it",
        "warning short-video: row 4 (id 'test1'): mine_videos/test1.mp4 lasts 0.5 s: little can happen in it",
    ]
    assert problems(checked()) == problems(checked(deep=True)) == said


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_segments_that_are_not_in_their_videos_are_found_by_headers_too(ws: Path, extension: str) -> None:
    rows = small_dataset(per_split={"train": 2, "test": 2})
    times = {"train0": ("9", ""), "train1": ("1", "30"), "test0": ("3", "2"), "test1": ("1", "2.5")}
    for row in rows:
        row["start"], row["end"] = times[row["id"]]
        write_video(Path(f"mine_videos/{row['id']}.{extension}"), seconds=4)
    for video in Path("mine_videos").iterdir():
        if video.suffix != f".{extension}":
            video.unlink()
    rows[2]["end"] = "3.5"
    write_csv("mine.csv", rows)
    write_yaml(small_yaml(segment={"start": "start", "end": "end"}))
    place = f"mine_videos/train{{}}.{extension}"
    said = [
        f"error unreadable-video: row 1 (id 'train0'): {place.format(0)} lasts 4.00 s, and its segment starts at 9 s",
        f"error unreadable-video: row 2 (id 'train1'): {place.format(1)} lasts 4.00 s, and its segment ends at 30 s",
        f"warning short-video: row 3 (id 'test0'): mine_videos/test0.{extension} lasts 0.5 s: little can happen in it",
    ]
    assert problems(checked()) == problems(checked(deep=True)) == said


def test_a_video_whose_header_gives_no_size_is_a_finding_and_no_traceback(ws: Path) -> None:
    small_dataset(per_split={"train": 2, "test": 2})
    whole = write_video(Path("whole.ts"), seconds=4, g="250").read_bytes()
    Path("mine_videos/train0.mp4").unlink()
    Path("mine_videos/train0.ts").write_bytes(whole[len(whole) // 2 // 188 * 188 :])  # its one key frame is gone
    found = [line for line in problems(checked(recipe=recipe())) if "unreadable" in line]
    assert found == [
        "error unreadable-video: row 1 (id 'train0'): mine_videos/train0.ts has no picture that can be decoded near "
        "its start"
    ]


def test_copies_of_files_and_with_deep_of_pictures(ws: Path) -> None:
    small_dataset(per_split={"train": 4, "test": 4})
    shutil.copy("mine_videos/train1.mp4", "mine_videos/train3.mp4")
    frames, _ = read_frames(Path("mine_videos/train2.mp4"), load("mine").clips.model_copy(update={"max_fps": 30}))
    again = write_video(Path("again.mp4"), seconds=5, seed=2, crf="35")
    assert len(frames) == 8
    shutil.move(again, "mine_videos/test0.mp4")  # train2 is five seconds of the same seed
    same = (
        "warning duplicate: row 4 (id 'train3'): mine_videos/train3.mp4 (train) is byte for byte the same as "
        "mine_videos/train1.mp4 of row 2 (id 'train1') (train)"
    )
    anew = (
        "error duplicate-across-splits: row 5 (id 'test0'): mine_videos/test0.mp4 (test) looks like another encoding "
        "of mine_videos/train2.mp4 of row 3 (id 'train2') (train)"
    )
    assert problems(checked()) == [same]
    assert problems(checked(deep=True)) == [anew, same]


def test_copies_of_short_videos_are_compared_at_more_frames_than_a_clip_holds(
    ws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_dataset(per_split={"train": 2, "test": 2})
    write_video(Path("mine_videos/train0.mp4"), seconds=1.6, fps=10)
    given = []
    look = duplicates.picture_fingerprint
    monkeypatch.setattr(
        duplicates, "picture_fingerprint", lambda frames, *rest: given.append(len(frames)) or look(frames, *rest)
    )
    checked(deep=True)
    assert sorted(given) == [8, 8, 8, 8]  # the clip of the short one holds 2


def test_what_the_yaml_names_and_the_annotations_lack(ws: Path) -> None:
    rows = small_dataset(per_split={"train": 4, "test": 4})
    rows[0]["label"] = "unclear"
    write_csv("mine.csv", rows)
    labels = small_yaml()["labels"]
    labels[0]["values"] = ["calm", "quite"]
    given = small_yaml()["annotations"] | {"drop": ["unclear", "uncler"], "unlabelled": ["?"]}
    Path("more.csv").write_text("id,title\ntrain1,A title\n", encoding="utf-8")
    given["join"] = [{"file": "more.csv"}]
    write_yaml(small_yaml(labels=labels, annotations=given))
    found = checked()
    assert problems(found) == [
        "warning annotations: annotations: more.csv: no row for 7 of 8 samples; their title is empty",
        "warning unused-value: values of label 'calm': 'quite' is in no row",
        "warning unused-value: annotations.drop: 'uncler' is in no row",
        "warning unused-value: annotations.unlabelled: '?' is in no row",
    ]
    assert "note dropped: annotations: left out, as annotations.drop says: 'unclear' (1 row)" in lines(found)


def test_groups_names_and_texts_are_looked_at_too(ws: Path) -> None:
    rows = small_dataset(per_split=GOOD)
    for i, row in enumerate(rows):
        row |= {"home": "h1" if i in (0, 12) else f"h{i + 2}", "title": f"a {row['label']} day {i}"}
    write_csv("mine.csv", rows)
    labels = small_yaml()["labels"]
    labels[1] = {"name": "very calm", "description": "Nothing at all.", "values": ["busy"]}
    splits = {"column": "split", "group": "home"}
    write_yaml(small_yaml(labels=labels, splits=splits, prompts={"context": {"Title": "title"}}))
    said = [line.split(":")[0] + ":" + line.split(":")[1] for line in problems(checked())]
    assert said == ["error group-across-splits: group 'h1'", "warning label-names: label 'calm'"]


def test_annotations_that_cannot_be_read_are_all_told(ws: Path) -> None:
    rows = small_dataset(per_split={"train": 2, "test": 2})
    rows[0]["label"], rows[1]["split"] = "clam", "tset"
    write_csv("mine.csv", rows)
    with pytest.raises(ProblemsError) as raised:
        checked()
    assert check.refused(raised.value) == [
        Finding("error", "dataset", "mine.csv", problem) for problem in raised.value.problems
    ]
    assert len(raised.value.problems) == 2
    assert check.refused(RbftError("mine.csv: no such file: really")) == [
        Finding("error", "dataset", "mine.csv", "no such file: really")
    ]
    assert check.refused(RbftError("nothing")) == [Finding("error", "dataset", "", "nothing")]


def test_the_recipes_of_the_dataset_are_named(ws: Path) -> None:
    small_dataset(per_split={"train": 2, "test": 2})
    Path("recipes/a.yaml").write_text("[")
    for name in ("z", "m"):
        Path(f"recipes/{name}.yaml").write_text("dataset: mine")
    assert lines(checked(), "few-samples")[-1].endswith(": give --recipe recipes/m.yaml")
    Path("recipes/_.long.yaml").write_text("dataset: mine")
    assert lines(checked(), "few-samples")[-1].endswith(": give --recipe recipes/m.yaml")


# --- against a recipe ---


def recipe(overrides: dict[str, Any] | None = None, **changes: Any) -> Path:
    content = yaml.safe_load(Path("recipes/demo.yaml").read_text()) | {"dataset": "mine", "base_model": str(BASE)}
    content["training"]["overrides"] |= {"cutoff_len": 1000} | (overrides or {})
    path = Path("recipes/mine.yaml")
    path.write_text(yaml.safe_dump(content | changes))
    return path


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.torch
def test_a_dataset_is_held_against_a_recipe_before_and_after_prepare(ws: Path, prepared: bool) -> None:
    small_dataset(per_split={"train": 2, "test": 2})
    if prepared:
        prepare(load("mine"), QUIET)
    assert problems(checked(recipe=recipe())) == []
    mine, base = load("mine"), load_base(str(BASE))
    made = [Clip(6, 56, 56, 2.0), Clip(8, 56, 56, 2.0)]  # of 3 and 4 seconds
    label = [tokens(base, c, prompts.label(mine), a) for c, a in zip(made, ("calm", "busy"), strict=True)]
    rationale = [tokens(base, c, prompts.rationale(mine), 512) for c in made]
    rate = "video_fps must be a number above 2 (the frames a second of the fastest clip), such as 1024, not 2"
    cut = "; cutoff_len: {} would hold every sample"
    assert problems(checked(recipe=recipe({"cutoff_len": 100, "video_fps": 2}))) == [
        f"error clip-changed: training.stages.label: {rate}",
        *(
            f"error too-long: row {n} (id 'train{n - 1}'): {label[n - 1]} tokens, and "
            "training.stages.label silently cuts at 100" + cut.format(max(label))
            for n in (1, 2)
        ),
        f"error clip-changed: training.stages.rationale: {rate}",
        *(
            f"error too-long: row {n} (id 'train{n - 1}'): {rationale[n - 1]} tokens, and training.stages.rationale "
            "silently cuts at 100" + cut.format(max(rationale))
            for n in (1, 2)
        ),
    ]


@pytest.mark.torch
def test_clips_that_are_made_already_count_and_not_those_of_other_settings(ws: Path) -> None:
    small_dataset(per_split={"train": 2, "test": 2})
    prepare(load("mine"), QUIET)
    path = Path("data/mine/train.jsonl")
    path.write_text(path.read_text().replace('"width": 56', '"width": 112'))
    assert [f.where for f in checked(recipe=recipe()).findings if f.kind == "clip-resized"] == [
        f"clips of {n} frames, 112x56" for n in (6, 8)
    ]
    write_yaml(small_yaml(clips={"frames": 8, "max_fps": 2, "max_pixels": 3136, "multiple": 28, "crf": 20}))
    assert problems(checked(recipe=recipe())) == []


@pytest.mark.torch
def test_samples_without_a_label_are_held_against_the_first_stage_alone(ws: Path) -> None:
    given = small_yaml()["annotations"] | {"unlabelled": [""]}
    rows = small_dataset(per_split={"train": 4, "test": 2}, annotations=given)
    rows[3]["label"] = ""
    write_csv("mine.csv", rows)
    found = checked(recipe=recipe({"cutoff_len": 1})).findings
    ids = {stage: [f.where for f in found if f"training.stages.{stage}" in f.text] for stage in ("label", "rationale")}
    assert [len(ids["label"]), len(ids["rationale"])] == [3, 4]
    assert "row 4 (id 'train3')" not in ids["label"]


@pytest.mark.torch
def test_texts_of_a_file_are_held_against_their_stage(ws: Path) -> None:
    small_dataset(per_split={"train": 2, "test": 2})
    path = recipe({"cutoff_len": 100}, arms={"described": ["rationale"]})
    content = yaml.safe_load(path.read_text())
    content["training"]["stages"]["rationale"] |= {"rows": "rationale_file", "file": "human.jsonl"}
    path.write_text(yaml.safe_dump(content))
    assert problems(checked(recipe=path)) == [
        "error dataset: human.jsonl: no such file; it has the texts of rows of kind rationale_file"
    ]
    text = "A dog runs. " * 50
    Path("human.jsonl").write_text(json.dumps({"id": "train1", "text": text}) + "\n")
    most = tokens(load_base(str(BASE)), Clip(8, 56, 56, 2.0), prompts.rationale(load("mine")), text.strip())
    assert problems(checked(recipe=path)) == [
        f"error too-long: row 2 (id 'train1'): {most} tokens, and training.stages.rationale silently cuts at 100; "
        f"cutoff_len: {most} would hold every sample"
    ]


@pytest.mark.torch
def test_what_a_recipe_cannot_be_is_found_too(ws: Path) -> None:
    small_dataset(per_split={"train": 2, "test": 2}, clips={"frames": 8, "multiple": 32, "max_pixels": 4096})
    found = lines(
        checked(recipe=recipe({"finetuning_type": "freeze"}, base_model="no/such/folder")), "few-samples", "not-deep"
    )
    assert found[0] == (
        "error dataset: recipes/stage2.yaml (training.stages.label): finetuning_type must be lora or full, not freeze"
    )
    assert found[-1].startswith("note no-model: base_model: no/such/folder: its processor cannot be loaded (")
    assert found[-1].endswith("); sizes, rates and token lengths were not checked against it")
    # Zero-shot has no training to be held against.
    assert problems(checked(recipe=recipe(arms={"zero_shot": []}))) == [
        f"error size-multiple: clips.multiple: is 32, but {BASE} needs a multiple of 28: change it and prepare again"
    ]
