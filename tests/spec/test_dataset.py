"""dataset: what a YAML may say, and the whole text of what is said when it says something else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import small_yaml, write_yaml

from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.spec import dataset, yaml_models
from rbft_plugin.spec.dataset import ClipSettings, Dataset
from rbft_plugin.spec.dataset_prompts import Label, Prompts
from rbft_plugin.spec.dataset_sources import Annotations, Hub, Join, Segment, Splits


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
    assert loaded.clips == ClipSettings(frames=16, max_fps=2.0, max_pixels=200_704, multiple=28, crf=18)
    assert loaded.splits == Splits(column="split", values={}, ratio=None, seed=0)
    assert (loaded.prompts.domain, loaded.prompts.rationale, loaded.prompts.label) == ("", None, None)
    assert loaded.annotations.unlabelled == () and loaded.about.title == ""


def test_raw_values_of_a_label_are_its_name_unless_given(ws: Path) -> None:
    write_yaml(small_yaml(labels=labels("calm", "busy", values=["0", "none"])))
    assert [label.raw for label in dataset.load("mine").labels] == [("0", "none"), ("busy",)]


def test_all_that_is_wrong_is_said_at_once_each_with_its_key(ws: Path) -> None:
    content = small_yaml(
        annotations={"file": "mine.xlsx", "id": "", "lable": "label"},
        splits={"ratio": {"train": 0.5, "dev": 0.5}},
        clips={"frames": 7, "fps": 2, "": 1, 3: 4},
        labels=[{"name": 1, "description": "One."}, {"name": "busy"}],
        colour="red",
    )
    write_yaml(content)
    with pytest.raises(ProblemsError) as raised:
        dataset.load("mine")
    assert str(raised.value) == (
        "dataset_info/mine.yaml: 12 problems\n"
        "  - annotations.file: '.xlsx' is not a known format; use one of .csv, .tsv, .json, .jsonl, .parquet\n"
        "  - annotations.id: must not be empty\n"
        "  - annotations.label: missing\n"
        "  - annotations.lable: unknown key\n"
        "  - labels[0].name: must be text, which YAML does not take it for (1): put it in quotes\n"
        "  - labels[1].description: missing\n"
        "  - splits.ratio.dev: Input should be 'train', 'val' or 'test'\n"
        "  - clips.frames: must be even: models merge frames in pairs\n"
        "  - clips.fps: unknown key\n"
        "  - clips.'': unknown key\n"
        "  - clips[3]: a key must be text: put it in quotes\n"
        "  - colour: unknown key"
    )


def test_what_is_empty_and_what_is_odd_is_said_beside_other_mistakes(ws: Path) -> None:
    assert said(labels=[{"name": "", "description": ""}], clips={"frames": 7, "multiple": 27, "max_fps": 99}) == [
        "labels[0].name: must not be empty",
        "labels[0].description: must not be empty",
        "clips.frames: must be even: models merge frames in pairs",
        "clips.max_fps: Input should be less than or equal to 30",
        "clips.multiple: must be even: H.264 stores colour at half the resolution",
    ]


def test_a_single_label_is_too_few(ws: Path) -> None:
    assert said(labels=labels("calm")) == ["labels: needs two labels or more"]


def test_whole_numbers_may_be_raw_values_and_other_bare_words_of_yaml_ask_for_quotes(ws: Path) -> None:
    splits = {"column": "split", "values": {"train": [0, 1], "test": [2]}}
    write_yaml(small_yaml(labels=labels("calm", "busy", values=[0, -3, " x "]), splits=splits))
    loaded = dataset.load("mine")
    assert loaded.labels[0].raw == ("0", "-3", "x")
    assert loaded.splits and loaded.splits.values == {"train": ("0", "1"), "test": ("2",)}
    text = "must be text, which YAML does not take it for"
    assert said(labels=labels("calm", "busy", values=[1.0, False, True, None, ["a"]])) == [
        f"labels[0].values[0]: {text} (1.0): put it in quotes",
        f"labels[0].values[1]: {text} (no/false): put it in quotes",
        f"labels[0].values[2]: {text} (yes/true): put it in quotes",
        "labels[0].values[3]: must be text",
        "labels[0].values[4]: must be text",
    ]
    assert said(labels=labels("calm", "busy", values="THEFT")) == ["labels[0].values: must be a list"]


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


def test_a_label_without_a_description_is_told_how_to_be_written(ws: Path) -> None:
    assert said(labels=["cat", {"name": "dog", "description": "A dog."}]) == [
        "labels[0]: a label has a description, which prompts show: {name: cat, description: ...}"
    ]


ONE_WAY = "give 'column', or 'ratio', 'ids' or both, or 'folds'"


@pytest.mark.parametrize(
    ("splits", "problem"),
    [
        ({}, ONE_WAY),
        ({"group": "g"}, ONE_WAY),
        ({"column": "split", "ratio": {"train": 0.5, "test": 0.5}}, ONE_WAY),
        ({"column": "split", "ids": {"test": "ids.txt"}}, ONE_WAY),
        ({"ratio": {"train": 0.5, "test": 0.5}, "values": {"train": ["a"]}}, "'values' belongs to 'column'"),
        ({"column": "s", "values": {"train": ["a", "b"], "test": ["b"]}}, "'values' holds more than once: 'b'"),
        ({"ratio": {"train": 0.5, "test": 0.4}}, "'ratio' must be shares that sum to 1"),
        ({"ratio": {"train": 1.5, "test": -0.5}}, "'ratio' must be shares that sum to 1"),
        ({"ratio": {"train": float("nan"), "test": 0.5}}, "'ratio' must be shares that sum to 1"),
        ({"ratio": {"train": 1.0}}, "'ratio' needs a train and a test share above 0"),
        ({"ratio": {"val": 0.5, "test": 0.5}}, "'ratio' needs a train and a test share above 0"),
        ({"ids": {"test": "a"}, "ratio": {"train": 0.5, "test": 0.5}}, "both in 'ids' and in 'ratio': test"),
        ({"ids": {"test": "a"}, "ratio": {"val": 1}}, "neither 'ids' nor 'ratio' names train"),
        ({"ids": {"val": "a"}}, "neither 'ids' nor 'ratio' names test"),
    ],
)
def test_splits_are_by_column_or_by_ids_and_ratio(ws: Path, splits: dict[str, Any], problem: str) -> None:
    assert said(splits=splits) == [f"splits: {problem}"]


@pytest.mark.parametrize(
    "splits",
    [
        {"ids": {"test": "a"}},
        {"ids": {"train": "a", "test": "b"}},
        {"ids": {"test": "a"}, "ratio": {"train": 0.9, "val": 0.1}, "group": "g"},
        {"ids": {"train": "a"}, "ratio": {"val": 0.5, "test": 0.5}},
        {"column": "split", "group": "g"},
    ],
)
def test_ids_may_be_of_any_splits_as_long_as_some_samples_train_and_some_test(splits: dict[str, Any]) -> None:
    assert Dataset.model_validate(small_yaml(splits=splits)).splits == Splits.model_validate(splits)


@pytest.mark.parametrize(
    ("clips", "problem"),
    [
        ({"frames": 7}, "clips.frames: must be even: models merge frames in pairs"),
        ({"multiple": 27}, "clips.multiple: must be even: H.264 stores colour at half the resolution"),
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
    known = "known are {domain}, {labels}, {names}, {context}"
    assert said(prompts={"rationale": "{lables} {label}", "hinted": "{label} {raw}", "label": "{}"}) == [
        f"prompts.rationale: unknown field {{label}}, {{lables}}; {known}, {{conclusion}}",
        f"prompts.hinted: unknown field {{raw}}; {known}, {{label}}",
        f"prompts.label: unknown field {{}}; {known}",
    ]
    assert said(prompts={"hinted": "Why {names}?"}) == [
        "prompts.hinted: must hold {label}: it is the prompt that shows the label"
    ]


def test_videos_must_differ_between_samples(ws: Path) -> None:
    assert said(videos="videos/all.mp4") == [
        "videos: must name a column in braces, such as {id}: each sample has a video of its own"
    ]


@pytest.mark.parametrize("suffix", ["rationale", "hinted", "ll", "novideo"])
def test_a_name_does_not_end_as_a_task_does(ws: Path, suffix: str) -> None:
    write_yaml(small_yaml(f"mine_{suffix}"))
    with pytest.raises(RbftError) as raised:
        dataset.load(f"mine_{suffix}")
    assert str(raised.value) == (
        f"dataset_info/mine_{suffix}.yaml: 1 problem\n"
        "  - name: must not end in _ll, _novideo, _rationale, _hinted, _train, _val, _test: tasks are named so"
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
    there = "demo, multihateclip_en, multihateclip_zh, smarthome, smarthome_binary"
    assert str(raised.value) == f"dataset_info/mine.yaml: no such dataset. There are: {there}"
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
        (b"name: a\nname: b\n", "not valid YAML: key 'name' is given twice in \"<unicode string>\", line 2, column 1"),
        (b"name: 2024-13-45\n", "not valid YAML: '2024-13-45': month must be in 1..12 in"),
        (b'name: "\\0"\n', "not valid YAML: a null character or broken Unicode in"),
        (b'"\\uD800": a\n', "not valid YAML: a null character or broken Unicode in"),
        (b"name: !function a.b\n", "not valid YAML: could not determine a constructor for the tag '!function' in"),
        (b"name: !!bool maybe\n", "not valid YAML: 'maybe': 'maybe' in"),
        (b"a: " + b"[" * 1000, "not usable YAML: nested too deep"),
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
    read = yaml_models.read_yaml(tmp_path / "a.yaml")["key"]
    assert (read, type(read)) == (value, type(value))


def test_a_key_that_overrides_a_merged_one_is_not_given_twice(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 2}\nb: {c: &b {<<: *a, x: 3}}\nd: {<<: *b, x: 4}\n"
    (tmp_path / "a.yaml").write_text(text)
    read = yaml_models.read_yaml(tmp_path / "a.yaml")
    assert (read["b"], read["d"]) == ({"c": {"x": 3, "y": 2}}, {"x": 4, "y": 2})


SOURCE = {"id": "id", "label": "label"}
FORMAT = "is not a known format; use one of .csv, .tsv, .json, .jsonl, .parquet"
FILES = {"train": "a.csv", "test": "b.csv"}


@pytest.mark.parametrize(
    ("annotations", "problems"),
    [
        ({"file": "a.csv"}, ["annotations.id: missing", "annotations.label: missing"]),
        ({"hub": {"path": "a"}}, ["annotations.label: missing"]),
        (SOURCE, ["annotations: give one of 'file', 'folder' and 'hub'"]),
        ({"file": "a.csv", "hub": {"path": "a"}} | SOURCE, ["annotations: give one of 'file', 'folder' and 'hub'"]),
        ({"file": 3} | SOURCE, ["annotations.file: must be a path"]),
        ({"file": ""} | SOURCE, ["annotations.file: must be a path"]),
        ({"file": ["a.csv"]} | SOURCE, ["annotations.file: must be a path"]),
        ({"file": {"train": "a.csv"}} | SOURCE, ["annotations.file: needs a path for train and one for test"]),
        (
            {"file": {"train": "a.csv", "dev": "b.csv", "all": "c.csv"}} | SOURCE,
            [
                "annotations.file.dev: is no split; use train, val and test",
                "annotations.file.all: is no split; use train, val and test",
            ],
        ),
        (
            {"file": {"train": "a.txt", "test": 3}} | SOURCE,
            ["annotations.file.test: must be a path"],  # formats are looked at where all are paths
        ),
        (
            {"file": {"train": "a.txt", "test": "b"}} | SOURCE,
            [
                f"annotations.file.train: '.txt' {FORMAT}",
                f"annotations.file.test: '' {FORMAT}",
            ],
        ),
        (
            {"file": "a.csv", "join": [{"file": "b.xml"}, {"file": "c.csv", "colums": []}]} | SOURCE,
            [
                f"annotations.join[0].file: '.xml' {FORMAT}",
                "annotations.join[1].colums: unknown key",
            ],
        ),
        (
            {"file": "a.csv", "drop": ["x", ""], "unlabelled": [""]} | SOURCE,
            ["annotations: both in 'drop' and in 'unlabelled': ''"],
        ),
        (
            {"file": "a.csv", "drop": ["calm"], "unlabelled": [""]} | SOURCE,
            ["labels: raw values of a label that stand in annotations.drop too: 'calm'"],
        ),
        (
            {"hub": {"path": "a", "splits": {"train": "x"}}, "label": "l"},
            ["annotations.hub.splits: needs train and test"],
        ),
    ],
)
def test_a_source_that_cannot_be_is_named_with_its_key(
    ws: Path, annotations: dict[str, Any], problems: list[str]
) -> None:
    assert said(annotations=annotations) == problems


def test_a_folder_of_class_folders_needs_no_more_than_labels_and_splits(ws: Path) -> None:
    few = {
        "annotations": {"folder": "videos"},
        "videos": None,
        "clips": None,
        "splits": {"ratio": {"train": 0.8, "test": 0.2}},
    }
    write_yaml(small_yaml(**few))
    assert dataset.load("mine").annotations.folder == {"all": Path("videos")}
    few["splits"] = None
    assert said(**few) == ["splits: missing"]
    own = "not with 'folder': there the path below it is the id, the class folder's name the label"
    assert said(**(few | {"annotations": {"folder": "videos"} | SOURCE, "videos": "{id}.mp4"})) == [
        f"annotations.id: {own}",
        f"annotations.label: {own}",
    ]
    assert said(**(few | {"videos": "{id}.mp4", "splits": {"column": "s"}})) == [
        "videos: not with 'annotations.folder', which holds the videos"
    ]


@pytest.mark.parametrize(
    ("annotations", "key"),
    [
        ({"file": FILES} | SOURCE, "annotations.file"),
        ({"folder": {"train": "a", "test": "b"}}, "annotations.folder"),
        ({"hub": {"path": "a", "splits": {"train": "a", "test": "b"}}, "label": "label"}, "annotations.hub.splits"),
    ],
)
def test_a_source_that_gives_the_splits_needs_and_bears_no_other_way(
    ws: Path, annotations: dict[str, Any], key: str
) -> None:
    videos = None if "folder" in annotations else "{id}.mp4"
    write_yaml(small_yaml(annotations=annotations, splits={"group": "id"}, videos=videos))
    assert dataset.load("mine").annotations.gives_splits == key
    write_yaml(small_yaml(annotations=annotations, splits=None, videos=videos))
    assert dataset.load("mine").splits is None
    assert said(annotations=annotations, videos=videos) == [
        f"splits: {key} says already which sample is in which; only 'group' may stand here"
    ]


def test_columns_that_tell_the_label_are_refused_in_prompts(ws: Path) -> None:
    annotations = {"file": "a.csv", "hidden": ["Reasoning"]} | SOURCE
    context = {"Why": "Reasoning", "Title": "title", "Class": "label", "Part": "split"}
    known = "is not known of a new video; take it out"
    assert said(annotations=annotations, prompts={"context": context}) == [
        f"prompts.context.Why: a label leak: column 'Reasoning' (annotations.hidden) {known}",
        f"prompts.context.Class: a label leak: column 'label' (the labels) {known}",
        f"prompts.context.Part: a label leak: column 'split' (the splits) {known}",
    ]
    folder = {"annotations": {"folder": "v"}, "videos": None, "splits": {"ratio": {"train": 0.5, "test": 0.5}}}
    assert said(prompts={"context": {"File": "path", "Id": "id", "L": "label"}}, **folder) == [
        f"prompts.context.File: a label leak: column 'path' (the class folder is in it) {known}",
        f"prompts.context.Id: a label leak: column 'id' (the class folder is in it) {known}",
        f"prompts.context.L: a label leak: column 'label' (the labels) {known}",
    ]


def test_names_of_context_are_one_line_of_text(ws: Path) -> None:
    assert said(prompts={"context": {"a\nb": "x", "<video>": "y"}}) == [
        "prompts.context.a\nb: must be one line without leading, trailing or double spaces",
        "prompts.context.<video>: must not hold '<video>' or '<image>': the video is put before the text",
    ]


DOCS = (Path(__file__).parents[2] / "docs/datasets.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", DOCS, re.M | re.S)


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_of_the_reference_is_a_dataset(ws: Path, text: str) -> None:
    name = yaml.safe_load(text)["name"]
    Path(f"dataset_info/{name}.yaml").write_text(text, encoding="utf-8")
    assert len(dataset.load(name).labels) >= 2


def test_the_reference_names_every_key_and_no_other() -> None:
    parts = [Dataset, dataset.About, Annotations, Hub, Join, Segment, Splits]
    parts += [Label, Prompts, ClipSettings]
    known = {key for part in parts for key in part.model_fields}
    reference = DOCS[DOCS.index("## Keys") : DOCS.index("## Shipped datasets")]
    assert known - set(re.findall(r"`(\w+)`", reference)) == set()
    rows = re.findall(r"^\| `(\w+)` \|", reference, re.M)
    assert rows and set(rows) <= known
