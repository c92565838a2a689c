"""Whatever stands in a dataset's files, it is loaded, or the user is told what is wrong: no other exception."""

from __future__ import annotations

import copy
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rbft_plugin.data import annotations, prompts, splits
from rbft_plugin.errors import RbftError
from rbft_plugin.spec import dataset

ROWS = [
    {
        "id": str(i),
        "label": ("calm", "busy")[i % 2],
        "split": ("train", "test")[i // 2 % 2],
        "from": "0:01",
        "title": "T",
        "camera": f"c{i}",
    }
    for i in range(8)
]
CONTENT: dict[str, Any] = {
    "name": "mine",
    "about": {"title": "Mine"},
    "annotations": {
        "file": "rows.csv",
        "id": "id",
        "label": "label",
        "unlabelled": ["?"],
        "drop": ["bad"],
        "join": [{"file": "more.json", "columns": ["note"]}],
        "hidden": ["note"],
    },
    "videos": "v/{id}.mp4",
    "segment": {"start": "from"},
    "max_missing": 3,
    "labels": [{"name": "calm", "description": "A."}, {"name": "busy", "description": "B.", "values": ["busy", 1]}],
    "splits": {"column": "split", "values": {"train": ["train"], "test": ["test"]}},
    "prompts": {"domain": "D.", "context": {"Title": "title"}, "label": "{labels}?"},
    "clips": {"frames": 8, "max_fps": 2.0},
}
COLUMNS = {"id": "id", "label": "label"}
HALVES = {"ratio": {"train": 0.5, "test": 0.5}}
SOURCES: list[dict[str, Any]] = [
    {},
    {"splits": {"ids": {"test": "ids.txt"}, "ratio": {"train": 0.5, "val": 0.5}, "group": "camera"}},
    {"annotations": {"folder": "v"}, "videos": None, "segment": {}, "prompts": {}, "splits": HALVES},
    {"annotations": {"file": {"train": "rows.csv", "test": "other.jsonl"}, **COLUMNS}, "splits": None},
]  # fmt: skip
FILES = {
    "rows.csv": "\n".join([",".join(ROWS[0]), *(",".join(row.values()) for row in ROWS)]).encode(),
    "rows.jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
    "other.jsonl": "\n".join(json.dumps(row | {"id": f"x{row['id']}"}) for row in ROWS).encode(),
    "rows.json": json.dumps({row["id"]: row for row in ROWS}).encode(),
    "more.json": json.dumps({row["id"]: {"note": "n"} for row in ROWS}).encode(),
    "ids.txt": b"# test\n1\n2\n",
}

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 99), st.just(10**400), st.floats(), st.text(max_size=8),
    st.sampled_from(["", " ", "\0", "a" * 300, "{id}", "{}", "<video>", "\ud800", "~nobody/x", "$", "rows.csv"]),
)  # fmt: skip
junk = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3), max_leaves=5
)
noise = st.one_of(
    st.binary(min_size=1, max_size=6),
    st.sampled_from([b"\0", b'"', b",", b"\t", b"\n", b"{", b"[[", b"}", b"\xff", b"\xef\xbb\xbf"]),
    st.sampled_from([b"\\ud800", b"\\u0000", b"NaN", b"1e999", b"-", b"1:2:3:4"]),
    st.sampled_from([b"- ", b": ", b"&a ", b"*a", b"!!int x", b"<<: ", b"2024-13-45", b"? ", b"%", b"\x85"]),
)  # fmt: skip
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), noise | st.just(b"")), min_size=1, max_size=4)


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything in a nested value but the whole."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [place for key, value in pairs for place in ((*path, key), *places(value, (*path, key)))]


def changed(content: Any, seed: int, values: list[Any]) -> Any:
    """Replace, remove or add something at as many random places as there are values."""
    chance, content = random.Random(seed), copy.deepcopy(content)
    for value in values:
        *path, last = chance.choice(places(content) or [("name",)])
        part = content
        for key in path:
            part = part[key]
        what = chance.choice(["replace", "replace", "remove", "add"])
        if what == "remove":
            del part[last]
        elif what == "add" and isinstance(part, dict):
            part[value if isinstance(value, str | int | None) else "more"] = value
        else:
            part[last] = value
    return content


