"""Makes the clips of many samples in processes side by side.

They are processes and not threads, because a broken video can crash its decoder. Only that video must be lost then.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import gettempdir
from typing import Any, NamedTuple

from rbft_plugin import files
from rbft_plugin.clips.canonical import clip_name, make_clip, settings_key
from rbft_plugin.clips.video import Clip, Part, VideoError, probe, require_file
from rbft_plugin.data import clip_index
from rbft_plugin.data.annotations import Sample
from rbft_plugin.data.clip_index import ClipKey, MadeClip
from rbft_plugin.data.prepared import DataFolder
from rbft_plugin.errors import RbftError
from rbft_plugin.spec.dataset import ClipSettings, Dataset

Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]  # (items, their number, what they are)
PARTIAL_AGE = 3600  # seconds; no process writes a partial file any more that is so old


@dataclass(frozen=True)
class Shard:
    """The part of a dataset's clips that process `number` of `count` makes. The first process has number 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard that a text such as "2/4" names. Raises RbftError."""
        number, slash, count = text.partition("/")
        if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise RbftError(f"--shard {text}: must be i/n with 1 <= i <= n, such as 1/4, 2/4, 3/4 and 4/4")
        return cls(int(number), int(count))

    def of(self, samples: list[Sample]) -> list[Sample]:
        """The samples of this shard: those of every `count`th video, with all parts of it."""
        position = {video: i for i, video in enumerate(dict.fromkeys(s.video for s in samples))}
        return [s for s in samples if position[s.video] % self.count == self.number - 1]


class VideoPart(NamedTuple):
    """What one clip is made of. Several samples can share it."""

    video: Path
    part: Part


@dataclass(frozen=True)
class ClipJob:
    """A clip that a process is to make. Paths are relative to the workspace."""

    workspace: Path
    source: VideoPart
    clips_folder: Path
    settings: ClipSettings
    overwrite: bool


@dataclass(frozen=True)
class Clips:
    """The clip of each sample, or the reason why it has none, in the order of the samples; and how many are new."""

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
    """Make the clips of the samples, or of a shard of them. Existing clips are kept, unless `overwrite`."""
    samples = shard.of(samples) if shard else samples
    sources = [VideoPart(sample.video, sample.part) for sample in samples]
    folder, settings = DataFolder(dataset.name), settings_key(dataset.clips)
    index = {} if overwrite else clip_index.read(folder)
    results: dict[VideoPart, MadeClip | str] = {}
    jobs = []
    for source in dict.fromkeys(sources):
        if (result := _existing_result(source, folder.clips, index, settings)) is None:
            jobs.append(ClipJob(Path.cwd(), source, folder.clips, dataset.clips, overwrite))
        else:
            results[source] = result
    new = 0
    if jobs:
        _remove_old_partial_files(folder.clips)
        with clip_index.adding(folder, f"{shard.number}-of-{shard.count}" if shard else "all") as add_to_index:
            for job, result in progress(_run_side_by_side(jobs, workers), len(jobs), f"clips of {dataset.name}"):
                results[job.source] = result
                if isinstance(result, MadeClip):
                    add_to_index(result)
                    new += 1
    return Clips([results[source] for source in sources], new)


def _existing_result(
    source: VideoPart, clips_folder: Path, index: dict[ClipKey, MadeClip], settings: str
) -> MadeClip | str | None:
    """The clip if it exists as the index says; the reason if the video cannot be used; None if a clip must be made."""
    path = source.video.as_posix()
    try:
        video = os.stat(path)
        made = index.get(ClipKey(path, video.st_size, video.st_mtime_ns, source.part, settings))
        if made and os.stat(clips_folder / made.name).st_size == made.size:
            return made
    except OSError:  # the video or the clip does not exist
        pass
    try:
        require_file(source.video)
    except VideoError as error:
        return str(error)
    return None


def _remove_old_partial_files(folder: Path) -> None:
    for partial in folder.glob(".*.part.mp4"):
        if time.time() - partial.stat().st_mtime > PARTIAL_AGE:
            partial.unlink(missing_ok=True)


def _run_side_by_side(jobs: list[ClipJob], workers: int | None) -> Iterator[tuple[ClipJob, MadeClip | str]]:
    """Each job with its clip, or the reason why there is none, as soon as it is done. A process has one job at a time.

    Raises RbftError for what is not the fault of a video, such as a full disk.
    """
    from multiprocessing import get_context

    # Not fork, which would copy this process in the middle of its threads. A forkserver has the decoders loaded. Its
    # socket lies in TMPDIR, and the path of a socket has at most 107 bytes, of which Python adds 32.
    context: Any = get_context("forkserver" if len(os.fsencode(gettempdir())) < 75 else "spawn")
    context.set_forkserver_preload(["__main__", "rbft_plugin.clips.decode"])
    waiting = iter(jobs)
    running: dict[Connection, tuple[BaseProcess, ClipJob]] = {}

    def start() -> tuple[Connection, BaseProcess]:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        return ours, process

    def send_next_job(connection: Connection, process: BaseProcess) -> None:
        if job := next(waiting, None):
            connection.send(job)
            running[connection] = process, job
        else:
            connection.close()  # the process ends then

    try:
        for _ in range(min(workers or os.cpu_count() or 1, len(jobs))):
            send_next_job(*start())
        while running:
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                process, job = running.pop(connection)
                try:
                    result = connection.recv()
                except (EOFError, ConnectionError):
                    process.join()
                    result = f"ends the process that decodes it (exit status {process.exitcode})"
                    send_next_job(*start())
                else:
                    send_next_job(connection, process)
                if isinstance(result, RbftError):
                    raise result
                yield job, result
    finally:
        for process, _ in running.values():
            process.terminate()


def _work(jobs: Connection) -> None:
    """What each process does until the process that sends it jobs ends or closes the connection."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches this process too; the main process ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        while True:
            jobs.send(_run(jobs.recv()))
    except (EOFError, ConnectionError):
        return


def _run(job: ClipJob) -> MadeClip | str | RbftError:
    """Make the clip of a job, unless its file is complete already."""
    video, part = job.workspace / job.source.video, job.source.part
    try:
        require_file(video)
        stat = video.stat()
        source = files.cached_sha256(video)  # many samples can be parts of one video
        name = clip_name(source, job.settings, part)
        target = job.workspace / job.clips_folder / name
        clip = None if job.overwrite else _complete(target)
        clip = clip or make_clip(video, target, job.settings, part)
        size = target.stat().st_size
    except VideoError as error:
        return str(error)
    except Exception as error:  # such as a full disk: no other clip could be made either
        return RbftError(f"the clip of {job.source.video} cannot be made: {type(error).__name__}: {error}")
    key = ClipKey(job.source.video.as_posix(), stat.st_size, stat.st_mtime_ns, part, settings_key(job.settings))
    return MadeClip(key, source, name, clip, size)


def _complete(file: Path) -> Clip | None:
    """An existing clip that can be opened, or None. A copy of a workspace may lack the end of a file."""
    try:
        clip = probe(file)
    except VideoError:
        return None
    return clip if clip.frames else None
