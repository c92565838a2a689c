"""dataset: what a YAML may say, and the whole text of what is said when it says something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import small_yaml, write_yaml

from rbft_plugin import dataset, workspace
from rbft_plugin.dataset import ClipSettings, Splits
from rbft_plugin.errors import ProblemsError, RbftError


def said(**changes: Any) -> list[str]:
    """The problems of a dataset YAML whose keys were changed so."""
    write_yaml(small_yaml(**changes))
    with pytest.raises(ProblemsError) as raised:
        dataset.load("mine")
    return raised.value.problems


def labels(*names: str, **first: Any) -> list[dict[str, Any]]:
    return [{"name": n, "description": "It is so."} | (first if i == 0 else {}) for i, n in enumerate(names)]


def test_a_yaml_of_required_keys_alone_has_defaults_for_the_others(ws: Path) -> None:
    write_yaml(small_yaml(clips=None))
    loaded = dataset.load("mine")
    assert loaded.label_names == ("calm", "busy")
    assert loaded.folder == Path("data/mine")
    assert loaded.clips == ClipSettings(frames=16, max_fps=2.0, max_pixels=200_704, multiple=28, crf=18)
    assert loaded.splits == Splits(column="split", values={}, ratio=None, seed=0)
    assert (loaded.prompts.domain, loaded.prompts.rationale, loaded.prompts.label) == ("", None, None)
    assert loaded.annotations.unlabelled == () and loaded.about == ""


def test_raw_values_of_a_label_are_its_name_unless_given(ws: Path) -> None:
    write_yaml(small_yaml(labels=labels("calm", "busy", values=["0", "none"])))
    assert [label.raw for label in dataset.load("mine").labels] == [("0", "none"), ("busy",)]


@pytest.mark.parametrize("name", ["smarthome", "demo"])
def test_a_shipped_yaml_loads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace.shipped())
    assert dataset.load(name).name == name


def test_shipped_smarthome_has_the_three_classes_of_the_paper_and_splits_by_ratio(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(workspace.shipped())
    smarthome = dataset.load("smarthome")
    assert smarthome.label_names == ("Normal", "Abnormal", "Vague Abnormal")
    assert smarthome.splits.ratio == {"train": 0.8, "val": 0.04, "test": 0.16}
    assert smarthome.videos == "data/smarthome/source/videos/{Title}.mp4"


def test_all_that_is_wrong_is_said_at_once_each_with_its_key(ws: Path) -> None:
    content = small_yaml(
        annotations={"file": "mine.xlsx", "id": "", "lable": "label"},
        splits={"ratio": {"train": 0.5, "dev": 0.5}},
        clips={"frames": 7, "fps": 2},
        labels=[{"name": 1, "description": "One."}, {"name": "busy"}],
        colour="red",
    )
    write_yaml(content)
    with pytest.raises(ProblemsError) as raised:
        dataset.load("mine")
    assert str(raised.value) == (
        "dataset_info/mine.yaml: 9 problems\n"
        "  - annotations.file: '.xlsx' is not a known format; use one of .csv, .tsv, .jsonl\n"
        "  - annotations.id: String should have at least 1 character\n"
        "  - annotations.label: missing\n"
        "  - annotations.lable: unknown key\n"
        "  - labels[0].name: must be text; YAML takes numbers, yes and no for something else unless they are in quotes"
        "\n"
        "  - labels[1].description: missing\n"
        "  - splits.ratio.dev: Input should be 'train', 'val' or 'test'\n"
        "  - clips.fps: unknown key\n"
        "  - colour: unknown key"
    )


def test_a_single_label_is_too_few(ws: Path) -> None:
    assert said(labels=labels("calm")) == ["labels: needs two labels or more"]


def test_bare_yaml_words_and_numbers_as_label_values_ask_for_quotes(ws: Path) -> None:
    quotes = "must be text; YAML takes numbers, yes and no for something else unless they are in quotes"
    assert said(labels=labels("calm", "busy", values=[0, False])) == [
        f"labels[0].values[0]: {quotes}",
        f"labels[0].values[1]: {quotes}",
    ]


@pytest.mark.parametrize("name", [" calm", "calm ", "very  calm", "calm\nindeed"])
def test_a_label_is_one_line_without_stray_spaces(ws: Path, name: str) -> None:
    assert said(labels=labels(name, "busy")) == [
        "labels[0].name: must be one line without leading, trailing or double spaces"
    ]


@pytest.mark.parametrize(
    ("names", "values", "twice"),
    [
        (("calm", "Calm"), [], "'calm'"),
        (("calm", "ｃａｌｍ"), [], "'calm'"),
        (("very calm", "very-calm"), [], "'very calm'"),
        (("calm", "busy"), ["busy"], "'busy'"),
        (("calm", "busy"), ["a", "a"], "'a'"),
        (("calm", "calm"), [], "'calm'"),
    ],
)
def test_labels_that_no_answer_or_annotation_could_tell_apart_are_refused(
    ws: Path, names: tuple[str, ...], values: list[str], twice: str
) -> None:
    assert said(labels=labels(*names, values=values)) == [
        "labels: names must differ in more than case and punctuation, and raw values must differ; more than once: "
        f"{twice}"
    ]


@pytest.mark.parametrize(
    ("splits", "problem"),
    [
        ({}, "give either 'column' or 'ratio'"),
        ({"column": "split", "ratio": {"train": 0.5, "test": 0.5}}, "give either 'column' or 'ratio'"),
        ({"ratio": {"train": 0.5, "test": 0.5}, "values": {"train": ["a"]}}, "'values' belongs to 'column'"),
        ({"column": "s", "values": {"train": ["a", "b"], "test": ["b"]}}, "'values' holds more than once: 'b'"),
        ({"ratio": {"train": 0.5, "test": 0.4}}, "'ratio' must be shares that sum to 1"),
        ({"ratio": {"train": 1.5, "test": -0.5}}, "'ratio' must be shares that sum to 1"),
        ({"ratio": {"train": 1.0}}, "'ratio' needs a train and a test share above 0"),
        ({"ratio": {"val": 0.5, "test": 0.5}}, "'ratio' needs a train and a test share above 0"),
    ],
)
def test_splits_are_by_column_or_by_ratio(ws: Path, splits: dict[str, Any], problem: str) -> None:
    assert said(splits=splits) == [f"splits: {problem}"]


@pytest.mark.parametrize(
    ("clips", "problem"),
    [
        ({"frames": 7}, "clips: 'frames' must be even: models merge frames in pairs"),
        ({"multiple": 27}, "clips: 'multiple' must be even: H.264 stores colour at half the resolution"),
        ({"max_pixels": 3135}, "clips: 'max_pixels' must be at least (2 x multiple)^2 = 3136"),
        ({"multiple": 32, "max_pixels": 4000}, "clips: 'max_pixels' must be at least (2 x multiple)^2 = 4096"),
        ({"frames": 0}, "clips.frames: Input should be greater than or equal to 2"),
        ({"max_fps": 0}, "clips.max_fps: Input should be greater than 0"),
    ],
)
def test_clip_settings_that_no_model_could_take_are_refused(ws: Path, clips: dict[str, Any], problem: str) -> None:
    assert said(clips=clips) == [problem]


@pytest.mark.parametrize("where", ["domain", "rationale", "label"])
@pytest.mark.parametrize("mark", ["<video>", "<image>"])
def test_prompts_must_not_hold_marks_of_media(ws: Path, where: str, mark: str) -> None:
    assert said(prompts={where: f"See {mark}."}) == [
        f"prompts.{where}: must not hold '<video>' or '<image>': the video is put before the text"
    ]


def test_label_descriptions_must_not_hold_marks_of_media(ws: Path) -> None:
    assert said(labels=labels("calm", "busy", description="A <video> of it.")) == [
        "labels[0].description: must not hold '<video>' or '<image>': the video is put before the text"
    ]


def test_prompts_must_not_name_unknown_fields(ws: Path) -> None:
    assert said(prompts={"rationale": "{labels} {label}", "label": "{}"}) == [
        "prompts.rationale: unknown field {label}; known are {domain}, {labels}, {names}",
        "prompts.label: unknown field {}; known are {domain}, {labels}, {names}",
    ]


def test_videos_must_differ_between_samples(ws: Path) -> None:
    assert said(videos="videos/all.mp4") == [
        "videos: must name a column in braces, such as {id}: each sample has a video of its own"
    ]


@pytest.mark.parametrize("suffix", ["rationale", "ll", "novideo"])
def test_a_name_does_not_end_as_a_task_does(ws: Path, suffix: str) -> None:
    write_yaml(small_yaml(f"mine_{suffix}"))
    with pytest.raises(RbftError) as raised:
        dataset.load(f"mine_{suffix}")
    assert str(raised.value) == (
        f"dataset_info/mine_{suffix}.yaml: 1 problem\n"
        "  - name: must not end in _rationale, _ll, _novideo: tasks are named so"
    )


@pytest.mark.parametrize("name", ["Mine", "-mine", "my data", "mine.2", "été"])
def test_a_name_is_plain(ws: Path, name: str) -> None:
    content = small_yaml() | {"name": name}
    write_yaml(content).rename("dataset_info/mine.yaml")
    with pytest.raises(ProblemsError) as raised:
        dataset.load("mine")
    assert raised.value.problems == ["name: must be lower-case letters, digits, '_' and '-'"]


def test_a_name_is_the_name_of_its_file(ws: Path) -> None:
    write_yaml(small_yaml("yours")).rename("dataset_info/mine.yaml")
    with pytest.raises(ProblemsError, match="name: 'yours' is not the file's name 'mine'"):
        dataset.load("mine")


def test_an_unknown_dataset_lists_those_there_are(ws: Path) -> None:
    with pytest.raises(RbftError) as raised:
        dataset.load("mine")
    assert str(raised.value) == "dataset_info/mine.yaml: no such dataset. There are: demo, smarthome"
    for path in Path("dataset_info").glob("*.yaml"):
        path.unlink()
    with pytest.raises(RbftError) as raised:
        dataset.load("mine")
    assert str(raised.value) == "dataset_info/mine.yaml: no such dataset. There are: none"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "must be a mapping of keys"),
        (b"- a\n- b\n", "must be a mapping of keys"),
        (b"name: [", "not valid YAML: while parsing a flow node expected the node content, but found '<stream end>' "),
        (b"name: \xff\n", "not valid YAML: 'utf-8' codec can't decode byte 0xff in position 6: invalid start byte"),
    ],
)
def test_a_file_that_is_no_yaml_mapping_is_refused(ws: Path, content: bytes, problem: str) -> None:
    Path("dataset_info/mine.yaml").write_bytes(content)
    with pytest.raises(ProblemsError) as raised:
        dataset.load("mine")
    (said,) = raised.value.problems
    assert said.startswith(problem)


NUMBERS = {"1e-4": 1e-4, "5E3": 5000.0, "1.0e-4": 1e-4, "-2.e+1": -20.0, ".5e1": 5.0, '"1e-4"': "1e-4"}
OTHERS = {"1e": "1e", "e4": "e4", "1e4x": "1e4x", "12": 12, "no": False}


@pytest.mark.parametrize(("text", "value"), (NUMBERS | OTHERS).items())
def test_numbers_with_an_exponent_are_numbers_as_they_are_to_llama_factory(
    tmp_path: Path, text: str, value: Any
) -> None:
    (tmp_path / "a.yaml").write_text(f"key: {text}\n")
    read = dataset.read_yaml(tmp_path / "a.yaml")["key"]
    assert (read, type(read)) == (value, type(value))
