"""A new metric and a new kind of task are one entry each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from builders import small_yaml
from lmms_eval.api.task import ConfigurableTask
from lmms_eval.caching.response_cache import _FUNC_ADDR_RE
from lmms_eval.utils import load_yaml_config

from rbft_plugin.lmms_eval import tasks
from rbft_plugin.lmms_eval.task_files import task_files
from rbft_plugin.scoring.metrics import METRICS, Metric
from rbft_plugin.spec.dataset import Dataset
from rbft_plugin.spec.names import TASK_KINDS, TaskKind, parse_task


def write_tasks() -> None:
    for path, text in task_files(Dataset.model_validate(small_yaml())).items():
        path.write_text(text, encoding="utf-8")


def test_a_new_metric_is_in_every_scoring_task_and_lmms_eval_aggregates_it(
    ws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METRICS, "worst_f1", Metric("worst F1", True, lambda counts: counts.f1.min(axis=-1)))
    write_tasks()
    for name in ("rbft_mine", "rbft_mine_novideo", "rbft_mine_ll"):
        metrics = load_yaml_config(f"task_configs/{name}.yaml")["metric_list"]
        (entry,) = [metric for metric in metrics if metric["metric"] == "worst_f1"]
        assert entry["higher_is_better"] is True
        docs = [("calm", "calm"), ("calm", "busy"), ("busy", "busy"), ("busy", "busy")]
        rows = [tasks.process_label({"id": "a", "label": t, "labels": ["calm", "busy"]}, [p]) for t, p in docs]
        assert entry["aggregation"]([row["worst_f1"] for row in rows]) == pytest.approx(2 / 3)


def test_lmms_eval_takes_a_task_with_a_new_metric(ws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "errors", Metric("errors", False, lambda counts: counts.n - counts.right))
    write_tasks()
    Path("data/mine").mkdir(parents=True)
    row = {"id": "a", "video": "a.mp4", "label": "calm", "labels": ["calm", "busy"], "label_prompt": "Which?"}
    Path("data/mine/test.jsonl").write_text(json.dumps(row))
    config = load_yaml_config("task_configs/rbft_mine.yaml")
    task = ConfigurableTask(config=config, model_name="rbft_vl")
    assert task.higher_is_better()["errors"] is False
    # lmms-eval's response cache hashes the configuration without the addresses of functions.
    assert "0x" not in _FUNC_ADDR_RE.sub(">", str(task.dump_config()))
    assert task.aggregation()["errors"]([["calm", "busy"], ["calm", "calm"], ["calm", None]]) == 2.0


def test_a_new_kind_of_task_is_one_entry_and_its_base(ws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASK_KINDS, "guess", TaskKind("rbft_guesses", ("_rbft_guess_base.yaml",), scores="answers"))
    base = yaml.safe_dump({"tag": "rbft_guesses", "output_type": "generate_until"})
    Path("task_configs/_rbft_guess_base.yaml").write_text(base)
    write_tasks()
    config = load_yaml_config("task_configs/rbft_mine_guess.yaml", mode="simple")
    assert config["task"] == "rbft_mine_guess" and config["tag"] == "rbft_guesses"
    assert config["metric_list"][0]["metric"] == "accuracy"
    assert parse_task("rbft_mine_guess") == ("mine", "guess", "test", None)
    of_val = load_yaml_config("task_configs/rbft_mine_guess_val.yaml", mode="simple")
    assert str(of_val["metric_list"]) == str(config["metric_list"]) and of_val["task"] == "rbft_mine_guess_val"
