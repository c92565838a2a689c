"""training: the settings of a stage, and the command line as LLaMA-Factory reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.llamafactory import training
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.spec.recipe import Launch, Training

BASE = Checkpoint("Qwen/base", (), "mine")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stages(written: str | None, overrides: Any = None, own: Any = None) -> Training:
    """A training whose label stage has a recipe of this text."""
    if written is not None:
        Path("stage2.yaml").write_text(written, encoding="utf-8")
    return Training.model_validate(
        {
            "overrides": overrides or {},
            "stages": {"label": {"rows": "label", "recipe": "stage2.yaml", "overrides": own or {}}},
        }
    )


def said(*given: Any) -> str:
    with pytest.raises(RbftError) as raised:
        training.stage_settings(stages(*given), "label")
    return str(raised.value)


def test_overrides_of_a_stage_come_after_those_of_both_and_both_after_the_recipe(folder: Path) -> None:
    given = stages("max_steps: 5\nfinetuning_type: lora\na: 1\nb: 1\nc: 1e-4\n", {"a": 2, "b": 2}, {"b": 3})
    found = training.stage_settings(given, "label")
    path, overrides, merged = found.recipe, found.overrides, found.merged
    assert path == Path("stage2.yaml")
    assert overrides == {"a": 2, "b": 3}
    assert merged == {"max_steps": 5, "finetuning_type": "lora", "a": 2, "b": 3, "c": 0.0001}


def test_all_settings_that_cannot_be_so_are_said_at_once(folder: Path) -> None:
    assert said("num_train_epochs: 3\n", {"seed": 1}, {"output_dir": "x"}) == (
        "stage2.yaml (training.stages.label): 4 problems\n"
        "  - overrides: seed is set by the runner\n"
        "  - overrides: output_dir is set by the runner\n"
        "  - max_steps must be above 0: arms are compared at the same number of steps, never of epochs\n"
        "  - finetuning_type must be lora or full, not None"
    )


@pytest.mark.parametrize("key", sorted(training.OWN_KEYS))
def test_keys_of_the_runner_may_stand_in_a_recipe_but_not_in_overrides(folder: Path, key: str) -> None:
    recipe = f"max_steps: 5\nfinetuning_type: full\n{key}: x\n"
    assert training.stage_settings(stages(recipe), "label").overrides == {}
    assert said(recipe, {key: "y"}).endswith(f": 1 problem\n  - overrides: {key} is set by the runner")


@pytest.mark.parametrize("steps", ["0", "-1", "null", "'5'", "5.5"])
def test_max_steps_is_a_number_above_0(folder: Path, steps: str) -> None:
    assert said(f"max_steps: {steps}\nfinetuning_type: lora\n") == (
        "stage2.yaml (training.stages.label): 1 problem\n"
        "  - max_steps must be above 0: arms are compared at the same number of steps, never of epochs"
    )


VALIDATION = {"eval_dataset": "mine_label_val", "eval_strategy": "steps", "load_best_model_at_end": True}


def test_settings_of_a_validation_while_training(folder: Path) -> None:
    merged = training.stage_settings(stages("max_steps: 5\nfinetuning_type: lora\n", VALIDATION), "label").merged
    assert training.validation_sets(merged) == ["mine_label_val"]
    assert training.validation_sets({"eval_dataset": "a, b"}) == training.validation_sets({"eval_dataset": ["a", "b"]})
    assert training.validation_sets({}) == []
    full = said("max_steps: 5\nfinetuning_type: full\n", VALIDATION)
    assert full.splitlines()[1:] == [
        "  - load_best_model_at_end must not be set: with all weights and without DeepSpeed, transformers does not "
        "find a checkpoint's weights again"
    ]
    for key in ("eval_dataset", "eval_strategy"):
        assert said("max_steps: 5\nfinetuning_type: lora\n", {key: VALIDATION[key]}).splitlines()[1:] == [
            "  - eval_dataset and eval_strategy need each other: the rows to measure the loss on, and when"
        ]


def test_a_kind_of_finetuning_that_leaves_another_model_is_refused(folder: Path) -> None:
    assert said("max_steps: 5\nfinetuning_type: freeze\n").endswith(
        "  - finetuning_type must be lora or full, not freeze"
    )


@pytest.mark.parametrize("key", training.OTHER_EXAMPLES)
def test_settings_that_make_other_examples_of_the_rows_are_refused(folder: Path, key: str) -> None:
    recipe = "max_steps: 5\nfinetuning_type: lora\n"
    assert said(recipe, {key: 0.5}).endswith(
        f": 1 problem\n  - {key} must not be set: a stage trains on exactly its rows"
    )
    assert training.stage_settings(stages(recipe, {key: None}), "label").overrides == {key: None}


def test_a_recipe_that_cannot_be_read_is_named(folder: Path) -> None:
    assert said(None) == "training.stages.label.recipe: stage2.yaml: no such file"
    assert said("") == "stage2.yaml: 1 problem\n  - must be a mapping of keys"
    with pytest.raises(ProblemsError, match="not valid YAML: while parsing"):
        training.stage_settings(stages("a: [1\n"), "label")


keys = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)


# OmegaConf takes ${...} for a reference wherever it stands; control characters and the like are in no recipe
text = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Zl", "Zp"], exclude_characters="$"), max_size=20)


ODD = """
no on Yes y True null ~ ??? nan inf .nan .inf 1e-5 1E5 .5e3 1_000 0x1F 0o7 1:30 2024-01-01
[1 {a #x - @x %x !x &x *x ' " = << . .. ./a /a/b a=b a,b a: Qwen/Qwen2.5-VL-7B ä/日
"""


odd = st.sampled_from([*ODD.split(), "", " ", "a: b", "a #b", "- a", "a\nb", "runs/a b"])


numbers = st.one_of(st.integers(-(10**12), 10**12), st.floats(allow_nan=False, allow_infinity=False))


scalars = st.one_of(st.none(), st.booleans(), numbers, text, odd)


values = st.one_of(scalars, st.lists(scalars, max_size=4), st.dictionaries(keys, scalars, max_size=3))


@given(st.dictionaries(keys, values, max_size=5))
@example({"save_strategy": "no", "learning_rate": 1e-5, "adapter_name_or_path": "a,b", "deepspeed": None})
@example({"a": "null", "b": "", "c": "1e-5", "d": [1, "2", None], "e": "😀"})
@effort(max_examples=150, deadline=None)
def test_llama_factory_reads_back_the_very_values_of_the_command_line(overrides: dict[str, Any]) -> None:
    from omegaconf import OmegaConf

    def typed(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: typed(v) for k, v in value.items()}
        return [typed(v) for v in value] if isinstance(value, list) else (type(value), value)

    argv = training.argv(Path("recipes/stage1.yaml"), overrides)
    assert argv[:3] == ["llamafactory-cli", "train", "recipes/stage1.yaml"]
    assert typed(OmegaConf.to_container(OmegaConf.from_cli(argv[3:]))) == typed(overrides)


def test_plain_values_stay_as_a_person_would_type_them() -> None:
    overrides = {"output_dir": "runs/a/seed-0", "media_dir": ".", "adapters": "a,b", "x": 1e-4, "bf16": True, "y": None}
    assert training.argv(Path("r.yaml"), overrides | {"save_strategy": "no"})[3:] == [
        *("output_dir=runs/a/seed-0", "media_dir=.", "adapters=a,b", "x=0.0001", "bf16=true", "y=null"),
        'save_strategy="no"',
    ]


def test_a_lora_chain_merges_what_is_there_and_trains_a_fresh_adapter() -> None:
    assert training.start_from(BASE, "fresh") == {
        "model_name_or_path": "Qwen/base",
        "adapter_name_or_path": None,
        "create_new_adapter": False,
    }
    first = training.result(BASE, Path("runs/r/rationale"), "lora", "fresh")
    assert first == Checkpoint("Qwen/base", ("runs/r/rationale",), "mine")
    second = training.result(first, Path("runs/r/label"), "lora", "fresh")
    assert second == Checkpoint("Qwen/base", ("runs/r/rationale", "runs/r/label"), "mine")
    assert training.start_from(second, "fresh") == {
        "model_name_or_path": "Qwen/base",
        "adapter_name_or_path": "runs/r/rationale,runs/r/label",
        "create_new_adapter": True,
    }


def test_a_full_chain_starts_from_the_model_before_it() -> None:
    first = training.result(BASE, Path("runs/r/rationale"), "full", "fresh")
    assert first == Checkpoint("runs/r/rationale", (), "mine")
    assert training.start_from(first, "fresh") == {
        "model_name_or_path": "runs/r/rationale",
        "adapter_name_or_path": None,
        "create_new_adapter": False,
    }
    assert training.result(first, Path("runs/r/label"), "lora", "fresh") == Checkpoint(
        "runs/r/rationale", ("runs/r/label",), "mine"
    )


def test_a_lora_chain_may_go_on_with_one_adapter() -> None:
    first = training.result(BASE, Path("runs/r/rationale"), "lora", "continue")
    assert first == Checkpoint("Qwen/base", ("runs/r/rationale",), "mine")
    assert training.start_from(first, "continue") == {
        "model_name_or_path": "Qwen/base",
        "adapter_name_or_path": "runs/r/rationale",
        "create_new_adapter": False,
    }
    second = training.result(first, Path("runs/r/label"), "lora", "continue")
    assert second == Checkpoint("Qwen/base", ("runs/r/label",), "mine")


@pytest.mark.parametrize(
    ("merged", "adapters", "must"),
    [
        ({}, "fresh", False),
        ({"deepspeed": "zero2.json"}, "fresh", False),
        ({"deepspeed": "z3.json"}, "fresh", True),
        ({"quantization_bit": 4}, "fresh", True),
        ({"use_unsloth": True}, "fresh", True),
        ({"deepspeed": "z3.json"}, "continue", False),
        ({"quantization_bit": 4}, "continue", False),
        ({"finetuning_type": "full"}, "fresh", True),
        ({"finetuning_type": "full"}, "continue", True),
    ],
)
def test_where_a_stage_cannot_start_from_adapters_the_model_has_to_be_merged(
    folder: Path, merged: dict[str, Any], adapters: str, must: bool
) -> None:
    Path("zero2.json").write_text('{"zero_optimization": {"stage": 2}}')
    Path("z3.json").write_text('{"zero_optimization": {"stage": 3}}')
    merged = {"finetuning_type": "lora"} | merged
    assert training.must_merge(Checkpoint("Qwen/base", ("a",), "mine"), merged, adapters) is must
    assert training.must_merge(BASE, merged, adapters) is False


@pytest.mark.parametrize(
    ("merged", "dtype"), [({"bf16": True}, "bfloat16"), ({"pure_bf16": True}, "bfloat16"), ({}, "float32")]
)
def test_an_export_merges_adapters_in_their_order_in_the_precision_of_training(
    merged: dict[str, Any], dtype: str
) -> None:
    model = Checkpoint("Qwen/base", ("a", "b"), "mine")
    assert training.export_argv(model, Path("out"), {"template": "qwen2_vl"} | merged) == [
        *("llamafactory-cli", "export", "--model_name_or_path", "Qwen/base", "--adapter_name_or_path", "a,b"),
        *("--template", "qwen2_vl", "--trust_remote_code", "false", "--infer_dtype", dtype, "--export_dir", "out"),
    ]


@pytest.mark.parametrize(
    ("launch", "merged", "environment"),
    [
        ({}, {}, {}),
        ({}, {"deepspeed": "zero2.json"}, {"FORCE_TORCHRUN": 1}),
        ({"processes": 4}, {}, {"FORCE_TORCHRUN": 1, "NPROC_PER_NODE": 4}),
        (
            {"processes": 8, "nodes": 2, "master_addr": "10.0.0.1", "master_port": 1234},
            {},
            {
                **{"FORCE_TORCHRUN": 1, "NPROC_PER_NODE": 8, "NNODES": 2},
                **{"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": 1234},
            },
        ),
    ],
)
def test_what_makes_llamafactory_start_torchrun(
    launch: dict[str, Any], merged: dict[str, Any], environment: dict[str, Any]
) -> None:
    assert training.environment(Launch.model_validate(launch), merged) == environment


def test_what_a_stage_starts_from_and_makes_are_keys_of_the_runner() -> None:
    assert set(training.start_from(BASE, "fresh")) <= training.OWN_KEYS


@pytest.mark.parametrize(
    ("merged", "can"),
    [
        ({"finetuning_type": "lora"}, True),
        ({"finetuning_type": "full"}, False),
        ({"finetuning_type": "full", "deepspeed": "recipes/deepspeed/zero2.json"}, True),
    ],
)
def test_which_trainings_go_on_from_a_checkpoint(merged: dict[str, Any], can: bool) -> None:
    assert training.resumable(merged) is can
