"""What can be loaded, what is refused, and adapters against the merged export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import BASE, write_clips

from rbft_plugin.errors import RbftError
from rbft_plugin.model.inputs import batch_inputs
from rbft_plugin.model.load import load_model

pytestmark = pytest.mark.torch

PROMPT = "Describe what happens in the video."


def refused(*arguments: Any, **named: Any) -> str:
    with pytest.raises(RbftError) as error:
        load_model(*arguments, **{"device": "cpu"} | named)
    return str(error.value)


def adapter(model: Any, folder: Path, seed: int, **changes: Any) -> str:
    """A LoRA adapter with weights that change what the model says."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    settings = {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"], "init_lora_weights": False} | changes
    adapted = get_peft_model(model, LoraConfig(**settings))
    adapted.save_pretrained(folder)
    adapted.unload()
    return str(folder)


def test_adapters_answer_as_the_merged_export(tmp_path: Path) -> None:
    """Bit for bit, after each stage; and as the second adapter does beside the weights, as it was trained."""
    from peft import PeftModel

    base, processor = load_model(str(BASE), device="cpu")
    first, second = adapter(base, tmp_path / "first", 1), adapter(base, tmp_path / "second", 2)
    inputs = batch_inputs(processor, write_clips(tmp_path, [8, 4, 6]), [PROMPT] * 3)
    real = inputs["attention_mask"].bool()

    @torch.no_grad()
    def logits(model: Any) -> torch.Tensor:
        return model(**inputs).logits[real]

    def exported(start: str, lora: str, name: str) -> str:
        merged = PeftModel.from_pretrained(load_model(start, device="cpu")[0], lora).merge_and_unload()
        merged.save_pretrained(tmp_path / name)
        processor.save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    stage1 = exported(str(BASE), first, "stage1")
    stage2 = exported(stage1, second, "stage2")
    both = logits(load_model(str(BASE), [first, second], device="cpu")[0])
    assert torch.equal(both, logits(load_model(stage2, device="cpu")[0]))
    assert torch.equal(both, logits(load_model(stage1, [second], device="cpu")[0]))
    beside = logits(PeftModel.from_pretrained(load_model(stage1, device="cpu")[0], second))
    torch.testing.assert_close(both, beside, rtol=1e-4, atol=1e-4)
    assert (both - logits(base)).abs().max() > 1
    assert (both - logits(load_model(str(BASE), [second], device="cpu")[0])).abs().max() > 1


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base, _ = load_model(str(BASE), device="cpu")
    own = adapter(base, tmp_path / "own", 1)

    renamed = Path(shutil.copytree(own, tmp_path / "renamed"))
    weights = load_file(renamed / "adapter_model.safetensors")
    save_file(
        {k.replace("layers.0.", "layers.9."): v for k, v in weights.items()}, renamed / "adapter_model.safetensors"
    )
    names = ["base_model.model.model.language_model.layers.{}.mlp.down_proj.lora_" + x + ".weight" for x in "AB"]
    assert refused(str(BASE), [str(renamed)]).splitlines() == [
        f"{renamed}: this adapter was trained on another model: 2 problems",
        f"  - the model has no place for {names[0].format(9)}, {names[1].format(9)} and 4 more",
        f"  - it has nothing for {names[0].format(0)}, {names[1].format(0)} and 4 more",
    ]

    config = json.loads(Path(own, "adapter_config.json").read_text())
    foreign = Path(shutil.copytree(own, tmp_path / "foreign"))
    (foreign / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["query"]}))
    assert refused(str(BASE), [str(foreign)]).startswith(
        f"{foreign}: this adapter does not fit the model (Target modules {{'query'}} not found"
    )

    larger = Path(shutil.copytree(own, tmp_path / "larger"))
    save_file({k: torch.cat([v, v], 1) for k, v in weights.items()}, larger / "adapter_model.safetensors")
    assert refused(str(BASE), [str(larger)]).startswith(f"{larger}: this adapter does not fit the model (Error(s) in")


def test_what_cannot_be_loaded_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert refused("runs/none/label").startswith(
        "runs/none/label: no such folder, and the hub gives no model of that name ("
    )
    (tmp_path / "empty").mkdir()
    assert refused(str(tmp_path / "empty")).startswith(f"{tmp_path}/empty: holds no model with a processor (")

    cut = Path(shutil.copytree(BASE, tmp_path / "cut"))
    (cut / "model.safetensors").unlink()
    assert refused(str(cut)).startswith(f"{cut}: cannot be loaded (Error no file named")

    from transformers import AutoProcessor, AutoTokenizer, Qwen2Config

    tokenizer = AutoTokenizer.from_pretrained(BASE)
    with monkeypatch.context() as patch:
        patch.setattr(AutoProcessor, "from_pretrained", lambda *_, **__: tokenizer)  # as of a model of text alone
        assert refused(str(BASE)) == f"{BASE}: its processor takes no video"
        shutil.copytree(BASE, tmp_path / "text")
        Qwen2Config(hidden_size=8, num_hidden_layers=1).save_pretrained(tmp_path / "text")
        patch.setattr(tokenizer, "video_processor", "some", raising=False)
        assert refused(str(tmp_path / "text")).startswith(f"{tmp_path}/text: cannot be loaded (Unrecognized config")
    assert refused(str(BASE), attn="fast").startswith(
        f'{BASE}: cannot be loaded (Specified `attn_implementation="fast"`'
    )


def test_where_and_how_it_is_loaded() -> None:
    model, _ = load_model(str(BASE), device_map="cpu", dtype="bfloat16", attn="eager")
    assert (str(model.device), model.dtype, model.config._attn_implementation) == ("cpu", torch.bfloat16, "eager")
    assert not model.training
    assert load_model(str(BASE), device="cpu")[0].dtype == torch.float32  # as the checkpoint says
