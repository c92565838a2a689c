"""checkpoint: what a folder says that it is, and what tells two models apart."""

from __future__ import annotations

import hashlib
import json
import os
import re
from itertools import product
from pathlib import Path

import pytest

from rbft_plugin.errors import RbftError
from rbft_plugin.model import checkpoint
from rbft_plugin.model.checkpoint import Checkpoint


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def adapter(name: str, base: str = "Qwen/base") -> Path:
    Path(name).mkdir()
    Path(name, "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}), encoding="utf-8")
    return Path(name)


def model(name: str) -> Path:
    Path(name).mkdir()
    Path(name, "config.json").write_text("{}", encoding="utf-8")
    return Path(name)


def refusal(folders: str) -> str:
    with pytest.raises(RbftError) as raised:
        checkpoint.read(folders)
    return str(raised.value)


def test_model_args_name_adapters_in_order() -> None:
    assert Checkpoint("Qwen/base").model_args() == "pretrained=Qwen/base"
    assert Checkpoint("Qwen/base", ("a", "b")).model_args() == "pretrained=Qwen/base,adapters=a:b"


def test_a_folder_of_a_run_is_what_its_note_says() -> None:
    noted = Checkpoint("Qwen/base", ("runs/r/stage1", "runs/r/stage2"), "mine")
    checkpoint.write_note(adapter("stage2"), noted)
    assert checkpoint.read("stage2") == noted


def test_a_full_model_and_an_adapter_are_told_by_their_files() -> None:
    model("full")
    adapter("one")
    assert checkpoint.read("full") == Checkpoint("full")
    assert checkpoint.read("one") == Checkpoint("Qwen/base", ("one",))


def test_adapters_in_order_begin_at_the_base_of_the_first() -> None:
    adapter("one", "first/base")
    adapter("two", "other/base")
    assert checkpoint.read("one:two") == Checkpoint("first/base", ("one", "two"))


def test_adapters_after_a_folder_of_a_run_or_a_model_are_not_lost() -> None:
    checkpoint.write_note(adapter("one"), Checkpoint("Qwen/base", ("one",), "mine"))
    adapter("two")
    model("full")
    assert checkpoint.read("one:two") == Checkpoint("Qwen/base", ("one", "two"))
    assert checkpoint.read("full:one:two") == Checkpoint("full", ("one", "two"))


def test_what_is_no_model_is_said() -> None:
    adapter("one")
    Path("empty").mkdir()
    assert refusal("nowhere") == "nowhere: no such folder"
    assert refusal("nowhere:one") == "nowhere: no such folder"
    assert refusal("empty") == "empty: neither a model (config.json) nor an adapter (adapter_config.json)"
    assert refusal("one:empty:lost") == "adapters: no adapter_config.json in empty, lost"


def test_an_adapter_list_may_be_empty() -> None:
    adapter("one")
    assert checkpoint.adapter_list("") == []
    assert checkpoint.adapter_list("one:") == ["one"]


def test_a_fingerprint_is_of_content_and_not_of_the_place_or_the_note() -> None:
    model("full")
    before = checkpoint.fingerprint("full")
    assert len(before) == 16 and int(before, 16)
    checkpoint.write_note(Path("full"), Checkpoint("full"))
    assert checkpoint.fingerprint("full") == before
    Path("full").rename("moved")
    assert checkpoint.fingerprint("moved") == before
    Path("moved/config.json").write_text("[]", encoding="utf-8")
    assert checkpoint.fingerprint("moved") != before


SIZES = (10, (1 << 20) + 10, (3 << 20) + 10)


@pytest.mark.parametrize(
    ("size", "at"), [*product(SIZES, (0, -1)), (SIZES[1], 1 << 20), (SIZES[2], (1 << 20) - 1), (SIZES[2], -(1 << 20))]
)
def test_a_fingerprint_sees_both_ends_of_a_file_of_any_size(size: int, at: int) -> None:
    weights = model("full") / "model.safetensors"
    content = bytearray(size)
    weights.write_bytes(content)
    before = checkpoint.fingerprint("full")
    content[at] = 1
    weights.write_bytes(content)
    assert checkpoint.fingerprint("full") != before


def test_a_fingerprint_sees_sizes_and_names() -> None:
    model("full")
    Path("full/a").write_bytes(bytes(5 << 20))
    known = {checkpoint.fingerprint("full")}
    Path("full/a").write_bytes(bytes((5 << 20) + 1))
    known.add(checkpoint.fingerprint("full"))
    Path("full/a").rename("full/b")
    known.add(checkpoint.fingerprint("full"))
    assert len(known) == 3


def test_a_hub_models_fingerprint_is_its_name() -> None:
    assert checkpoint.fingerprint("Qwen/base") == "hub:Qwen/base"


def test_a_fingerprint_sees_the_middle_of_a_file() -> None:
    """Where both ends are frozen: embeddings first, a vision tower last."""
    weights = model("full") / "model.safetensors"
    content = bytearray(7 << 20)
    weights.write_bytes(content)
    before = checkpoint.fingerprint("full")
    content[3 << 20] = 1
    weights.write_bytes(content)
    assert checkpoint.fingerprint("full") != before


def test_a_file_is_read_once_for_as_long_as_it_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = model("full") / "model.safetensors"
    weights.write_bytes(b"1" * 100)
    for file in Path("full").iterdir():
        os.utime(file, ns=(10**18, 10**18))
    before = checkpoint.fingerprint("full")
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", None)
        assert checkpoint.fingerprint("full") == before
    weights.write_bytes(b"2" * 100)
    assert checkpoint.fingerprint("full") != before


def test_a_checkpoints_fingerprint_is_of_base_and_adapters_in_order() -> None:
    for name in ("a", "b"):
        (adapter(name) / "adapter_model.safetensors").write_text(name)
    model("full")
    prints = [Checkpoint("full", adapters).fingerprint() for adapters in ((), ("a",), ("b",), ("a", "b"), ("b", "a"))]
    assert len(set(prints)) == 5
    assert all(re.fullmatch(r"sha256-[0-9a-f]{16}", p) for p in prints)
    Path("a").rename("c")
    assert Checkpoint("full", ("c", "b")).fingerprint() == prints[3]


# --- the base's own files ---


def written(folder: str, files: dict[str, object]) -> Path:
    Path(folder).mkdir()
    for name, content in files.items():
        Path(folder, name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return Path(folder)


BASE_FILES = {  # as transformers 4 wrote them
    "config.json": {"torch_dtype": "bfloat16", "rope_scaling": {"type": "mrope"}, "text_config": {"dtype": "bfloat16"}},
    "generation_config.json": '{"temperature": 0.1}',
    "preprocessor_config.json": "base",
    "chat_template.json": "base",
    "tokenizer.json": "base",
    "tokenizer_config.json": '{"tokenizer_class": "Qwen2Tokenizer"}',
    "vocab.json": "base",
    "model.safetensors.index.json": "base",
    "rbft.json": "base",
    "README.md": "base",
}
MADE_FILES = {  # as transformers 5 does
    "config.json": {"dtype": "float32", "rope_parameters": {}},
    "generation_config.json": '{"temperature": 0.1, "do_sample": true}',
    "processor_config.json": "made",
    "chat_template.jinja": "made",
    "tokenizer.json": "made",
    "tokenizer_config.json": '{"tokenizer_class": "TokenizersBackend"}',
    "model.safetensors.index.json": "made",
    "Modelfile": "made",
}


def test_a_full_model_has_its_bases_files_and_its_own_weights_and_precision() -> None:
    base, trained = written("base", BASE_FILES), written("made", MADE_FILES)
    checkpoint.keep_files(trained, "base")
    contents = {p.name: p.read_text(encoding="utf-8") for p in trained.iterdir()}
    assert json.loads(contents.pop("config.json")) == {
        "torch_dtype": "float32", "rope_scaling": {"type": "mrope"}, "text_config": {"dtype": "float32"},
    }  # fmt: skip
    kept = ("generation_config", "preprocessor_config", "chat_template", "tokenizer", "tokenizer_config", "vocab")
    assert contents == {f"{name}.json": (base / f"{name}.json").read_text() for name in kept} | {
        "model.safetensors.index.json": "made", "Modelfile": "made",
    }  # fmt: skip


def test_generation_settings_stay_where_the_base_has_none() -> None:
    written("base", {k: v for k, v in BASE_FILES.items() if k != "generation_config.json"})
    trained = written("made", MADE_FILES)
    checkpoint.keep_files(trained, "base")
    assert (trained / "generation_config.json").read_text() == MADE_FILES["generation_config.json"]


def test_files_stay_where_the_base_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    trained = written("made", MADE_FILES)
    before = {p.name: p.read_bytes() for p in trained.iterdir()}
    Path("empty").mkdir()
    for base in ("no/such-model", "empty", "a name that is none"):
        checkpoint.keep_files(trained, base)
    checkpoint.keep_files(Path("empty"), "made")
    assert {p.name: p.read_bytes() for p in trained.iterdir()} == before and not list(Path("empty").iterdir())


def test_the_files_of_a_model_on_the_hub_are_its_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []
    base = written("base", BASE_FILES)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: asked.append((a, k)) or str(base))
    assert checkpoint.local_folder("Qwen/base") == base
    assert asked == [(("Qwen/base",), {"allow_patterns": ["*.json", "*.jinja", "*.txt", "*.model"]})]
    assert checkpoint.local_folder("base") == Path("base") and len(asked) == 1
