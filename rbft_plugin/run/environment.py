"""The versions of packages, the machine and the state of the code that steps run with."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("rbft", "llamafactory", "lmms-eval", "torch", "transformers", "peft", "deepspeed", "decord", "av")


def versions() -> dict[str, str]:
    """Installed versions of what results depend on, and of Python."""
    return {"python": sys.version.split()[0]} | {p: version(p) for p in PACKAGES}


@cache
def hardware() -> dict[str, str]:
    """This machine's parts, in words."""
    return {"system": platform.platform(), "processor": _processor(), "memory": _memory(), "GPUs": _gpus()}


def git_state(folder: Path) -> str | None:
    """The commit that a folder is at, and how many files differ from it; None outside a git repository."""
    commit = _output("git", "-C", str(folder), "rev-parse", "HEAD")
    if not commit:
        return None
    changed = _output("git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no") or ""
    count = len(changed.splitlines())
    return f"{commit}, {f'changed files: {count}' if count else 'no changes'}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores"


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError):
        return "unknown"


def _gpus() -> str:
    lines = _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    return "; ".join(line.strip() for line in lines.splitlines()) if lines else "none found (by nvidia-smi)"


def _output(*argv: str) -> str | None:
    """What a command prints; None if it is not there or fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
