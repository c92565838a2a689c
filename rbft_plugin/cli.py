"""`rbft`: the only place that prints or exits."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from rbft_plugin.errors import RbftError

app = typer.Typer(
    help="Rationale-Bootstrapped Fine-Tuning over LLaMA-Factory and lmms-eval.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(soft_wrap=True, highlight=False, markup=False)
problems = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)

DatasetName = Annotated[str, typer.Argument(metavar="NAME", help="A dataset: dataset_info/NAME.yaml.")]


def main() -> None:
    """Entry point; every error that a user can cause ends here."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that a running harness is ended too
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, lambda n, _: sys.exit(128 + n))
    try:
        app()
    except RbftError as error:
        problems.print(f"rbft: {error}", style="red")
        sys.exit(1)
    except KeyboardInterrupt:
        problems.print("rbft: stopped; the same command goes on from here")
        sys.exit(130)


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="Where to make the workspace.")]) -> None:
    """Lay out a workspace: recipes/, task_configs/ and dataset_info/. Files that are there already stay."""
    from rbft_plugin import workspace

    written = workspace.init(folder)
    console.print(f"{folder}: {len(written)} files written. Next: cd {shlex.quote(str(folder))} && rbft demo")


@app.command()
def check(name: DatasetName) -> None:
    """Say all that is wrong with a dataset at once: its YAML, its annotations, its videos."""
    from rbft_plugin import positions, preparation, splits, workspace
    from rbft_plugin.annotations import samples
    from rbft_plugin.dataset import load
    from rbft_plugin.errors import ProblemsError

    workspace.require()
    dataset = load(name)
    found = splits.assign(samples(dataset), dataset.splits)
    _print_counts(name, preparation.counts(dataset, found))
    if wrong := preparation.problems(dataset, found, _progress):
        raise ProblemsError(name, wrong)
    if families := positions.installed_misplaces():
        console.print(f"note: the installed transformers misplaces text after videos for {', '.join(families)} models")
    console.print(f"{name}: {len(found)} samples, no problem found")


@app.command()
def prepare(name: DatasetName) -> None:
    """Make canonical clips and splits, and register the dataset with both harnesses."""
    from rbft_plugin import preparation, workspace
    from rbft_plugin.dataset import load

    workspace.require()
    dataset = load(name)
    manifest = preparation.prepare(dataset, _progress)
    _print_counts(name, manifest["counts"])
    console.print(
        f"{name}: prepared in {dataset.folder}; tasks rbft_{name} and rbft_{name}_rationale, "
        f"LLaMA-Factory datasets {name}_label and {name}_rationale"
    )


@app.command()
def register(names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Datasets of dataset_info/.")]) -> None:
    """Write the registrations of datasets with both harnesses alone, without their videos."""
    from rbft_plugin import registry, workspace
    from rbft_plugin.dataset import load

    workspace.require()
    for dataset in [load(name) for name in names]:
        registry.register(dataset)


@app.command()
def collect(
    output: Annotated[Path, typer.Argument(help="The --output_path of a run of rbft_NAME_rationale, or its log.")],
    rows: Annotated[Path | None, typer.Option(help="Where the rows go; data/NAME unless given.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace rows of another generation.")] = False,
) -> None:
    """Turn logged rationales into the rows that stage 1 trains on; what is left out is counted by reason."""
    from rbft_plugin import rationales, workspace

    workspace.require()
    collection = rationales.collect(output)
    total = len(collection.rows) + sum(map(len, collection.dropped.values()))
    console.print(f"{collection.dataset}: {len(collection.rows)} of {total} rationales kept")
    for reason, ids in collection.dropped.items():
        console.print(f"  {len(ids)} dropped as {reason}: {rationales.REASONS[reason]}")
    if not collection.counted_tokens:
        console.print("  the log has no token counts, so none could be told to be truncated")
    target = rationales.write(collection, rows or Path("data") / collection.dataset, overwrite)
    console.print(f"written: {target}")


@app.command()
def report(
    arms: Annotated[list[str], typer.Argument(metavar="RUN|ARM=OUTPUT...", help="A run, or outputs of lmms-eval.")],
    output: Annotated[Path | None, typer.Option(help="Folder of the report.")] = None,
) -> None:
    """Compare arms: table, statistics, pictures. Give an arm several times for several seeds."""
    from rbft_plugin import comparison, workspace
    from rbft_plugin.report import summarize, write

    workspace.require()
    scored, extra, folder = comparison.gather(arms)
    summary = summarize(scored, extra)
    paths = write(summary, scored, output or folder)
    _print_summary(summary)
    console.print(f"written: {', '.join(str(p) for p in paths)}")


@app.command()
def predict(
    checkpoint: Annotated[str, typer.Argument(help="A model's folder; adapters in order joined by ':'.")],
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO...", help="Any videos.")],
    dataset: Annotated[str | None, typer.Option(help="Whose labels and prompt; a model of `rbft run` knows.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; a GPU if there is one.")] = None,
) -> None:
    """Label new videos with a trained model."""
    from rbft_plugin import prediction, workspace

    workspace.require()
    failed = False
    for result in prediction.predict(checkpoint, videos, dataset, device):
        if result.problem:
            failed = True
            problems.print(f"rbft: {result.video}: {result.problem}", style="red")
        else:
            label = result.label or "(no answer)"
            typer.echo(f"{result.video}\t{label}\t{' '.join(result.answer.split())}")  # rich replaces tabs
    if failed:
        sys.exit(1)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A runner recipe, such as recipes/rbft.yaml.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the commands, ready to paste.")] = False,
) -> None:
    """Run a whole comparison; the same command goes on where it was stopped."""
    _run(recipe, dry_run)


