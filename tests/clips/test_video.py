"""Headers of videos, parts of videos, and canonical clips read back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from counting_video import EVEN, SETTINGS, counting

from rbft_plugin.clips.canonical import make_clip
from rbft_plugin.clips.video import Part, VideoError, load_clip, probe


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder of files that are no videos."""
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is no video\n")
    (tmp_path / "folder.mp4").mkdir()
    whole = counting(tmp_path / "whole.mp4", EVEN).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: whole.index(b"moov") - 4])  # its index was at its end
    (tmp_path / "cut_later.mp4").write_bytes(whole[: whole.index(b"moov") + 200])
    with av.open(str(tmp_path / "audio.mp4"), "w") as container:
        stream: Any = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    return tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.mp4", "does not exist"),
        ("folder.mp4", "is not a file"),
        ("empty.mp4", "is empty"),
        ("text.mp4", "cannot be opened (Invalid data found when processing input)"),
        ("cut.mp4", "cannot be opened (Invalid data found when processing input)"),
        ("cut_later.mp4", "has no video stream"),
        ("audio.mp4", "has no video stream"),
    ],
)
def test_probe_says_what_is_wrong_with_a_file(broken: Path, name: str, message: str) -> None:
    with pytest.raises(VideoError) as error:
        probe(broken / name)
    assert str(error.value) == message


@pytest.mark.parametrize("name", ["gone.mp4", "empty.mp4", "text.mp4", "cut.mp4", "audio.mp4"])
def test_make_says_the_same_and_leaves_nothing(broken: Path, name: str) -> None:
    with pytest.raises(VideoError) as probe_error:
        probe(broken / name)
    with pytest.raises(VideoError, match=re.escape(str(probe_error.value))):
        make_clip(broken / name, broken / "clips/clip.mp4", SETTINGS)
    assert not (broken / "clips").exists()


def test_load_refuses_a_clip_that_holds_fewer_frames_than_its_header_says(tmp_path: Path) -> None:
    video = counting(tmp_path / "a.mp4", EVEN)
    make_clip(video, tmp_path / "clip.mp4", SETTINGS)
    with av.open(str(video)) as source, av.open(str(tmp_path / "a.mkv"), "w") as target:  # mkv states no count
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert load_clip(tmp_path / "clip.mp4")[1].frames == 8
    with pytest.raises(VideoError) as error:
        load_clip(tmp_path / "a.mkv")
    assert str(error.value) == "holds 80 frames where its header says 0; delete it and prepare again"


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        (Part(), Part(), True),
        (Part(0, 5), Part(5, 9), False),
        (Part(0, 5), Part(4.9, 9), True),
        (Part(3), Part(0, 3), False),
        (Part(3), Part(0, 4), True),
        (Part(3), Part(5, 6), True),
    ],
)
def test_parts_of_a_video_that_share_a_moment(first: Part, second: Part, shared: bool) -> None:
    assert first.overlaps(second) is second.overlaps(first) is shared
