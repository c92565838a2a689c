"""hub: Hugging Face datasets in local folders, in each form that they come in."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import datasets
import pytest
from builders import small_yaml
from datasets import ClassLabel, DatasetDict, Features, Value, Video

from rbft_plugin.data import sources
from rbft_plugin.data.sources import Source
from rbft_plugin.errors import RbftError
from rbft_plugin.spec.dataset import Dataset

SHARES = {"ratio": {"train": 0.5, "test": 0.5}}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return tmp_path


def read(hub: dict[str, Any], splits: Any = None, **annotations: Any) -> Source:
    content = small_yaml(annotations={"hub": hub, "label": "label"} | annotations, splits=splits, videos=None)
    return sources.read(Dataset.model_validate(content))


def message(hub: dict[str, Any], **annotations: Any) -> str:
    with pytest.raises(RbftError) as raised:
        read(hub, **annotations)
    return str(raised.value)


def saved(path: str = "saved", **splits: list[dict[str, Any]]) -> dict[str, Any]:
    """Save splits of rows with `save_to_disk`; labels are of classes, videos of datasets' own kind or paths."""
    first = next(iter(splits.values()))[0]
    video = Value("string") if isinstance(first["video"], str) else Video()
    kinds = {"label": ClassLabel(names=["calm", "busy"]), "video": video}
    features = Features({name: kinds.get(name, Value("float64")) for name in first})
    DatasetDict({s: datasets.Dataset.from_list(rows, features=features) for s, rows in splits.items()}).save_to_disk(
        path
    )
    return {"path": path}


def test_classes_become_names_and_bytes_become_files_once() -> None:
    videos = [b"one", b"two", b"one"]
    rows = [{"video": {"bytes": v, "path": "x.WEBM"}, "label": i % 2, "score": i + 0.5} for i, v in enumerate(videos)]
    hub = saved(train=rows, validation=[{"video": b"three", "label": 0, "score": 2.0}], test=rows[:1])
    source = read(hub)
    names = [f"data/mine/source/{hashlib.sha256(v).hexdigest()[:20]}" for v in (*videos, b"three")]
    assert [(row.where, row.split, row.cells) for row in source.rows] == [
        ("train row 1", "train", {"video": f"{names[0]}.webm", "label": "calm", "score": "0.5", "id": "train-0"}),
        ("train row 2", "train", {"video": f"{names[1]}.webm", "label": "busy", "score": "1.5", "id": "train-1"}),
        ("train row 3", "train", {"video": f"{names[2]}.webm", "label": "calm", "score": "2.5", "id": "train-2"}),
        ("validation row 1", "val", {"video": f"{names[3]}.mp4", "label": "calm", "score": "2", "id": "validation-0"}),
        ("test row 1", "test", {"video": f"{names[0]}.webm", "label": "calm", "score": "0.5", "id": "test-0"}),
    ]
    assert (source.name, source.videos, source.notes) == ("saved", "{video}", ())
    written = {path.name: path for path in Path("data/mine/source").iterdir()}
    assert [written[Path(f"{names[i]}.webm").name].read_bytes() for i in (0, 1)] == [b"one", b"two"]
    assert len(written) == 3
    before = {path: path.stat().st_mtime_ns for path in written.values()}
    assert read(hub) == source
    assert {path: path.stat().st_mtime_ns for path in Path("data/mine/source").iterdir()} == before


def test_a_path_is_used_as_it_is_and_a_missing_class_is_empty() -> None:
    rows = [{"video": "/far/a.mp4", "label": -1}, {"video": "b.mp4", "label": None}]
    cells = [row.cells for row in read(saved(train=rows, test=rows)).rows[:2]]
    assert cells == [
        {"video": "/far/a.mp4", "label": "", "id": "train-0"},
        {"video": "b.mp4", "label": "", "id": "train-1"},
    ]


def test_a_folder_of_files_is_read_with_its_columns_of_ids_and_paths() -> None:
    Path("repo").mkdir()
    for split in ("train", "test"):
        Path(f"repo/{split}.csv").write_text(f"name,file,label\n7,{split}.mp4,calm\n")
    source = read({"path": "repo", "video": "file"}, id="name")
    assert [(row.split, row.cells) for row in source.rows] == [
        ("train", {"name": "7", "file": "train.mp4", "label": "calm"}),
        ("test", {"name": "7", "file": "test.mp4", "label": "calm"}),
    ]
    assert source.videos == "{file}"


def test_a_folder_of_videos_by_class_is_read(here: Path) -> None:
    for name in ("train/calm/a.mp4", "train/busy/b.mp4", "test/calm/c.mp4"):
        Path("repo", name).parent.mkdir(parents=True, exist_ok=True)
        Path("repo", name).write_bytes(b"x")
    rows = read({"path": "repo"}).rows
    assert sorted((row.split, row.cells["label"], row.cells["video"]) for row in rows) == [
        ("test", "calm", str(here / "repo/test/calm/c.mp4")),
        ("train", "busy", str(here / "repo/train/busy/b.mp4")),
        ("train", "calm", str(here / "repo/train/calm/a.mp4")),
    ]
    assert not Path("data").exists()


def test_which_split_is_which_is_said_by_name_by_the_yaml_or_by_ratio() -> None:
    rows = [{"video": "a.mp4", "label": 0}]
    hub = saved(train=rows, dev=rows, extra=rows)
    problem = "its splits are train, dev, extra: say which train and test, in annotations.hub.splits or in splits"
    assert message(hub) == f"saved: 1 problem\n  - {problem}"
    named = read(hub | {"splits": {"train": "extra", "test": "dev"}}).rows
    assert [(row.where, row.split) for row in named] == [("extra row 1", "train"), ("dev row 1", "test")]
    shared = read(hub, splits=SHARES).rows
    assert [(row.where, row.split) for row in shared] == [
        ("train row 1", None),
        ("dev row 1", None),
        ("extra row 1", None),
    ]
    assert message(hub | {"splits": {"train": "trian", "test": "dev"}}) == (
        "saved: 1 problem\n  - annotations.hub.splits: there is no split 'trian'; there are: train, dev, extra"
    )


def test_what_is_wrong_with_a_hub_dataset_is_said() -> None:
    hub = saved(train=[{"video": "a.mp4", "label": 0}], test=[{"video": "a.mp4", "label": 0}])
    assert message(hub | {"video": "clip"}) == (
        "saved: 2 problems\n"
        "  - split 'train' has no column 'clip' (annotations.hub.video); it has: video, label\n"
        "  - split 'test' has no column 'clip' (annotations.hub.video); it has: video, label"
    )
    Path("empty").mkdir()
    for path in ("empty", "nobody/nothing"):
        assert message({"path": path}).startswith(f"{path}: cannot be read with `datasets` (annotations.hub): ")
