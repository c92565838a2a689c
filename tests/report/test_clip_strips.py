"""browser: which videos the page shows, and their strips of frames."""

from __future__ import annotations

import base64
import io
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from builders import prepared_sample, write_prepared, write_video
from PIL import Image

from rbft_plugin.clips.canonical import write_clip
from rbft_plugin.report import clip_strips as browser
from rbft_plugin.report.clip_strips import Video


def video(clip: Path, name: str = "v") -> Video:
    return Video(name, "test", "calm", clip, "source.mp4", 4.0)


def picture(strip: str | None) -> Image.Image:
    assert strip
    return Image.open(io.BytesIO(base64.b64decode(strip)))


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    """Ten frames, each a little lighter than the one before, 60 x 40 pixels."""
    import av

    path = tmp_path / "grey.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=2, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 60, 40, "yuv420p"
        for number in range(10):
            frame = np.full((40, 60, 3), 20 + 20 * number, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_strip_has_evenly_spaced_frames_in_order(grey: Path) -> None:
    made = picture(browser.strip(grey, 4, 40, 90))
    assert made.size == (246, 40)
    greys = [np.asarray(made.convert("L"))[10:30, 62 * n + 15 : 62 * n + 45].mean() for n in range(4)]
    assert greys == pytest.approx([20 + 20 * frame for frame in (1, 3, 6, 8)], abs=6)


def test_of_a_clip_of_key_frames_those_shown_alone_are_decoded_and_the_strip_is_the_same(tmp_path: Path) -> None:
    frames = np.stack([np.full((56, 56, 3), 20 + 20 * number, dtype=np.uint8) for number in range(10)])
    write_clip(tmp_path / "clip.mp4", frames, Fraction(2), 1)
    made = np.asarray(picture(browser.strip(tmp_path / "clip.mp4", 4, 56, 95)).convert("L"))
    greys = [made[10:40, 58 * n + 15 : 58 * n + 45].mean() for n in range(4)]
    assert greys == pytest.approx([20 + 20 * frame for frame in (1, 3, 6, 8)], abs=3)


def test_a_strip_is_never_larger_than_the_clip_and_has_no_more_frames(grey: Path) -> None:
    assert picture(browser.strip(grey, 99, 500, 80)).size == (618, 40)
    assert picture(browser.strip(grey, 2, 20, 80)).size == (62, 20)


def test_what_is_no_video_has_no_strip(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    assert browser.strip(tmp_path / "text.mp4", 4, 40, 80) is None


def test_few_videos_have_the_best_strips_and_missing_ones_are_said(grey: Path, tmp_path: Path) -> None:
    made = browser.strips([video(grey, "a"), video(tmp_path / "gone.mp4", "b")])
    assert list(made.of) == ["a"]
    assert picture(made.of["a"]).size == (494, 40)
    assert made.said == (
        "Frames: at most 8 of each clip, 112 pixels high, of the clips that the models saw. "
        "Without frames, since their clip is missing: 1."
    )
    assert browser.strips([video(tmp_path / "gone.mp4")]) == browser.Strips(
        {}, "Without frames, since their clip is missing: 1."
    )


def test_strips_become_smaller_so_that_all_fit_and_end_where_they_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_video(tmp_path / "clip.mp4", size=(112, 112))
    shown = [video(clip, str(number)) for number in range(10)]
    best, third = (len(browser.strip(clip, *browser.TIERS[place]) or "") for place in (0, 2))
    monkeypatch.setattr(browser, "BUDGET", 10 * third)
    made = browser.strips(shown)
    assert third < best and {len(one) for one in made.of.values()} == {third}
    assert "at most 8 of each clip, 80 pixels high" in made.said
    assert made.said.endswith("They are few and small so that this file stays small.")

    least = len(browser.strip(clip, *browser.TIERS[-1]) or "")
    monkeypatch.setattr(browser, "BUDGET", 4 * least)
    made = browser.strips(shown)
    assert list(made.of) == [str(number) for number in range(6)]  # the first of them, up to half as much again
    assert made.said.endswith(" Without frames, since unreadable or beyond the file's size: 4.")


def test_test_samples_come_first_then_training_samples_with_a_rationale(ws: Path) -> None:
    row = prepared_sample

    def lines(path: str, rows: list[dict[str, object]]) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")

    def rationale(name: str, text: str) -> dict[str, object]:
        return prepared_sample(name).training_row("?", text).as_json()

    write_prepared(test=[row("t", "calm")], train=[row("a", None), row("b", "calm"), row("c", "calm")])
    test = Video("t", "test", "calm", Path("data/mine/clips/t.mp4"), "raw/t.mp4", 4)
    assert browser.videos("mine", None) == [test]
    lines("data/mine/rationale.jsonl", [rationale("a", "Shared.")])
    assert [(v.id, v.rationale) for v in browser.videos("mine", None)] == [("t", None), ("a", "Shared.")]
    lines("runs/r/rows/rationale.jsonl", [rationale("b", "It is calm.")])
    dropped = [{"id": "c", "reason": "copied", "text": "Describe it."}, {"id": "a", "reason": "empty", "text": None}]
    lines("runs/r/rows/rationale.dropped.jsonl", dropped)
    assert browser.videos("mine", Path("runs/r")) == [
        test,
        Video("a", "train", None, Path("data/mine/clips/a.mp4"), "raw/a.mp4", 4, "(dropped: empty)"),
        Video("b", "train", "calm", Path("data/mine/clips/b.mp4"), "raw/b.mp4", 4, "It is calm."),
        Video("c", "train", "calm", Path("data/mine/clips/c.mp4"), "raw/c.mp4", 4, "(dropped: copied) Describe it."),
    ]
    folded = [row("t", "calm", fold=0), row("a", None)]  # with folds, what is tested trains other models
    write_prepared(test=folded[:1], train=folded)
    lines("runs/r/rows/rationale.jsonl", [rationale("t", "It is calm."), rationale("a", "It is not.")])
    assert [(v.id, v.split, v.rationale) for v in browser.videos("mine", Path("runs/r"))] == [
        ("t", "test", "It is calm."),
        ("a", "train", "It is not."),
    ]
    write_prepared(test=[row("t", "calm")], train=[row("a", None), row("b", "calm"), row("c", "calm")])
    lines("runs/swept/base_model-x/rows/rationale.jsonl", [rationale("c", "Of a cell.")])
    assert [v.rationale for v in browser.videos("mine", Path("runs/swept"))] == [None, "Of a cell."]