@app.command()
def demo(
    data_only: Annotated[bool, typer.Option("--data-only", help="Only write videos and annotations.")] = False,
) -> None:
    """The whole comparison on generated videos and a tiny built-in model: offline, on a CPU, in minutes."""
    from rbft_plugin import workspace
    from rbft_plugin.demo.data import SOURCE, write_source

    workspace.require()
    count = write_source(progress=_progress)
    console.print(f"demo: {count} videos and annotations.csv in {SOURCE}")
    if not data_only:
        _run(Path("recipes/demo.yaml"), dry_run=False)


def _run(path: Path, dry_run: bool) -> None:
    from rbft_plugin import plan as plans
    from rbft_plugin import recipe as recipes
    from rbft_plugin import runner, workspace
    from rbft_plugin.dataset import load

    workspace.require()
    recipe = recipes.load(path)
    plan = plans.make(recipe, load(recipe.dataset))
    if dry_run:
        for step in plan.steps:
            console.print(f"# {step.name}\n{shlex.join(step.argv)}")
        return
    _require_positions(recipe.base_model)
    _announce(plan)
    with _Live(len(plan.steps)) as live:
        runner.execute(plan, live.notify)
    _print_report(plan)


def _require_positions(base_model: str) -> None:
    """Stop before anything is trained with a transformers that the base model must not be used with."""
    from rbft_plugin import positions

    if positions.installed_misplaces():
        from transformers import AutoConfig

        positions.require_right_positions(AutoConfig.from_pretrained(base_model).model_type)


def _announce(plan: Any) -> None:
    from rbft_plugin.estimate import estimate

    said = estimate(plan)
    console.print(f"{plan.folder}: {len(said.to_do)} of {len(plan.steps)} steps to do", style="bold")
    for line in said.lines():
        console.print(f"  {line}")


def _print_summary(report: dict[str, Any]) -> None:
    from rbft_plugin.report import table

    console.print(table(report))
    for comparison in report["comparisons"]:
        console.print(f"- {comparison['sentence']}")


def _print_report(plan: Any) -> None:
    from rbft_plugin import files, runner

    folder = plan.folder / "report"
    _print_summary(files.read_json(folder / "report.json"))
    for (arm, seed), model in plan.models.items():
        console.print(f"  {arm} (seed {seed}): {model.model_args()}")
    aside, size = runner.superseded(plan)
    if size:
        console.print(f"  outputs of earlier settings ({size / 1e9:.2f} GB) lie in {aside}; delete them when you like")
    console.print(f"report: {folder / 'report.md'}")


class _Live:
    """One line a step; on a terminal, also what the running command last printed."""

    def __init__(self, steps: int) -> None:
        self.steps, self.number = steps, 0
        self.status = console.status("") if console.is_terminal else None

    def __enter__(self) -> _Live:
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


def _print_counts(name: str, counts: dict[str, dict[str, int]]) -> None:
    from rich.table import Table

    table = Table(title=f"{name}: samples")
    table.add_column("label")
    for split in counts:
        table.add_column(split, justify="right")
    for label in next(iter(counts.values())):
        table.add_row(label or "(no label)", *(str(counts[split][label]) for split in counts))
    table.add_row("all", *(str(sum(counts[split].values())) for split in counts), style="bold")
    console.print(table)


def _progress(items: Iterable[Any], total: int, text: str) -> Iterator[Any]:
    """A progress bar over an iterable; nothing where output is not a terminal."""
    from rich.progress import track

    yield from track(items, text, total, console=console, transient=True, disable=not console.is_terminal)