def edited(content: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Replace some bytes at each place (a share of the length) by others."""
    for where, removed, added in edits:
        at = round(where * len(content))
        content = content[:at] + added + content[at + removed :]
    return content


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("malformed")
    (folder / "dataset_info").mkdir()
    for row in ROWS:
        video = folder / "v" / row["label"] / f"{row['id']}.mp4"
        video.parent.mkdir(parents=True, exist_ok=True)
        video.touch()
    return folder


def outcome(folder: Path, text: bytes, **files: bytes) -> str | None:
    """Load all of dataset `mine` and make its prompts: None, or what the user is told."""
    (folder / "dataset_info/mine.yaml").write_bytes(text)
    for name, content in (FILES | files).items():
        (folder / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        try:
            mine = dataset.load("mine")
            for sample in splits.assign(annotations.read_annotations(mine).samples, mine.splits):
                for made in (prompts.label, prompts.rationale):
                    assert made(mine, sample.context).encode()
                assert sample.split in ("train", "val", "test")
        except RbftError as error:
            assert str(error).encode()  # can be printed
            return str(error)
    return None


slow = settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_what_is_changed_below_is_whole_before(workspace: Path) -> None:
    for source in SOURCES:
        assert outcome(workspace, yaml.safe_dump(CONTENT | source).encode()) is None, source
    for name in ("rows.json", "rows.jsonl"):
        content = CONTENT | {"annotations": CONTENT["annotations"] | {"file": name}}
        assert outcome(workspace, yaml.safe_dump(content).encode()) is None


@slow
@given(st.sampled_from(SOURCES), st.integers(0, 10**6), st.lists(junk, min_size=1, max_size=3))
def test_a_yaml_with_wrong_values_and_keys(
    workspace: Path, source: dict[str, Any], seed: int, values: list[Any]
) -> None:
    content = changed(CONTENT | source, seed, values)
    message = outcome(workspace, yaml.safe_dump(content, sort_keys=False).encode())
    assert message is None or (len(message) > 20 and "Traceback" not in message)


@slow
@given(st.sampled_from(SOURCES), edits)
def test_a_yaml_with_wrong_text(workspace: Path, source: dict[str, Any], edits: list[tuple[float, int, bytes]]) -> None:
    text = edited(yaml.safe_dump(CONTENT | source, sort_keys=False).encode(), edits)
    message = outcome(workspace, text)
    assert message is None or (len(message) > 20 and "Traceback" not in message)


@slow
@given(st.sampled_from([*FILES, "rows.tsv"]), edits)
def test_an_annotation_file_with_wrong_text(workspace: Path, name: str, edits: list[tuple[float, int, bytes]]) -> None:
    source = dict(SOURCES[1] if name == "ids.txt" else {})
    if name.startswith("rows"):
        source["annotations"] = CONTENT["annotations"] | {"file": name}
    content = FILES.get(name, FILES["rows.csv"].replace(b",", b"\t"))
    message = outcome(workspace, yaml.safe_dump(CONTENT | source).encode(), **{name: edited(content, edits)})
    assert message is None or name in message or "splits.ids" in message


@slow
@given(
    st.lists(st.dictionaries(st.sampled_from([*ROWS[0], "x", ""]), junk, max_size=6) | junk, max_size=5), st.booleans()
)
def test_a_json_file_with_any_values(workspace: Path, rows: list[Any], keyed: bool) -> None:
    content = {str(i): row for i, row in enumerate(rows)} if keyed else rows
    text = json.dumps(content, default=str, skipkeys=True).encode()
    source = {"annotations": CONTENT["annotations"] | {"file": "rows.json"}}
    message = outcome(workspace, yaml.safe_dump(CONTENT | source).encode(), **{"rows.json": text})
    assert message is None or "rows.json" in message or "more.json" in message


@settings(slow, max_examples=40)
@given(edits)
def test_a_parquet_file_with_wrong_bytes(workspace: Path, edits: list[tuple[float, int, bytes]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), buffer)
    source = {"annotations": CONTENT["annotations"] | {"file": "rows.parquet"}}
    text = yaml.safe_dump(CONTENT | source).encode()
    message = outcome(workspace, text, **{"rows.parquet": edited(buffer.getvalue(), edits)})
    assert message is None or "rows.parquet" in message or "more.json" in message
