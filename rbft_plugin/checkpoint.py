"""What a trained model consists of: a base and the LoRA adapters that go on top of it, in order."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from rbft_plugin import files
from rbft_plugin.errors import RbftError

NOTE = "rbft.json"  # written beside a model that `rbft run` trained


@dataclass(frozen=True)
class Checkpoint:
    """A base (hub name or folder) and adapter folders. `dataset` is None where nothing says what it was trained on."""

    base: str
    adapters: tuple[str, ...] = ()
    dataset: str | None = None

    def model_args(self) -> str:
        """As lmms-eval's --model_args takes it for rbft_vl."""
        return f"pretrained={self.base}" + (f",adapters={':'.join(self.adapters)}" if self.adapters else "")


def adapter_list(adapters: str) -> list[str]:
    """Folders of a ':'-joined list; raises RbftError naming those that hold no adapter."""
    folders = [a for a in str(adapters).split(":") if a]
    lost = [f for f in folders if not (Path(f) / "adapter_config.json").is_file()]
    if lost:
        raise RbftError(f"adapters: no adapter_config.json in {', '.join(lost)}")
    return folders


def read(checkpoint: str) -> Checkpoint:
    """A model by its folder: one of `rbft run`, a full model or an adapter; further adapters in order after ':'."""
    path, _, more = checkpoint.partition(":")
    first = Path(path)
    if not first.is_dir():
        raise RbftError(f"{path}: no such folder")
    if (first / NOTE).is_file() and not more:
        note = files.read_json(first / NOTE)
        return Checkpoint(note["base"], tuple(note["adapters"]), note["dataset"])
    if (first / "config.json").is_file():
        return Checkpoint(str(first), tuple(adapter_list(more)))
    if (first / "adapter_config.json").is_file():
        base = json.loads((first / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
        return Checkpoint(base, tuple(adapter_list(checkpoint)))
    raise RbftError(f"{path}: neither a model (config.json) nor an adapter (adapter_config.json)")


def write_note(folder: Path, checkpoint: Checkpoint) -> None:
    files.write_json(folder / NOTE, asdict(checkpoint))


def fingerprint(model: str) -> str:
    """What identifies a model's content: for a folder, its files' names and sizes, and both ends of each file.

    Whole files would be gigabytes to read at every start; a retrained model differs in its weights' first and last
    tensors. For a hub name, the name.
    """
    if not Path(model).is_dir():
        return f"hub:{model}"
    digest = hashlib.sha256()
    for file in sorted(p for p in Path(model).iterdir() if p.is_file() and p.name != NOTE):
        size, end = file.stat().st_size, 1 << 20
        digest.update(f"{file.name}:{size}:".encode())
        with file.open("rb") as content:
            digest.update(content.read(end))
            if size > end:
                content.seek(-min(end, size - end), os.SEEK_END)
                digest.update(content.read(end))
    return digest.hexdigest()[:16]
