"""A trained model: a base and the LoRA adapters that go on top of it, in order."""

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

NOTE = "rbft.json"  # `rbft run` writes it beside a model that it trained
REMOVED = "removed.json"  # in the folder of a model whose weights were removed: what its fingerprint was
# The files beside the weights in a model's folder, as any version of transformers writes them.
FILES = (
    *("config.json", "generation_config.json", "chat_template.jinja", "chat_template.json"),
    *("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model"),
)


@dataclass(frozen=True)
class Checkpoint:
    """A base (hub name or folder) and adapter folders. `dataset`, if known, is what it was trained on."""

    base: str
    adapters: tuple[str, ...] = ()
    dataset: str | None = None

    def model_args(self) -> str:
        """The value of lmms-eval's --model_args for the model rbft_vl."""
        return f"pretrained={self.base}" + (f",adapters={':'.join(self.adapters)}" if self.adapters else "")

    def fingerprint(self) -> str:
        """Identifies the content of base and adapters in order. Without its prefix lmms-eval reads 12e4 as a number."""
        parts = "\n".join(fingerprint(model) for model in (self.base, *self.adapters))
        return f"sha256-{hashlib.sha256(parts.encode()).hexdigest()[:16]}"


def adapter_list(adapters: str) -> list[str]:
    """Folders of a ':'-joined list. Raises RbftError that names those that hold no adapter."""
    folders = [folder for folder in str(adapters).split(":") if folder]
    missing = [folder for folder in folders if not (Path(folder) / "adapter_config.json").is_file()]
    if missing:
        raise RbftError(f"adapters: no adapter_config.json in {', '.join(missing)}")
    return folders


def read(checkpoint: str) -> Checkpoint:
    """A model by its folder: one that `rbft run` made, a full model or an adapter. Further adapters follow after ':'.

    Raises RbftError for a folder that is missing or holds none of these.
    """
    path, _, further_adapters = checkpoint.partition(":")
    folder = Path(path)
    if not folder.is_dir():
        raise RbftError(f"{path}: no such folder")
    if (folder / NOTE).is_file() and not further_adapters:
        note = files.read_json(folder / NOTE)
        return Checkpoint(note["base"], tuple(note["adapters"]), note["dataset"])
    if (folder / "config.json").is_file():
        return Checkpoint(str(folder), tuple(adapter_list(further_adapters)))
    if (folder / "adapter_config.json").is_file():
        base = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
        return Checkpoint(base, tuple(adapter_list(checkpoint)))
    raise RbftError(f"{path}: neither a model (config.json) nor an adapter (adapter_config.json)")


def local_folder(model: str) -> Path:
    """The folder of a model, or a download of its files from the hub without weights (a few MB).

    Raises OSError or ValueError if there is neither.
    """
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model, allow_patterns=["*.json", "*.jinja", "*.txt", "*.model"]))


def keep_files(output: Path, base: str) -> None:
    """Give a full model its base's own files, all but the weights and their precision.

    Training changes weights alone. But transformers 5 writes configuration, tokenizer and processor in its own form,
    which version 4 (and a vLLM on top of it) cannot read, and LLaMA-Factory may change the generation settings. The
    written files stay if the base cannot be read here: the harness may know other caches or mirrors.
    """
    try:
        source = local_folder(base)
        config, written = (json.loads((f / "config.json").read_text(encoding="utf-8")) for f in (source, output))
    except (OSError, ValueError):
        return
    for name in FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, output / name)
        elif name != "generation_config.json":
            (output / name).unlink(missing_ok=True)  # transformers would read it in place of the base's
    files.write_json(output / "config.json", _in_precision(config, written.get("dtype")))


def _in_precision(config: dict[str, Any], dtype: str | None) -> dict[str, Any]:
    """A configuration with another precision of the weights, in its parts too. None changes nothing."""
    keys = {"dtype", "torch_dtype"} & set(config)
    parts = {k: _in_precision(v, dtype) for k, v in config.items() if isinstance(v, dict)}
    return config | parts | (dict.fromkeys(keys, dtype) if dtype else {})


def write_note(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the note from which `read` reads the checkpoint in a folder."""
    files.write_json(folder / NOTE, asdict(checkpoint))


def remove_weights(folder: Path) -> None:
    """Delete the weights of a model's folder. Its fingerprint stays what it was."""
    files.write_json(folder / REMOVED, {"fingerprint": fingerprint(str(folder))})
    for pattern in ("*.safetensors", "*.bin"):
        for path in folder.glob(pattern):
            path.unlink()


def removed(model: str) -> bool:
    """Whether `remove_weights` deleted this model's weights."""
    return (Path(model) / REMOVED).is_file()


def fingerprint(model: str) -> str:
    """Identifies a model's content: a hash of the names and content of a folder's files, or else the hub name.

    A folder whose weights were removed has the fingerprint that it had with them. Files are read as a whole, because
    training may leave both ends of a file as they were (frozen embeddings come first, a frozen vision tower last). A
    process reads a file again only when it has changed.
    """
    if not Path(model).is_dir():
        return f"hub:{model}"
    if removed(model):
        return str(files.read_json(Path(model) / REMOVED)["fingerprint"])
    paths = sorted(p for p in Path(model).iterdir() if p.is_file() and p.name != NOTE)
    with ThreadPoolExecutor(8) as pool:  # hashing releases the GIL
        hashes = list(pool.map(files.cached_sha256, paths))
    listed = "".join(f"{path.name}:{sha256}\n" for path, sha256 in zip(paths, hashes, strict=True))
    return hashlib.sha256(listed.encode()).hexdigest()[:16]
