"""video_lookup: where a sample's video is, in real folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from rbft_plugin.data.video_lookup import VideoLookup


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("v").mkdir()


def find(path: str, *files: str) -> Path | str:
    for name in files:
        Path("v", name).touch()
    return VideoLookup().find(path)


@pytest.mark.parametrize(
    ("path", "files", "expected"),
    [
        ("v/a.mp4", ["a.mp4", "a.webm"], "v/a.mp4"),
        ("v/a.mp4", ["a.MP4", "b.mp4"], "v/a.MP4"),
        ("v/a.mp4", ["a.webm"], "v/a.webm"),
        ("v/a", ["a.MKV", "a.txt", "a.mp4.part"], "v/a.MKV"),
        ("v/a.b", ["a.b.mov", "a.mp4"], "v/a.b.mov"),  # .b is no extension
        ("v/a.b", ["a.mp4"], "v/a.b"),
        ("v/a", ["a"], "v/a"),
        ("v/a.mp4", ["A.mp4", "a.txt", "aa.mp4"], "v/a.mp4"),  # which is not there
        ("w/a.mp4", [], "w/a.mp4"),
        ("v/a.mp4/b", ["a.mp4"], "v/a.mp4/b"),
    ],
)
def test_a_video_is_found_by_its_name_whatever_its_extension(path: str, files: list[str], expected: str) -> None:
    assert find(path, *files) == Path(expected)


def test_a_video_in_the_current_or_the_home_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Path("a.avi").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (VideoLookup().find("a"), VideoLookup().find("~/a.mp4")) == (Path("a.avi"), tmp_path / "a.avi")


def test_several_videos_of_one_name_are_no_answer() -> None:
    assert find("v/a.avi", "a.mp4", "a.webm") == "several videos fit v/a.avi: a.mp4, a.webm; keep one of them"


def test_what_can_be_no_video_is_said() -> None:
    assert find("") == find("v/") == "its row names no video"
    assert find(f"v/{'a' * 300}.mp4") == f"v/{'a' * 98}: File name too long"


def test_each_folder_is_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    listed = []
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: listed.append(folder) or real(folder))
    lookup = VideoLookup()
    assert [lookup.find(f"v/{n}.mp4") for n in range(100)] == [Path(f"v/{n}.mp4") for n in range(100)]
    assert listed == ["v"]
