"""clip_workers: which clips are made, by which processes, and what is left when one of them ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from builders import (
    FIVE_SAMPLES,
    clip_of,
    clip_times,
    prepare,
    prepare_mine,
    read_jsonl,
    small_dataset,
    small_yaml,
    write_csv,
    write_video,
    write_yaml,
)

from rbft_plugin import files
from rbft_plugin.clips.video import Part, load_clip
from rbft_plugin.data import clip_workers
from rbft_plugin.data.clip_index import MadeClip
from rbft_plugin.data.clip_workers import ClipJob, Shard, VideoPart
from rbft_plugin.data.prepared import read_split
from rbft_plugin.errors import RbftError
from rbft_plugin.spec import dataset


def index_lines() -> list[str]:
    return [line for p in sorted(Path("data/mine/sources").iterdir()) for line in p.read_text().splitlines()]


def test_preparing_again_makes_no_clip_anew_and_the_same_rows(ws: Path) -> None:
    small_dataset(per_split=FIVE_SAMPLES)
    first, times = prepare_mine(), clip_times()
    assert len(times) == 5
    assert prepare_mine() == first
    assert clip_times() == times


def test_a_clip_is_made_anew_only_for_the_source_that_changed(ws: Path) -> None:
    small_dataset(per_split=FIVE_SAMPLES)
    first, times = prepare_mine(), clip_times()
    write_video(Path("mine_videos/test0.mp4"), seconds=6, seed=77)
    second = prepare_mine()
    fresh = set(clip_times()) - set(times)
    assert fresh == {clip_of("test")}
    assert {p: t for p, t in clip_times().items() if p in times} == times
    assert first["sha256"]["train.jsonl"] == second["sha256"]["train.jsonl"]
    assert first["sha256"]["test.jsonl"] != second["sha256"]["test.jsonl"]


def test_a_source_of_another_time_but_the_same_content_keeps_its_clip(ws: Path) -> None:
    small_dataset(per_split=FIVE_SAMPLES)
    first, times = prepare_mine(), clip_times()
    os.utime("mine_videos/test0.mp4", ns=(0, 0))
    second = prepare_mine()
    assert clip_times() == times
    assert first["sha256"] == second["sha256"]


def test_other_clip_settings_give_other_clips(ws: Path) -> None:
    small_dataset(per_split=FIVE_SAMPLES)
    before = prepare_mine()
    write_yaml(small_yaml(clips={"frames": 4, "max_fps": 2, "max_pixels": 3136, "multiple": 28}))
    manifest = prepare_mine()
    assert (before["most_frames"], manifest["most_frames"]) == (8, 4)
    assert {r.meta.frames for r in read_split("mine", "train")} == {4}


def test_videos_of_the_same_content_share_a_clip(ws: Path) -> None:
    rows = small_dataset(per_split=FIVE_SAMPLES)
    copies = [rows[0] | {"id": f"copy{i}"} for i in range(6)]
    write_csv("mine.csv", [*copies, *rows])
    for row in copies:
        shutil.copy("mine_videos/train0.mp4", f"mine_videos/{row['id']}.mp4")
    prepare_mine()
    assert len({row["video"] for row in read_jsonl("data/mine/train.jsonl")}) == 2
    assert len(clip_times()) == 5


def test_a_clip_that_was_deleted_is_made_again(ws: Path) -> None:
    small_dataset(per_split=FIVE_SAMPLES)
    times = prepare_mine() and clip_times()
    gone = next(iter(times))
    gone.unlink()
    prepare_mine()
    assert set(clip_times()) == set(times)


def test_a_clip_that_was_cut_off_is_made_again(ws: Path) -> None:
    small_dataset(per_split=FIVE_SAMPLES)
    prepare_mine()
    clip = sorted(Path("data/mine/clips").iterdir())[0]
    whole = clip.read_bytes()
    clip.write_bytes(whole[:100])
    prepare_mine()
    assert clip.read_bytes() == whole


def test_all_clips_are_made_anew_if_asked(ws: Path) -> None:
    small_dataset(per_split=FIVE_SAMPLES)
    first, times = prepare_mine(), clip_times()
    assert prepare_mine(overwrite=True) == first
    assert {p for p, t in clip_times().items() if t == times[p]} == set()


def start(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-c", "from rbft_plugin.cli.main import main; main()", "prepare", "mine", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_four_shards_at_once_and_then_the_rows(ws: Path) -> None:
    small_dataset(per_split={"train": 6, "val": 1, "test": 5})
    running = [start("--shard", f"{i}/4", "--workers", "1") for i in range(1, 5)]
    outputs = [process.communicate()[0] for process in running]
    assert [p.returncode for p in running] == [0] * 4, outputs
    assert "shard 1/4: 3 samples, 3 new clips, 0 videos that cannot be used" in outputs[0]
    assert sorted(p.name for p in Path("data/mine").iterdir()) == ["clips", "sources"]
    assert sorted(p.name for p in Path("data/mine/sources").iterdir()) == [f"{i}-of-4.jsonl" for i in range(1, 5)]
    assert len(index_lines()) == 12
    times = clip_times()
    result = prepare(dataset.load("mine"))
    assert (result.new, len(times)) == (0, 12) and clip_times() == times


def test_two_at_the_same_time_do_no_harm(ws: Path) -> None:
    small_dataset(per_split={"train": 4, "val": 2, "test": 4})
    running = [start("--workers", "1") for _ in range(2)]
    outputs = [process.communicate()[0] for process in running]
    assert [p.returncode for p in running] == [0, 0], outputs
    assert len(clip_times()) == 10
    assert all(json.loads(line) for line in index_lines())
    assert prepare(dataset.load("mine")).new == 0


def test_one_that_is_killed_leaves_nothing_half_and_nobody_behind_and_goes_on(ws: Path) -> None:
    rows = small_dataset(per_split={"train": 3, "val": 1, "test": 2})
    for seed, row in enumerate(rows):  # larger, so that there is time
        write_video(Path(f"mine_videos/{row['id']}.mp4"), 4, 12, (320, 240), seed=seed)
    for round_ in range(2):
        process = start("--workers", "2")
        deadline = time.monotonic() + 30
        before = len(index_lines()) if Path("data/mine/sources").exists() else 0
        while process.poll() is None and time.monotonic() < deadline:
            if Path("data/mine/sources").exists() and len(index_lines()) > before + round_:
                break
            time.sleep(0.002)
        process.kill()
        process.communicate()
        for line in index_lines()[:before]:
            clip = Path("data/mine/clips", json.loads(line)["clip"])
            assert clip.stat().st_size == json.loads(line)["size"]
        for clip in Path("data/mine/clips").glob("[!.]*"):
            assert len(load_clip(clip)[0]) == 8
    mine = str(ws.resolve())
    deadline = time.monotonic() + 10
    while (left := processes_in(mine)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    times = {p: t for p, t in clip_times().items() if not p.name.startswith(".")}
    prepare_mine()  # it starts helpers of this process
    assert {p: t for p, t in clip_times().items() if p in times} == times
    assert len(list(Path("data/mine/clips").glob("[!.]*"))) == len({r["id"] for r in rows})


def processes_in(folder: str) -> list[str]:
    """Command lines of other processes that work in a folder."""
    command_lines = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "cwd") == folder and int(entry.name) != os.getpid():
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                command_lines.append(line)
        except OSError:
            continue
    return command_lines


def test_a_video_that_ends_its_process_costs_that_video_alone(ws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_dataset(per_split=FIVE_SAMPLES, max_missing=1)
    site = ws / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(  # as a decoder that a broken video crashes
        "import os\nimport av\nopen_ = av.open\n"
        "av.open = lambda file, *a, **k: os.abort() if 'val0' in str(file) else open_(file, *a, **k)\n"
    )
    script = (
        "from rbft_plugin.data.prepare import prepare\nfrom rbft_plugin.spec import dataset\n"
        "if __name__ == '__main__':\n"
        "    m = prepare(dataset.load('mine'), lambda i, n, t: i).manifest\n"
        "    print([(s.id, s.reason) for s in m.missing.samples])\n"
    )
    (ws / "script.py").write_text(script)
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True)
    assert done.stdout == "[('val0', 'ends the process that decodes it (exit status -6)')]\n", done.stderr
    assert len(clip_times()) == 4


def test_a_long_path_of_temporary_files_is_no_obstacle(ws: Path) -> None:
    small_dataset(per_split=FIVE_SAMPLES)
    folder = ws / ("t" * 100)
    folder.mkdir()
    script = (
        "from rbft_plugin.data.prepare import prepare\nfrom rbft_plugin.spec import dataset\n"
        "if __name__ == '__main__':\n"
        "    print(prepare(dataset.load('mine'), lambda i, n, t: i).new)\n"
    )
    (ws / "script.py").write_text(script)
    environment = os.environ | {"TMPDIR": str(folder)}
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, env=environment)
    assert done.stdout == "5\n", done.stderr


def test_a_video_of_many_parts_is_hashed_once(ws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video, hashed = write_video(Path("long.mp4"), seconds=4), []
    os.utime(video, (1, 1))  # the hash of a file that was just written is not kept
    monkeypatch.setattr(files, "sha256", lambda path: hashed.append(path) or "x" * 64)
    settings = dataset.ClipSettings(frames=4, max_pixels=3136)
    parts = [Part(start, start + 1) for start in (0, 1, 2)]

    def job(part: Part) -> ClipJob:
        return ClipJob(ws, VideoPart(Path(video.name), part), Path("clips"), settings, False)

    made = [clip_workers._run(job(part)) for part in parts]
    assert len({m.name for m in made if isinstance(m, MadeClip)}) == 3
    assert hashed == [ws / "long.mp4"]
    os.utime(video, ns=(0, 0))
    clip_workers._run(job(parts[0]))
    assert len(hashed) == 2  # it may be another video now


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/4"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RbftError) as error:
        Shard.parse(text)
    assert str(error.value) == f"--shard {text}: must be i/n with 1 <= i <= n, such as 1/4, 2/4, 3/4 and 4/4"


def test_half_written_files_of_long_ago_are_removed_and_those_of_others_stay(ws: Path) -> None:
    small_dataset(per_split=FIVE_SAMPLES)
    folder = Path("data/mine/clips")
    folder.mkdir(parents=True)
    for name in (".old.part.mp4", ".new.part.mp4"):
        (folder / name).write_bytes(b"half")
    os.utime(folder / ".old.part.mp4", (0, 0))
    result = prepare(dataset.load("mine"))
    assert [p.name for p in folder.glob(".*")] == [".new.part.mp4"] and result.unused == 1
