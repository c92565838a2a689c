"""What users install."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_holds_all_that_init_lays_out_and_the_demo_needs(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    for folder in ("dataset_info", "recipes", "task_configs"):
        tracked = _tracked(folder)
        assert tracked and {f"rbft_plugin/workspace/{name}" for name in tracked} <= names
    assert set(_tracked("rbft_plugin")) <= names
    assert "rbft_plugin/demo/base/model.safetensors" in names
    assert sum(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).getinfo(n).file_size for n in names) < 12e6


def test_the_lock_has_every_pinned_version_with_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text()
    pinned = [d for d in project["dependencies"] if "==" in d]
    assert len(pinned) == 13
    for pin in pinned:
        assert re.search(rf"^{re.escape(pin)} ;.*\\\n +--hash=sha256:", lock, re.MULTILINE), pin
    assert not re.search(r"https?://|--index|--find-links", lock)  # no registry's address


def _tracked(folder: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", folder], cwd=ROOT, check=True, capture_output=True, text=True)
    return listed.stdout.split()
