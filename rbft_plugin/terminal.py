"""What a person sees of a command: tables, progress, the outcome of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

console = Console(soft_wrap=True, highlight=False, markup=False)
errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def announce(plan: Any) -> None:
    from rbft_plugin.estimate import estimate

    said = estimate(plan)
    console.print(f"{plan.folder}: {len(said.to_do)} of {len(plan.steps)} steps to do", style="bold")
    for line in said.lines():
        console.print(f"  {line}")


def print_summary(report: dict[str, Any]) -> None:
    from rbft_plugin.report_text import table

    console.print(table(report))
    for comparison in report["comparisons"]:
        console.print(f"- {comparison['sentence']}")


def print_outcome(plan: Any) -> None:
    from rbft_plugin import files, runner

    folder = plan.folder / "report"
    print_summary(files.read_json(folder / "report.json"))
    for (arm, seed), model in plan.models.items():
        console.print(f"  {arm} (seed {seed}): {model.model_args()}")
    aside, size = runner.superseded(plan)
    if size:
        console.print(f"  outputs of earlier settings ({size / 1e9:.2f} GB) lie in {aside}; delete them when you like")
    print_pages(folder)


def print_pages(folder: Path) -> None:
    console.print(f"report: {folder / 'index.html'} (for a browser); beside it report.md, report.json and the pictures")


class Live:
    """One line a step; on a terminal, also what the running command last printed."""

    def __init__(self, steps: int) -> None:
        self.steps, self.number = steps, 0
        self.status = console.status("") if console.is_terminal else None

    def __enter__(self) -> Live:
        if self.status:
            self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.status:
            self.status.stop()

    def notify(self, kind: str, step: Any, text: str) -> None:
        from rich.text import Text

        if kind in ("skipped", "started"):
            self.number += 1
        head = f"[{self.number}/{self.steps}] {step.name}"
        if kind == "skipped":
            console.print(f"{head}: done before")
        elif kind == "started":
            console.print(f"{head}: log in {text}")
        elif kind == "done":
            console.print(f"{head}: done in {text}")
        if self.status:
            shown = Text.from_ansi(f"{head}  {text}")  # harnesses colour their lines
            shown.truncate(max(20, console.width - 4))
            self.status.update(shown)


def print_counts(name: str, counts: dict[str, dict[str, int]]) -> None:
    from rich.table import Table

    table = Table(title=f"{name}: samples")
    table.add_column("label")
    for split in counts:
        table.add_column(split, justify="right")
    for label in next(iter(counts.values())):
        table.add_row(label or "(no label)", *(str(counts[split][label]) for split in counts))
    table.add_row("all", *(str(sum(counts[split].values())) for split in counts), style="bold")
    console.print(table)


def progress(items: Iterable[Any], total: int, text: str) -> Iterator[Any]:
    """A progress bar over an iterable; nothing where output is not a terminal."""
    from rich.progress import track

    yield from track(items, text, total, console=console, transient=True, disable=not console.is_terminal)
