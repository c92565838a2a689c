"""What LLaMA-Factory reads and leaves on disk: rows, trained and exported models, logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rbft_plugin.llamafactory import checks
from rbft_plugin.spec.recipe import Launch


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_exported_model_that_cannot_be_loaded_everywhere_is_said(folder: Path) -> None:
    Path("out").mkdir()
    for name in ("config.json", "model-00001-of-00002.safetensors", "tokenizer_config.json"):
        (Path("out") / name).touch()
    lost = ["there is no generation_config.json in out", "there is no processor_config.json in out"]
    assert checks.export_problems(Path("out")) == lost
    (Path("out") / "generation_config.json").touch()
    (Path("out") / "processor_config.json").touch()
    assert checks.export_problems(Path("out")) == []


def test_a_batch_of_another_size_than_meant_is_said(folder: Path) -> None:
    launch = Launch(processes=2)
    merged = {"max_steps": 10, "finetuning_type": "lora", "per_device_train_batch_size": 2}
    merged |= {"gradient_accumulation_steps": 3}
    batch = "[INFO] >>   Total train batch size (w. parallel, distributed & accumulation) = 6\n"
    output = trained()
    assert checks.output_problems(output, LOG + batch, 1234, merged, launch) == [
        "its batches held 6 rows, not 12, over all processes"
    ]
    assert checks.output_problems(output, LOG + batch.replace("6", "12"), 1234, merged, launch) == []


def row(**changes: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "<video>Which?"}, {"role": "assistant", "content": "calm"}]
    return {"id": "a", "messages": messages, "videos": ["a.mp4"]} | changes


def turns(*turns: tuple[str, Any]) -> dict[str, Any]:
    return row(messages=[{"role": role, "content": content} for role, content in turns])


ROLES = "'messages' must be one of role user, then one of role assistant"


MARKS = "needs '<video>' once, in the user's message, and no '<image>'"


def test_good_rows_have_no_problem(folder: Path) -> None:
    Path("a.mp4").touch()
    assert checks.row_problems([row(), row(id="b", more=1)]) == []


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (row(messages="x"), "'messages' must be a list of objects"),
        (row(messages=["x"]), "'messages' must be a list of objects"),
        (row(messages=[]), ROLES),
        (turns(("user", "<video>x")), ROLES),
        (turns(("assistant", "x"), ("user", "<video>x")), ROLES),
        (turns(("system", "x"), ("user", "<video>x"), ("assistant", "x")), ROLES),
        (turns(("human", "<video>x"), ("gpt", "x")), ROLES),
        (turns(("user", "<video>x"), ("assistant", " \n")), "a message is empty"),
        (turns(("user", "<video>x"), ("assistant", None)), "a message is empty"),
        (turns(("user", "x"), ("assistant", "x")), MARKS),
        (turns(("user", "<video><video>x"), ("assistant", "x")), MARKS),
        (turns(("user", "<video>x"), ("assistant", "<video>")), MARKS),
        (turns(("user", "<video><image>x"), ("assistant", "x")), MARKS),
        (turns(("user", "<video>x"), ("assistant", "<image>")), MARKS),
        (row(videos="a.mp4"), "'videos' must be a list of one path"),
        (row(videos=[]), "'videos' must be a list of one path"),
        (row(videos=["a.mp4", "a.mp4"]), "'videos' must be a list of one path"),
        (row(videos=[["a.mp4"]]), "'videos' must be a list of one path"),
        (row(videos=["lost.mp4"]), "no such clip: lost.mp4"),
        (row(videos=["."]), "no such clip: ."),
        ({"id": "a", "messages": []}, "must have 'messages' and 'videos'"),
    ],
)
def test_a_row_that_llama_factory_would_drop_or_die_of_is_named(folder: Path, wrong: Any, problem: str) -> None:
    Path("a.mp4").touch()
    assert checks.row_problems([row(), wrong]) == [f"row 2 (id 'a'): {problem}"]


def test_rows_without_an_id_are_named_by_their_number_alone(folder: Path) -> None:
    assert checks.row_problems([{}, "text", None]) == [
        f"row {number}: must have 'messages' and 'videos'" for number in (1, 2, 3)
    ]


def test_no_rows_are_a_problem() -> None:
    assert checks.row_problems([]) == ["there are no rows"]


LOG = """[INFO|trainer.py:1587] 2026-01-01 00:00:00,000 >> ***** Running training *****
[INFO|trainer.py:1588] 2026-01-01 00:00:00,000 >>   Num examples = 1,234
[INFO|trainer.py:1589] 2026-01-01 00:00:00,000 >>   Num Epochs = 27
"""


def trained(
    weights: str = "adapter_model.safetensors", steps: int = 10, losses: tuple[float, ...] = (2.5, 0.5)
) -> Path:
    """The folder that a training of LLaMA-Factory leaves, as far as it is looked at."""
    output = Path("label")
    output.mkdir()
    (output / weights).touch()
    history: list[dict[str, Any]] = [{"loss": loss, "step": i} for i, loss in enumerate(losses)]
    state = {"global_step": steps, "max_steps": 10, "log_history": [*history, {"train_runtime": 3.0}]}
    (output / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    return output


def problems(output: Path, log: str = LOG, rows: int = 1234, kind: str = "lora") -> list[str]:
    return checks.output_problems(output, log, rows, {"max_steps": 10, "finetuning_type": kind}, Launch())


@pytest.mark.parametrize(
    ("weights", "kind"),
    [
        ("adapter_model.safetensors", "lora"),
        ("adapter_model.bin", "lora"),
        ("model.safetensors", "full"),
        ("model-00001-of-00002.safetensors", "full"),
    ],
)
def test_a_training_that_did_what_was_meant_has_no_problem(folder: Path, weights: str, kind: str) -> None:
    assert problems(trained(weights), kind=kind) == []


def test_a_training_that_left_nothing_has_every_problem(folder: Path) -> None:
    assert problems(Path("nowhere"), "Traceback\n") == [
        "there is no adapter_model*.safetensors in nowhere",
        "it made none of 10 optimizer steps",
        "its log does not say on how many rows it trained",
    ]


@pytest.mark.parametrize(("weights", "kind"), [("adapter_model.safetensors", "full"), ("model.safetensors", "lora")])
def test_weights_of_the_other_kind_do_not_count(folder: Path, weights: str, kind: str) -> None:
    wanted = "model" if kind == "full" else "adapter_model"
    assert problems(trained(weights), kind=kind) == [f"there is no {wanted}*.safetensors in label"]


@pytest.mark.parametrize("steps", [0, 9, 11])
def test_another_number_of_steps_is_said(folder: Path, steps: int) -> None:
    assert problems(trained(steps=steps)) == [f"it made {steps} of 10 optimizer steps"]


def test_dropped_rows_are_said(folder: Path) -> None:
    assert problems(trained(), rows=1300) == [
        "it trained on 1,234 of 1300 rows; its log says why it dropped the others"
    ]


def spoken(tokens: int, epoch: float = 2.5, seconds: float = 0.3371, processes: int = 1) -> None:
    """What LLaMA-Factory writes of the tokens of its rows: its extras/misc.py."""
    rate = tokens * epoch / seconds / processes
    said = {"effective_tokens_per_sec": rate, "epoch": epoch, "train_runtime": seconds}
    Path("label/train_results.json").write_text(json.dumps(said), encoding="utf-8")


@pytest.mark.parametrize("processes", [1, 8])
@pytest.mark.parametrize(("made", "epoch", "seconds"), [(656, 2.5, 0.3371), (123_456_789, 1 / 3, 98_765.4321)])
def test_another_number_of_tokens_is_said(
    folder: Path, processes: int, made: int, epoch: float, seconds: float
) -> None:
    output = trained()
    spoken(made, epoch, seconds, processes)
    merged = {"max_steps": 10, "finetuning_type": "lora", "per_device_train_batch_size": 2}
    log = LOG + f"  Total train batch size (w. parallel, distributed & accumulation) = {2 * processes}\n"
    assert checks.output_problems(output, log, 1234, merged, Launch(), made) == []
    for meant in (made - 1, made + 1):
        assert checks.output_problems(output, log, 1234, merged, Launch(), meant) == [
            f"it made {made} tokens of its rows, not {meant} as the evaluation would: it cut some, or its template "
            "writes them otherwise"
        ]
    (output / "train_results.json").unlink()
    (unknown,) = checks.output_problems(output, log, 1234, merged, Launch(), made)
    assert unknown.startswith(f"it made an unknown number of tokens of its rows, not {made} ")


def test_a_resumed_training_that_lost_its_weights_is_said(folder: Path) -> None:
    lost = "[WARNING|trainer.py:3726] >> There were missing keys in the checkpoint model loaded: ['model.visual']\n"
    assert problems(trained(), LOG + lost) == [
        "it resumed from a checkpoint without its weights, which transformers does not find in it"
    ]


def test_the_rows_of_an_evaluation_in_the_same_log_are_not_those_of_training(folder: Path) -> None:
    evaluated = (
        "[INFO|trainer.py:4000] >> ***** Running Evaluation *****\n[INFO|trainer.py:4001] >>   Num examples = 5\n"
    )
    assert problems(trained(), LOG + evaluated) == []


def test_a_training_that_was_to_choose_a_checkpoint_says_which(folder: Path) -> None:
    output, merged = trained(), {"max_steps": 10, "finetuning_type": "lora", "load_best_model_at_end": True}
    assert checks.output_problems(output, LOG, 1234, merged, Launch()) == [
        "it chose no checkpoint, though load_best_model_at_end is set"
    ]
    state = json.loads((output / "trainer_state.json").read_text())
    (output / "trainer_state.json").write_text(json.dumps(state | {"best_model_checkpoint": "out/checkpoint-5"}))
    assert checks.output_problems(output, LOG, 1234, merged, Launch()) == []


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_said(folder: Path, loss: float) -> None:
    assert problems(trained(losses=(2.5, loss, 0.0))) == ["its loss is not a finite number"]


def test_checkpoints_are_removed_and_the_model_beside_them_stays(folder: Path) -> None:
    output = trained()
    for step in (5, 10):
        (output / f"checkpoint-{step}").mkdir()
        (output / f"checkpoint-{step}" / "optimizer.pt").touch()
    checks.remove_checkpoints(output)
    assert sorted(p.name for p in output.iterdir()) == ["adapter_model.safetensors", "trainer_state.json"]
