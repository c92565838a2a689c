"""Fixtures that the tests share: a workspace, and one with a tiny base model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from builders import BASE, small_dataset
from hypothesis import settings

from rbft_plugin import workspace

# The same examples every time: a check that fails can be repeated. `--hypothesis-profile=default` looks for new ones.
settings.register_profile("rbft", derandomize=True)
settings.load_profile("rbft")


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh workspace, and the current folder."""
    workspace.init(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny(ws: Path) -> Path:
    """A workspace with the tiny base model in base/, and the small dataset `mine`."""
    shutil.copytree(BASE, "base")
    prompts = {"rationale": "Describe the video.", "label": "Which is it, {names}?"}
    small_dataset(prompts=prompts)
    return ws
