"""Trainings on two processes, under ZeRO-2, and killed and resumed, against one undisturbed process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from builders import QUIET, prepare, small_dataset
from families import build

from rbft_plugin.check import model_fit as fit
from rbft_plugin.data.prepared import read_training_rows
from rbft_plugin.llamafactory import checks, training
from rbft_plugin.run import subprocesses as processes
from rbft_plugin.spec.dataset import load
from rbft_plugin.spec.recipe import Launch
from rbft_plugin.spec.yaml_models import read_yaml

pytestmark = pytest.mark.e2e

RECIPE = Path("recipes/stage1.yaml")
KEYS = {
    **{"dataset": "mine_label", "model_name_or_path": "model", "bf16": False, "use_cpu": True, "plot_loss": False},
    **{"max_steps": 10, "warmup_steps": 0, "learning_rate": 2e-3, "logging_steps": 1, "save_steps": 2},
    **{"preprocessing_num_workers": 1, "dataloader_num_workers": 0, "include_effective_tokens_per_second": True},
}


@pytest.fixture
def data(ws: Path) -> Path:
    small_dataset("mine", {"train": 16, "test": 2})
    prepare(load("mine"), QUIET)
    build("qwen2_5_vl", Path("model"))
    return ws


def accumulated(launch: Launch) -> dict[str, int]:
    """As many rows at a time in every case: the loss is a mean over these first, whose answers differ in length."""
    return {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2 // (launch.processes or 1)}


def argv(name: str, launch: Launch, **keys: object) -> list[str]:
    """Stage 1 with LoRA on `launch`, two rows a device and four a step however many processes there are."""
    given = KEYS | {"output_dir": f"runs/{name}"} | accumulated(launch) | keys
    given |= {"ddp_backend": "gloo"} if launch.processes else {}
    merged = read_yaml(RECIPE) | given
    env = {"OMP_NUM_THREADS": 1} | training.environment(launch, merged)
    return ["env", *(f"{k}={v}" for k, v in env.items()), *training.argv(RECIPE, given)]


def finished(name: str, command: list[str], launch: Launch) -> list[float]:
    """The losses of the steps, after what the runner would check."""
    log = Path(f"{name}.log")
    merged = read_yaml(RECIPE) | KEYS | accumulated(launch)
    assert processes.run(command, log, lambda line: None, processes.Processes()) == 0, log.read_text()[-3000:]
    output = Path("runs") / name
    tokens = fit.run_tokens("model", read_training_rows(Path("data/mine/label.jsonl")))
    assert checks.output_problems(output, log.read_text(), 16, merged, launch, tokens) == []
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def killed_after_a_checkpoint(command: list[str]) -> bool:
    """Kill a training between its checkpoint and its end; False, and nothing left, if it was done before."""
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with Path("killed.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    output, deadline = Path("runs/killed"), time.time() + 300
    saved = output / "checkpoint-2/trainer_state.json"  # the last file of a checkpoint
    while not saved.is_file() and process.poll() is None and time.time() < deadline:
        time.sleep(0.002)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if saved.is_file() and not (output / "adapter_model.safetensors").is_file():
        return True
    shutil.rmtree(output, ignore_errors=True)
    return False


def test_two_processes_zero_2_and_a_resumed_training_end_where_one_process_does(data: Path) -> None:
    one = finished("one", argv("one", Launch(), deepspeed=None), Launch())
    assert len(one) == 10 and one[-1] < one[0] - 0.1
    two = Launch(processes=2)
    assert finished("two", argv("two", two, deepspeed=None), two) == pytest.approx(one, abs=2e-4)
    zero2 = argv("zero2", two, deepspeed="recipes/deepspeed/zero2.json")
    assert finished("zero2", zero2, two) == pytest.approx(one, abs=2e-4)

    command = argv("killed", Launch(), deepspeed=None)
    assert any(killed_after_a_checkpoint(command) for _ in range(3)), Path("killed.log").read_text()[-3000:]
    resumed = finished("killed", command, Launch())
    assert resumed == pytest.approx(one, abs=2e-4)
