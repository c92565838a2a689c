"""`rbft`: its commands. Nothing else exits, and nothing but this and `terminal` prints."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from rbft_plugin import terminal
from rbft_plugin.errors import RbftError
from rbft_plugin.terminal import Live, announce, console, errors, print_counts, print_outcome, progress

app = typer.Typer(
    help="Rationale-Bootstrapped Fine-Tuning over LLaMA-Factory and lmms-eval.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
DatasetName = Annotated[str, typer.Argument(metavar="NAME", help="A dataset: dataset_info/NAME.yaml.")]


def main() -> None:
    """Entry point; every error that a user can cause ends here."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that a running harness is ended too
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, lambda n, _: sys.exit(128 + n))
    try:
        app()
    except RbftError as error:
        errors.print(f"rbft: {error}", style="red")
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("rbft: stopped; the same command goes on from here")
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
    print_counts(name, preparation.counts(dataset, found))
    if wrong := preparation.problems(dataset, found, progress):
        raise ProblemsError(name, wrong)
    if families := positions.installed_misplaces():
        console.print(f"note: the installed transformers misplaces text after videos for {', '.join(families)} models")
    console.print(f"{name}: {len(found)} samples, no problem found")


@app.command()
def prepare(name: DatasetName) -> None:
    """Make canonical clips and splits, and register the dataset with both harnesses."""
    from rbft_plugin import preparation, workspace
    from rbft_plugin.dataset import load
    from rbft_plugin.registry import STAGES, llamafactory_name, task_name

    workspace.require()
    dataset = load(name)
    manifest = preparation.prepare(dataset, progress)
    print_counts(name, manifest["counts"])
    tasks, rows = (" and ".join(named(name, s) for s in reversed(STAGES)) for named in (task_name, llamafactory_name))
    console.print(f"{name}: prepared in {dataset.folder}; tasks {tasks}, LLaMA-Factory datasets {rows}")


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
    dataset: Annotated[str | None, typer.Option(help="Whose test split; a log of rbft's tasks knows.")] = None,
    intersect: Annotated[bool, typer.Option("--intersect", help="Compare on the clips that all have.")] = False,
) -> None:
    """Compare arms: table, statistics, pictures, a page. Give an arm several times for several seeds."""
    from rbft_plugin import comparison, workspace
    from rbft_plugin.report import summarize, write

    workspace.require()
    found = comparison.gather(arms, dataset, intersect)
    folder = output or found.folder
    summary = summarize(found.evaluations, found.extra)
    write(summary, found.evaluations, folder, found.videos)
    terminal.print_summary(summary)
    terminal.print_pages(folder)


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
            errors.print(f"rbft: {result.video}: {result.problem}", style="red")
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
    count = write_source(progress=progress)
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
    announce(plan)
    with Live(len(plan.steps)) as live:
        runner.execute(plan, live.notify)
    print_outcome(plan)


def _require_positions(base_model: str) -> None:
    """Stop before anything is trained with a transformers that the base model must not be used with."""
    from rbft_plugin import positions

    if positions.installed_misplaces():
        from transformers import AutoConfig

        positions.require_right_positions(AutoConfig.from_pretrained(base_model).model_type)
