"""Running harnesses as subprocesses: their output goes to a log, and they end when rbft ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from rbft_plugin.errors import RbftError


class Processes:
    """The harnesses that are running. They and their children are ended when rbft ends."""

    def __init__(self) -> None:
        self.running: set[subprocess.Popen[bytes]] = set()
        self.stopping = False

    @contextmanager
    def ended_with_us(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.stopping = True
            for process in list(self.running):
                self.end(process)
            raise

    def add(self, process: subprocess.Popen[bytes]) -> None:
        self.running.add(process)
        if self.stopping:  # it was just being started
            self.end(process)

    def end(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def run(
    argv: list[str],
    log: Path,
    on_line: Callable[[str], None],
    processes: Processes,
    more: dict[str, str] | None = None,
    unwanted: Callable[[], bool] = lambda: False,
) -> int:
    """Run a command and write what it prints to `log`; returns its exit status.

    `unwanted` is called while it runs; if it returns True or raises, the command is ended.
    """
    # The harnesses' commands, and the torchrun that LLaMA-Factory starts, lie beside our Python.
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"} | (more or {})
    log.parent.mkdir(parents=True, exist_ok=True)

    def judge() -> None:
        wanted = False
        try:
            wanted = not unwanted()
        finally:
            if not wanted and process.poll() is None:
                processes.end(process)

    with log.open("wb") as file, ThreadPoolExecutor(1) as beside:
        try:
            process = subprocess.Popen(
                argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env,
                start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError:
            raise RbftError(f"{argv[0]}: no such command; is rbft installed with its dependencies?") from None
        processes.add(process)
        judged = beside.submit(judge)
        assert process.stdout is not None
        rest = b""
        with process.stdout as output:
            while chunk := os.read(output.fileno(), 1 << 16):
                file.write(chunk)
                file.flush()
                *lines, rest = re.split(rb"[\r\n]+", rest + chunk)
                for line in lines[-1:]:
                    if line.strip():
                        on_line(line.decode("utf-8", "replace").strip())
                rest = rest[:4096]  # of an endless line the start is enough
        status = process.wait()
        processes.running.discard(process)
        judged.result()
        return status


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, without the overwritten states of progress bars."""
    text = log.read_bytes().decode("utf-8", "replace")  # read_text would make a line of each state
    kept = [line.rstrip().rsplit("\r", 1)[-1] for line in text.split("\n") if line.strip()]
    return "\n".join(f"    {line[:200]}" for line in kept[-lines:])
