"""The clips of many samples, made by processes side by side.

Processes and not threads: a broken video can end the process that decodes it, which must cost that video alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from rbft_plugin.clips.canonical import make_clip, name_of, settings_key, source_hash
from rbft_plugin.clips.video import Clip, Part, VideoError, probe, require_file
from rbft_plugin.data import clip_index
from rbft_plugin.data.annotations import Sample
from rbft_plugin.data.clip_index import MadeClip
from rbft_plugin.data.prepared import DataFolder
from rbft_plugin.errors import RbftError
from rbft_plugin.spec.dataset import ClipSettings, Dataset

Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]  # (items, their number, what they are)
PARTIAL_AGE = 3600  # seconds without a change after which a half-written file has nobody who writes it


@dataclass(frozen=True)
class Shard:
    """The `number`th of `count` processes that share the clips of one dataset (1 is the first)."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "2/4"; raises RbftError."""
        number, slash, count = text.partition("/")
        if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise RbftError(f"--shard {text}: must be i/n with 1 <= i <= n, such as 1/4, 2/4, 3/4 and 4/4")
        return cls(int(number), int(count))

    def of(self, samples: list[Sample]) -> list[Sample]:
        """Its samples: every `count`th video, with all that are parts of it."""
        place = {video: i for i, video in enumerate(dict.fromkeys(s.video for s in samples))}
        return [s for s in samples if place[s.video] % self.count == self.number - 1]


@dataclass(frozen=True)
class Task:
    """A clip to make; `video` is as the journal names it, relative to `base`."""

    base: str
    video: str
    part: Part
    folder: str
    settings: ClipSettings
    overwrite: bool


@dataclass(frozen=True)
class Clips:
    """The clip of each sample, or the reason why there is none, in the samples' order; and how many were new."""

    of_samples: list[MadeClip | str]
    new: int


def make_clips(
    dataset: Dataset,
    samples: list[Sample],
    progress: Progress,
    workers: int | None = None,
    overwrite: bool = False,
    shard: Shard | None = None,
) -> Clips:
    """The clips of the samples (of the shard's), made where they are not there yet."""
    samples = shard.of(samples) if shard else samples
    folder = DataFolder(dataset.name)
    known, settings = clip_index.read(folder), settings_key(dataset.clips)
    of: dict[tuple[str, Part], MadeClip | str | None] = {}
    for sample in samples:
        place = (sample.video.as_posix(), sample.part)
        if place not in of:
            of[place] = _known(folder, sample, known, settings, overwrite)
    tasks = [
        Task(os.getcwd(), video, part, folder.clips.as_posix(), dataset.clips, overwrite)
        for (video, part), made in of.items()
        if made is None
    ]
    new = 0
    if tasks:
        _remove_partial(folder.clips)
        name = f"{shard.number}-of-{shard.count}" if shard else "all"
        with closing(clip_index.Writer(folder, name)) as writer:
            for task, made in progress(_side_by_side(tasks, workers), len(tasks), f"clips of {dataset.name}"):
                of[task.video, task.part] = made
                if isinstance(made, MadeClip):
                    writer.add(made)
                    new += 1
    done = [of[s.video.as_posix(), s.part] for s in samples]
    return Clips([m for m in done if m is not None], new)


def _known(
    folder: DataFolder, sample: Sample, known: dict[clip_index.Key, MadeClip], settings: str, overwrite: bool
) -> MadeClip | str | None:
    """The sample's clip if it is there as the journal says; the reason if there is no video; None if it is to make."""
    path = sample.video.as_posix()
    try:
        stat = os.stat(path)
        made = known.get((path, stat.st_size, stat.st_mtime_ns, sample.part, settings))
        if made and not overwrite and os.stat(folder.clips / made.clip).st_size == made.size:
            return made
    except OSError:  # one of the two is not there
        pass
    try:
        require_file(sample.video)
    except VideoError as error:
        return str(error)
    return None


def _remove_partial(folder: Path) -> None:
    for partial in folder.glob(".*.part.mp4"):
        if time.time() - partial.stat().st_mtime > PARTIAL_AGE:
            partial.unlink(missing_ok=True)


def _side_by_side(tasks: list[Task], workers: int | None) -> Iterator[tuple[Task, MadeClip | str]]:
    """Each task with its clip or the reason why there is none, as they are done; each process has one at a time."""
    from multiprocessing import get_context

    # No copies of this process, with its threads. A forkserver has the decoders loaded, but its socket lies in TMPDIR
    # (such as a cluster gives), and a socket's path has at most 107 bytes, of which Python adds 32.
    context: Any = get_context("forkserver" if len(os.fsencode(gettempdir())) < 75 else "spawn")
    context.set_forkserver_preload(["__main__", "rbft_plugin.clips.decode"])
    waiting, running = iter(tasks), {}  # connection -> process and its task

    def start() -> tuple[Connection, Any]:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        return ours, process

    def give(connection: Connection, process: Any) -> None:
        if task := next(waiting, None):
            connection.send(task)
            running[connection] = process, task
        else:
            connection.close()  # which ends it

    try:
        for _ in range(min(workers or os.cpu_count() or 1, len(tasks))):
            give(*start())
        while running:
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                process, task = running.pop(ready)
                try:
                    made = ready.recv()
                except (EOFError, ConnectionError):
                    process.join()
                    made = f"ends the process that decodes it (exit status {process.exitcode})"
                    give(*start())
                else:
                    give(ready, process)
                if isinstance(made, RbftError):
                    raise made
                yield task, made
    finally:
        for process, _ in running.values():
            process.terminate()


def _work(tasks: Connection) -> None:
    """What each process does; it ends with the process that gives it tasks, however that ends."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches it too; the other process ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        while True:
            tasks.send(_make(tasks.recv()))
    except (EOFError, ConnectionError):
        return


@lru_cache(maxsize=16)
def _source_hash(video: Path, size: int, mtime_ns: int) -> str:
    """Of a video of which many parts are samples, read once."""
    return source_hash(video)


def _make(task: Task) -> MadeClip | str | RbftError:
    video = Path(task.base, task.video)
    try:
        require_file(video)
        stat = video.stat()
        source = _source_hash(video, stat.st_size, stat.st_mtime_ns)
        name = name_of(source, task.settings, task.part)
        target = Path(task.base, task.folder, name)
        clip = None if task.overwrite else _whole(target)
        clip = clip or make_clip(video, target, task.settings, task.part)
        size = target.stat().st_size
    except VideoError as error:
        return str(error)
    except Exception as error:  # such as a full disk: not the video's fault, and the others would fare no better
        return RbftError(f"the clip of {task.video} cannot be made: {type(error).__name__}: {error}")
    return MadeClip(
        task.video,
        stat.st_size,
        stat.st_mtime_ns,
        task.part,
        settings_key(task.settings),
        source,
        name,
        clip.frames,
        clip.width,
        clip.height,
        clip.fps,
        size,
    )


def _whole(file: Path) -> Clip | None:
    """A clip, if it is there and can be opened (its index is at its end); a copy of a workspace may have cut it off."""
    try:
        clip = probe(file)
    except VideoError:
        return None
    return clip if clip.frames else None
