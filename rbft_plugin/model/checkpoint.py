"""What a trained model consists of: a base and the LoRA adapters that go on top of it, in order."""

from __future__ import annotations

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rbft_plugin import files
from rbft_plugin.errors import RbftError

NOTE = "rbft.json"  # written beside a model that `rbft run` trained
# What a model's folder holds beside weights, of every generation of transformers.
FILES = (
    *("config.json", "generation_config.json", "chat_template.jinja", "chat_template.json"),
    *("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model"),
)


@dataclass(frozen=True)
class Checkpoint:
    """A base (hub name or folder) and adapter folders. `dataset` is None where nothing says what it was trained on."""

    base: str
    adapters: tuple[str, ...] = ()
    dataset: str | None = None

    def model_args(self) -> str:
        """As lmms-eval's --model_args takes it for rbft_vl."""
        return f"pretrained={self.base}" + (f",adapters={':'.join(self.adapters)}" if self.adapters else "")

    def fingerprint(self) -> str:
        """Of base and adapters in their order. Never a number: lmms-eval would read 12e4 as 120000.0."""
        parts = "\n".join(fingerprint(model) for model in (self.base, *self.adapters))
        return f"sha256-{hashlib.sha256(parts.encode()).hexdigest()[:16]}"


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


def local(model: str) -> Path:
    """The folder that has a model's files, never its weights if it is on the hub (a few MB); OSError or ValueError."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model, allow_patterns=["*.json", "*.jinja", "*.txt", "*.model"]))


def keep_files(output: Path, base: str) -> None:
    """Give a full model its base's own files, all but the weights and their precision.

    Training changes weights alone, but transformers 5 writes configuration, tokenizer and processor in its own form,
    which version 4 (and a vLLM on top of it) cannot read, and LLaMA-Factory may change the generation settings. If the
    base cannot be had here (the harness may know other caches or mirrors), those stay.
    """
    try:
        source = local(base)
        config, written = (json.loads((f / "config.json").read_text(encoding="utf-8")) for f in (source, output))
    except (OSError, ValueError):
        return
    for name in FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, output / name)
        elif name != "generation_config.json":
            (output / name).unlink(missing_ok=True)  # it would be read in place of the base's
    files.write_json(output / "config.json", _in_precision(config, written.get("dtype")))


def _in_precision(config: dict[str, Any], dtype: str | None) -> dict[str, Any]:
    """A configuration whose weights are of another precision, as are those of its parts."""
    named = {"dtype", "torch_dtype"} & set(config)
    parts = {k: _in_precision(v, dtype) for k, v in config.items() if isinstance(v, dict)}
    return config | parts | (dict.fromkeys(named, dtype) if dtype else {})


def write_note(folder: Path, checkpoint: Checkpoint) -> None:
    files.write_json(folder / NOTE, asdict(checkpoint))


def fingerprint(model: str) -> str:
    """What identifies a model's content: for a folder, the names and whole content of its files; for a hub name, it.

    Whole: training may leave both ends of a file as they were (frozen embeddings first, a frozen vision tower last).
    Reads about as fast as the disk does, once a process for a file that stays as it is.
    """
    if not Path(model).is_dir():
        return f"hub:{model}"
    found = sorted(p for p in Path(model).iterdir() if p.is_file() and p.name != NOTE)
    with ThreadPoolExecutor(8) as pool:  # hashing leaves Python's lock
        hashes = list(pool.map(files.cached_sha256, found))
    listed = "".join(f"{file.name}:{content}\n" for file, content in zip(found, hashes, strict=True))
    return hashlib.sha256(listed.encode()).hexdigest()[:16]
