"""What a video's packets say of its frames: times, streams, and whether the file is whole."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
import pytest
from counting_video import EVEN, MIDDLES, SETTINGS, STEP, counting, shown

from rbft_plugin.clips.canonical import make_clip, read_frames
from rbft_plugin.clips.packets import read_track
from rbft_plugin.clips.video import VideoError, probe


def test_frames_that_an_edit_list_hides_are_not_there(tmp_path: Path) -> None:
    whole = counting(tmp_path / "whole.mp4", EVEN, "libx264", g="20", bf="2")
    with av.open(str(whole)) as source, av.open(str(tmp_path / "cut.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        shift = round(2.5 / source.streams.video[0].time_base)
        for packet in source.demux(video=0):
            if packet.dts is not None and packet.pts >= shift - shift // 5:  # from the key frame at 2 s
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                target.mux(packet)
    track = read_track(tmp_path / "cut.mp4")
    frames, duration = read_frames(tmp_path / "cut.mp4", SETTINGS)
    assert (len(track.starts), track.even) == (54, False)  # the list ends with the last one
    assert (shown(frames), duration) == ([28, 35, 41, 48, 55, 62, 68, 75], pytest.approx(5.4, abs=0.02))


def test_a_video_without_its_first_key_frame_begins_with_the_next(tmp_path: Path) -> None:
    whole = counting(tmp_path / "whole.mp4", EVEN, "libx264", g="20")
    with av.open(str(whole)) as source, av.open(str(tmp_path / "cut.ts"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if number >= 5 and packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    frames, duration = read_frames(tmp_path / "cut.ts", SETTINGS)
    assert (shown(frames)[0], shown(frames)[-1], round(duration, 1)) == (23, 76, 6.0)


def test_the_best_stream_is_read_and_no_cover(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "two.mkv"), "w") as container:
        streams = [container.add_stream("libx264", rate=10) for _ in range(2)]
        for stream, side in zip(streams, (64, 128), strict=True):
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
        for i in range(80):
            for stream, side, grey in zip(streams, (64, 128), (201, STEP * i), strict=True):
                frame = av.VideoFrame.from_ndarray(np.full((side, side, 3), grey, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    best = probe(tmp_path / "two.mkv")
    track = read_track(tmp_path / "two.mkv")
    assert not track.even  # decord cannot be told which one
    frames, _ = read_frames(tmp_path / "two.mkv", SETTINGS)
    assert shown(frames) == (MIDDLES if best.width == 128 else [67] * 8)


def test_a_video_that_starts_late_is_measured_from_its_first_frame(tmp_path: Path) -> None:
    video = counting(tmp_path / "late.mkv", [5000 + t for t in EVEN])
    frames, duration = read_frames(video, SETTINGS)
    assert (shown(frames), round(duration, 3)) == (MIDDLES, 8.0)


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.avi", "a.flv", "fast.mp4"])
def test_a_video_that_is_cut_off_is_noticed_where_its_header_says_its_length(tmp_path: Path, name: str) -> None:
    codec = {"a.webm": "libvpx-vp9", "a.avi": "mpeg4"}.get(name, "libx264")
    fast = {"movflags": "faststart"} if name == "fast.mp4" else {}  # its index is at its start
    with av.open(str(tmp_path / name), "w", options=fast) as container:
        stream = container.add_stream(codec, rate=10, options={"g": "5"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for picture in np.random.default_rng(0).integers(0, 255, (80, 64, 64, 3), np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    content = (tmp_path / name).read_bytes()
    assert read_frames(tmp_path / name, SETTINGS)[1] == pytest.approx(8.0, abs=0.2)
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(VideoError) as error:
        make_clip(tmp_path / name, tmp_path / "clip.mp4", SETTINGS)
    seconds = r"is cut off: its header says [78]\.\d s, and it holds [345]\.\d s"
    bytes_ = f"is cut off: its header says {len(content)} bytes, and it has {len(content) // 2}"
    assert re.fullmatch(bytes_ if name == "a.avi" else seconds, str(error.value))
    assert not (tmp_path / "clip.mp4").exists()


@pytest.mark.parametrize("name", ["one.mkv", "one.mp4", "one.ts"])
def test_a_video_of_one_frame_lasts_as_long_as_its_frame_rate_says(tmp_path: Path, name: str) -> None:
    video = counting(tmp_path / name, [0])
    frames, duration = read_frames(video, SETTINGS)
    assert shown(frames) == [0, 0] and 0 < duration <= 0.1
