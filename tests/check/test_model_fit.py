"""fit: every setting under which a harness would cut, resize or thin out is refused, with what it must be."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from builders import BASE, prepared_sample, write_video
from families import MULTIPLES, TEMPLATES, build

from rbft_plugin.check import model_fit as fit
from rbft_plugin.check.model_fit import TrainingExample
from rbft_plugin.clips.canonical import make_clip, write_clip
from rbft_plugin.clips.video import Clip, Part, probe
from rbft_plugin.data.prepared import write_training_rows
from rbft_plugin.errors import Finding, RbftError
from rbft_plugin.llamafactory.registry import dataset_entry, write_entries
from rbft_plugin.model.chat import after_video
from rbft_plugin.model.processor import BaseProcessor, load_base, tokens
from rbft_plugin.spec import recipe as recipes
from rbft_plugin.spec.dataset import ClipSettings

pytestmark = pytest.mark.torch

SETTINGS = ClipSettings(frames=8, max_fps=2, max_pixels=3136, multiple=28)
CLIP = Clip(8, 56, 56, 2.0)
ALL = {"video_fps": 1000, "cutoff_len": 200}


def lines(findings: list[Finding]) -> list[str]:
    return [f"{f.level} {f.kind}: {f}" for f in findings]


@pytest.fixture(scope="module")
def base() -> BaseProcessor:
    return load_base(str(BASE))


# --- planned clips ---


@pytest.mark.parametrize(
    ("header", "part", "seconds"),
    [
        (Clip(100, 640, 360, 25.0), Part(), 4.0),
        (Clip(100, 640, 360, 25.0), Part(1.0, 3.5), 2.5),
        (Clip(100, 640, 360, 25.0), Part(1.0, None, 0.5), 2.5),
        (Clip(100, 640, 360, 25.0), Part(1.0, 9.0), 3.0),  # it ends before
        (Clip(100, 640, 360, 25.0), Part(5.0), 0.04),  # a frame at least
        (Clip(0, 640, 360, 25.0), Part(), None),  # no number of frames in the header
    ],
)
def test_seconds_of_a_part_by_the_header(header: Clip, part: Part, seconds: float | None) -> None:
    assert fit.seconds(header, part) == (None if seconds is None else pytest.approx(seconds))


def test_the_planned_clip_is_the_one_that_is_made(tmp_path: Path) -> None:
    settings = ClipSettings(frames=16, max_fps=2, max_pixels=20_000, multiple=28)
    for i, (seconds, size) in enumerate([(0.5, (112, 112)), (3.1, (160, 96)), (4.0, (96, 160)), (11.3, (320, 176))]):
        video = write_video(tmp_path / f"{i}.mp4", seconds, 10, size)
        header = probe(video)
        made = make_clip(video, tmp_path / f"{i}-clip.mp4", settings)
        plan = fit.planned(header, fit.seconds(header), settings)
        assert (plan.frames, plan.width, plan.height) == (made.frames, made.width, made.height)
        assert plan.fps == pytest.approx(made.fps, rel=0.002)  # whole milliseconds a frame


def test_a_video_of_unknown_length_is_taken_for_a_long_one() -> None:
    assert fit.planned(Clip(0, 640, 360, 25.0), None, SETTINGS) == Clip(8, 56, 56, 2.0)


# --- LLaMA-Factory's settings ---


def stage(merged: dict[str, Any], *given: Clip) -> list[str]:
    return lines(fit.stage_findings(None, merged, "label", [TrainingExample("row 1", c, "p", "a") for c in given]))


def test_settings_of_llama_factory_that_would_change_clips_are_said_with_what_they_must_be() -> None:
    given = [Clip(130, 280, 252, 1.5), Clip(2, 14, 14, 4.0)]
    head = "error clip-changed: training.stages.label: "
    assert stage({}, *given) == [  # its defaults: 65536 pixels, 256 pixels, 128 frames, 2 frames a second
        f"{head}video_max_pixels must be a number at least 70560 (the pixels of the largest clip), not 65536",
        f"{head}video_min_pixels must be a number at most 196 (the pixels of the smallest clip), not 256",
        f"{head}video_maxlen must be a number at least 130 (the frames of the longest clip), not 128",
        f"{head}video_fps must be a number above 4 (the frames a second of the fastest clip), such as 1024, not 2.0",
    ]
    fine = {"video_max_pixels": 70_560, "video_min_pixels": 196, "video_maxlen": 130, "video_fps": 4.1}
    assert stage(fine, *given) == []
    for key, wrong in (("video_max_pixels", 70_559), ("video_min_pixels", 197), ("video_maxlen", 129)):
        assert [line.split(": ")[2].split()[0] for line in stage(fine | {key: wrong}, *given)] == [key]
    assert len(stage(fine | {"video_min_pixels": True}, *given)) == 1  # a number to Python alone
    for wrong in (4.0, "1000", None, True):
        (line,) = stage(fine | {"video_fps": wrong}, *given)
        assert line.endswith(f"such as 1024, not {wrong}")


def test_no_clips_no_findings() -> None:
    assert stage({}) == []


# --- the base model ---


def test_a_dataset_that_suits_the_model_has_no_findings(base: BaseProcessor) -> None:
    assert fit.model_findings(base, SETTINGS, [CLIP, Clip(2, 56, 56, 1.0)]) == []


def test_sizes_and_rates_that_do_not_suit_the_model(base: BaseProcessor) -> None:
    wrong = ClipSettings(frames=8, max_fps=4, max_pixels=4096, multiple=32)
    assert lines(fit.model_findings(base, wrong, [Clip(8, 64, 64, 4.0)])) == [
        f"error frame-rate: clips.max_fps: is 4, but must be at most 2 for {BASE}: transformers truncates the seconds "
        "between its time steps to whole ones, and all frames would get one position in time",
        f"error size-multiple: clips.multiple: is 32, but {BASE} needs a multiple of 28: change it and prepare again",
    ]


def test_a_clip_that_the_processor_would_resize_is_said_once_for_each_size(base: BaseProcessor) -> None:
    given = [Clip(8, 112, 56, 2.0), Clip(8, 112, 56, 1.9), CLIP, Clip(8, 112, 112, 2.0)]
    assert lines(fit.model_findings(base, SETTINGS, given)) == [
        f"error clip-resized: clips of 8 frames, 112x{height}: {BASE}'s processor makes {made} of them, since it takes "
        "3136 to 4704 pixels; change clips.max_pixels and prepare again"
        for height, made in ((112, "56x56"), (56, "84x28"))
    ]


def qwen3(folder: Path, name: str) -> BaseProcessor:
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    size = {"shortest_edge": 4096, "longest_edge": 100_000}
    given = load_base(str(BASE)).processor
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16, merge_size=2, size=size),
        video_processor=Qwen3VLVideoProcessor(patch_size=16, merge_size=2, size=size),
        tokenizer=given.tokenizer,
        chat_template=given.chat_template,
    )
    return BaseProcessor(name, "qwen3_vl", processor)


def test_qwen3_vl_needs_another_multiple_takes_any_rate_and_has_a_budget_for_all_frames(tmp_path: Path) -> None:
    base = qwen3(tmp_path, "Qwen/Qwen3-VL")
    assert lines(fit.model_findings(base, SETTINGS, [CLIP])) == [
        "error size-multiple: clips.multiple: is 28, but Qwen/Qwen3-VL needs a multiple of 32: change it and prepare "
        "again"
    ]
    right = ClipSettings(frames=16, max_fps=8, max_pixels=10_000, multiple=32)
    assert fit.model_findings(base, right, [Clip(8, 96, 96, 8.0)]) == []
    assert [f.where for f in fit.model_findings(base, right, [Clip(16, 96, 96, 8.0)])] == ["clips of 16 frames, 96x96"]


# --- lengths ---


def test_samples_that_would_be_cut_are_listed(base: BaseProcessor) -> None:
    length = tokens(base, CLIP, "Which?", "calm")
    examples = [
        TrainingExample("row 1", CLIP, "Which?", "calm"),
        TrainingExample("row 2", Clip(2, 56, 56, 1.0), "Which?", "calm"),
    ]
    assert fit.stage_findings(base, ALL | {"cutoff_len": length}, "label", examples) == []
    assert lines(fit.stage_findings(base, ALL | {"cutoff_len": length - 1}, "label", examples)) == [
        f"error too-long: row 1: {length} tokens, and training.stages.label silently cuts at {length - 1}; "
        f"cutoff_len: {length} would hold every sample"
    ]
    default = fit.stage_findings(
        base, {"video_fps": 1000}, "label", [TrainingExample("row 1", CLIP, "word " * 3000, "calm")]
    )
    assert ["silently cuts at 2048;" in f.text for f in default] == [True]


def test_rationales_that_may_become_too_long_are_a_warning_and_those_with_no_room_an_error(base: BaseProcessor) -> None:
    bare = tokens(base, CLIP, "Why?", 0)
    example = TrainingExample("row 1", CLIP, "Why?", 100)

    def said(cutoff: int) -> list[str]:
        return lines(fit.stage_findings(base, ALL | {"cutoff_len": cutoff}, "rationale", [example]))

    assert said(bare + 100) == []
    cut = f"training.stages.rationale silently cuts at {{}}; cutoff_len: {bare + 100} would hold every sample"
    for cutoff in (bare + 99, bare + 1):
        assert said(cutoff) == [
            f"warning may-be-too-long: row 1: {bare + 100} tokens, should the rationale be as long as it may (100), "
            "and " + cut.format(cutoff)
        ]
    assert said(bare) == [f"error too-long: row 1: {bare + 100} tokens, and {cut.format(bare)}"]


def test_a_cutoff_that_is_no_number_is_said(base: BaseProcessor) -> None:
    assert lines(
        fit.stage_findings(base, ALL | {"cutoff_len": "8k"}, "label", [TrainingExample("row 1", CLIP, "", "")])
    ) == ["error cutoff: training.stages.label: cutoff_len must be a whole number, not 8k"]


# --- recipes and rows ---


def recipe(**changes: Any) -> recipes.Recipe:
    path = Path("recipes/mine.yaml")
    path.write_text(yaml.safe_dump(yaml.safe_load(Path("recipes/demo.yaml").read_text()) | changes))
    return recipes.load(path)


def test_the_longest_rationale_is_the_tasks_unless_the_recipe_says_otherwise(ws: Path) -> None:
    assert fit.longest_rationale(recipe()) == 512
    for given in ("temperature=0,max_new_tokens=77", '{"max_new_tokens": 77}', {"max_new_tokens": 77}):
        assert fit.longest_rationale(recipe(evaluation={"args": {"gen_kwargs": given}})) == 77
    Path("task_configs/_rbft_rationale_base.yaml").write_text("generation_kwargs: !function a.b\n")
    with pytest.raises(RbftError) as raised:
        fit.longest_rationale(recipe())
    assert str(raised.value) == (
        "task_configs/_rbft_rationale_base.yaml: needs generation_kwargs.max_new_tokens, the most tokens of a rationale"
    )


def test_rows_of_a_run_are_held_against_model_and_settings(ws: Path, base: BaseProcessor) -> None:
    video = write_video(Path("a.mp4"))
    make_clip(video, Path("clip.mp4"), SETTINGS)
    row = prepared_sample("a", video="clip.mp4").training_row("Which?", "calm")
    given, length = recipe(base_model=str(BASE)), tokens(base, CLIP, "Which?", "calm")
    assert fit.run_problems(given, SETTINGS, ALL | {"cutoff_len": length}, "label", [row]) == []
    wrong = fit.run_problems(given, SETTINGS, {"cutoff_len": length - 1, "video_fps": 2}, "label", [row] * 7)
    cut = f"training.stages.label silently cuts at {length - 1}"
    long = f"{length} tokens, and {cut}; cutoff_len: {length} would hold "
    assert wrong == [
        "training.stages.label: video_fps must be a number above 2 (the frames a second of the fastest clip), such as "
        "1024, not 2",
        *(f"row {n} (id 'a'): {long}every sample" for n in range(1, 6)),
        "and 2 more of kind too-long",
    ]
    Path("clip.mp4").write_bytes(b"")
    assert fit.run_problems(given, SETTINGS, ALL, "label", [row]) == ["row 1 (id 'a'): clip.mp4 is empty"]


def test_a_model_that_cannot_be_loaded_here_is_left_to_the_harness(ws: Path) -> None:
    make_clip(write_video(Path("a.mp4")), Path("clip.mp4"), SETTINGS)
    row = prepared_sample("a", video="clip.mp4").training_row("Which?" * 2000, "calm")
    given = recipe(base_model="no/such/folder")
    assert fit.run_problems(given, SETTINGS, ALL, "label", [row]) == []
    assert len(fit.run_problems(given, SETTINGS, {}, "label", [row])) == 1  # video_fps
    assert fit.split_problems(given, SETTINGS, [{"meta": {"frames": 8, "width": 1, "height": 1, "seconds": 4}}]) == []


def test_clips_of_a_split_are_held_against_the_model(ws: Path) -> None:
    sample = prepared_sample("a")  # its clip has 8 frames, 56x56
    wide = sample.model_copy(update={"meta": sample.meta.model_copy(update={"width": 112})})
    (line,) = fit.split_problems(recipe(base_model=str(BASE)), SETTINGS, [wide])
    assert line.startswith("clips of 8 frames, 112x56: ")
    assert fit.split_problems(recipe(base_model=str(BASE)), SETTINGS, [sample]) == []


@pytest.mark.e2e
def test_rows_have_the_space_after_the_video_that_the_evaluation_has(tmp_path: Path) -> None:
    qwen, intern = (load_base(str(build(family, tmp_path / family))) for family in ("qwen2_5_vl", "internvl"))
    assert fit.break_findings(qwen, [""]) == fit.break_findings(intern, ["\n"]) == []
    assert lines(fit.break_findings(intern, ["", "\n"])) == [
        f"error after-video: prompts.after_video: is '', but {intern.name} has '\\n' there: set it so and prepare again"
    ]
    (wrong,) = fit.break_findings(qwen, ["\n"])
    assert wrong.text == f"is '\\n', but {qwen.name} has '' there: set it so and prepare again"


# --- against LLaMA-Factory's own pipeline ---

TEXTS = [  # (prompt, answer)
    ("Which?", "calm"),
    ("Which is it,\n\n\tcalm or  busy?  ", " a person\nwalks; "),
    ("它是什么？ Was ist es – ẞ? 🎬", "Ruhig. \u200d👩\u200d👧 静か"),
    ("Say <|im_end|> or </s>. {{content}} {}", "<think>\n\n</think>\n\nbusy <|endoftext|>"),
    ("Why?", "because of this and that, " * 60),
    ("Why? " * 40, "so."),
]


def examples_of(family: str, merged: dict[str, Any]) -> list[tuple[int, int]]:
    """(tokens, label tokens) of each row, by LLaMA-Factory's own parser, tokenizer, template and dataset code."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    paths = {"model_name_or_path": family, "dataset": "mine_label", "dataset_dir": "rows", "output_dir": "out"}
    on_cpu = {"bf16": False, "use_cpu": True, "preprocessing_num_workers": 1, "dataloader_num_workers": 0}
    model, data, training, *_ = get_train_args(merged | paths | on_cpu)
    module = load_tokenizer(model)
    template = get_template_and_fix_tokenizer(module["tokenizer"], data)
    made = get_dataset(template, model, data, training, stage="sft", **module)["train_dataset"]
    return [(len(row["input_ids"]), sum(int(label) != -100 for label in row["labels"])) for row in made]


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl"])
@pytest.mark.e2e
def test_rows_have_as_many_tokens_as_llama_factory_makes_and_are_cut_where_the_check_says_so(
    family: str, ws: Path
) -> None:
    given = recipe(base_model=str(build(family, Path(family))))
    side = MULTIPLES[family]
    rows = []
    for i, (prompt, answer) in enumerate(TEXTS):
        frames = np.full((4 + 2 * (i % 3), 2 * side, (2 + i % 2) * side, 3), 40 * i, np.uint8)
        write_clip(Path(f"{i}.mp4"), frames, Fraction(1000, 510 + 130 * i), 18)
        sample = prepared_sample(str(i), video=f"{i}.mp4", after_video=after_video(load_base(family).processor))
        rows.append(sample.training_row(prompt, answer))
    write_training_rows(Path("rows/label.jsonl"), rows)
    write_entries(Path("rows"), {"mine_label": dataset_entry("label.jsonl")})
    settings = ClipSettings(frames=8, max_fps=2, max_pixels=10_000, multiple=side)
    merged = yaml.safe_load(Path("recipes/stage1.yaml").read_text()) | {"template": TEMPLATES[family]}

    whole = examples_of(family, merged)
    lengths = [length for length, _ in whole]
    assert [fit.run_tokens(family, [row]) for row in rows] == lengths
    assert fit.run_tokens(family, rows) == sum(lengths)
    if family == "qwen3_vl":  # another family's template: a system message more, and no seconds beside the frames
        assert sum(n for n, _ in examples_of(family, merged | {"template": "qwen2_vl"})) != sum(lengths)
    for cutoff in (min(lengths) - 1, min(lengths), max(lengths) - 1, max(lengths)):
        merged["cutoff_len"] = cutoff
        made = examples_of(family, merged)
        cut = [i for i, (now, before) in enumerate(zip(made, whole, strict=True)) if now != before]
        refused = fit.run_problems(given, settings, merged, "label", rows)
        assert [line.split(",")[0] for line in refused if line.startswith("row")] == [
            f"row {i + 1} (id '{i}'): {lengths[i]} tokens" for i in cut[:5]
        ]
        assert [made[i][0] for i in cut] == [cutoff] * len(cut)
        if cutoff == max(lengths) - 1:  # a token of a long answer is lost, of a long prompt it would be one of that
            assert [before[1] - now[1] for now, before in zip(made, whole, strict=True)] == [0, 0, 0, 0, 1, 0]


def test_the_tokens_of_rows_are_not_known_where_the_model_cannot_be_loaded(ws: Path) -> None:
    assert fit.run_tokens("no/such/folder", []) is None
