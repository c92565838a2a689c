"""`rbft`: its commands. Nothing but this and `data_commands` exits, nothing but these and `terminal` prints."""

from __future__ import annotations

import errno
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from rbft_plugin.cli import data as data_commands
from rbft_plugin.cli.terminal import (
    Live,
    announce,
    console,
    errors,
    print_collection,
    print_outcome,
    print_pages,
    print_summary,
    progress,
)
from rbft_plugin.errors import RbftError, one_line

app = typer.Typer(
    help="Rationale-Bootstrapped Fine-Tuning over LLaMA-Factory and lmms-eval.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# What the system refuses whatever rbft does: rights, a full disk.
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
for command in (data_commands.init, data_commands.check, data_commands.prepare, data_commands.sync, data_commands.rows):
    app.command()(command)


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
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        errors.print(f"rbft: {error.filename or 'a file'}: {error.strerror}", style="red")
        sys.exit(1)
    except SystemExit as end:
        if end.code == 130:  # what typer makes of Ctrl-C, without a word
            errors.print("rbft: stopped; the same command goes on from here")
        raise


@app.command()
def collect(
    output: Annotated[Path, typer.Argument(help="The --output_path of a run of rbft_NAME_rationale, or its log.")],
    rows: Annotated[Path | None, typer.Option(help="Where the rows go; data/NAME unless given.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace rows of another generation.")] = False,
    keep: Annotated[list[str] | None, typer.Option(metavar="REASON", help="Drop none for this reason.")] = None,
    min_words: Annotated[int | None, typer.Option(help="Drop shorter ones as short; 3 unless given.")] = None,
    max_words: Annotated[int | None, typer.Option(help="Drop longer ones as long; no limit unless given.")] = None,
    max_share: Annotated[
        float | None, typer.Option(help="Drop as generic a text of more than this share of videos; 0.2 unless given.")
    ] = None,
) -> None:
    """Turn logged rationales into the rows that stage 1 trains on; what is left out is counted by reason."""
    from rbft_plugin import workspace
    from rbft_plugin.rationales import collect as rationales
    from rbft_plugin.rationales.filters import Filters
    from rbft_plugin.spec.yaml_models import validated

    workspace.require()
    given = {"keep": keep, "min_words": min_words, "max_words": max_words, "max_share": max_share}
    chosen = validated("rbft collect", Filters, {k: v for k, v in given.items() if v is not None})
    collection = rationales.collect(output, chosen)
    print_collection(collection)
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
    from rbft_plugin import workspace
    from rbft_plugin.report import load as comparison
    from rbft_plugin.report.build import summarize, write

    workspace.require()
    found = comparison.gather(arms, dataset, intersect)
    folder = output or found.folder
    summary = summarize(found.evaluations, found.extra)
    write(summary, found.evaluations, folder, found.videos)
    print_summary(summary)
    for note in found.extra["notes"]:
        console.print(f"note: {note}")
    print_pages(folder)


@app.command()
def predict(
    checkpoint: Annotated[str, typer.Argument(help="A model's folder; adapters in order joined by ':'.")],
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO...", help="Any videos.")],
    dataset: Annotated[str | None, typer.Option(help="Whose labels and prompt; a model of `rbft run` knows.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; a GPU if there is one.")] = None,
) -> None:
    """Label new videos with a trained model."""
    from rbft_plugin import workspace
    from rbft_plugin.model import predict as prediction

    workspace.require()
    failed = False
    for result in prediction.predict(checkpoint, videos, dataset, device):
        if result.problem:
            failed = True
            errors.print(f"rbft: {result.video}: {result.problem}", style="red")
        else:
            label = result.label or "(no answer)"
            typer.echo(f"{result.video}\t{label}\t{one_line(result.answer)}")  # rich replaces tabs
    if failed:
        sys.exit(1)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A runner recipe, such as recipes/rbft.yaml.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the commands, ready to paste.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Steps at a time; see `launch.devices` in the recipe.")] = 1,
) -> None:
    """Run a whole comparison; the same command goes on where it was stopped.

    With `launch.nodes` above 1, the same command with NODE_RANK=1, 2, ... joins its trainings on the other nodes.
    """
    _run(recipe, dry_run, jobs)


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
        _run(Path("recipes/demo.yaml"), dry_run=False, jobs=1)


def _run(path: Path, dry_run: bool, jobs: int) -> None:
    from rbft_plugin import workspace
    from rbft_plugin.run import plan as plans
    from rbft_plugin.run import runner
    from rbft_plugin.spec import recipe as recipes
    from rbft_plugin.spec.dataset import load

    workspace.require()
    recipe = recipes.load(path)
    plan = plans.make(recipe, load(recipe.dataset))
    if dry_run:
        for step in plan.steps:
            console.print(f"# {step.name}\n{shlex.join(step.argv)}")
        return
    _require_positions(recipe.base_model)
    with Live(plan.steps) as live:
        if recipe.launch.node_rank:
            return runner.follow(plan, live.notify)
        announce(plan)
        failed = None
        try:
            runner.execute(plan, live.notify, jobs)
        except RbftError as error:
            failed = error
    if runner.is_done(plan, plan.steps[-1]):  # the report, of what there is
        print_outcome(plan)
    if failed:
        raise failed


def _require_positions(base_model: str) -> None:
    """Stop before anything is trained with a transformers that the base model must not be used with."""
    from rbft_plugin.model import rope_check as positions

    if positions.installed_misplaces():
        from transformers import AutoConfig

        positions.require_right_positions(AutoConfig.from_pretrained(base_model).model_type)
