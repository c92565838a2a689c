"""What commands print while they work: a bar or lines of progress, and the steps of a run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from rbft_plugin.cli.terminal import console

if TYPE_CHECKING:
    from rbft_plugin.run.steps import Step

T = TypeVar("T")
LINE_EVERY = 60.0  # seconds between two lines of progress in a log


class Live:
    """Prints a line for each event of a step; on a terminal, also the last line that the running command printed."""

    def __init__(self, steps: list[Step]) -> None:
        self.number = {step.name: number for number, step in enumerate(steps, 1)}
        self.status = console.status("") if console.is_terminal else None

    def __enter__(self) -> Live:
        if self.status:
            self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.status:
            self.status.stop()

    def notify(self, event: str, step: Step, text: str) -> None:
        from rich.text import Text

        head = f"[{self.number[step.name]}/{len(self.number)}] {step.name}"
        lines = {"skipped": "done before", "started": f"log in {text}", "done": f"done in {text}", "failed": "failed"}
        if event in lines:
            console.print(f"{head}: {lines[event]}", style="red" if event == "failed" else None)
        if self.status:
            shown = Text.from_ansi(f"{head}  {text}")  # harnesses colour their lines
            shown.truncate(max(20, console.width - 4))
            self.status.update(shown)


def progress(items: Iterable[T], total: int, text: str) -> Iterator[T]:
    """The items, with a progress bar on a terminal, and else with a line every LINE_EVERY seconds."""
    if not console.is_terminal:
        yield from _lines(items, total, text)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}")
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(text, total=total, rate="")
        for item in items:
            speed = bar.tasks[0].speed
            bar.update(task, advance=1, rate=f"{speed:.1f}/s" if speed else "")
            yield item


def _lines(items: Iterable[T], total: int, text: str) -> Iterator[T]:
    from rbft_plugin.report.prose import duration

    began = printed = time.monotonic()
    for done, item in enumerate(items, start=1):
        if (now := time.monotonic()) - printed >= LINE_EVERY:
            rate, printed = done / (now - began), now
            left = duration((total - done) / rate)
            console.print(f"{text}: {done:,} of {total:,}, {rate:.1f}/s, about {left} left")
        yield item
