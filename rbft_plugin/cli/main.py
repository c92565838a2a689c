"""The commands of `rbft`. In the whole package, only cli/ prints or exits."""

from __future__ import annotations

import errno
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rbft_plugin import workspace
from rbft_plugin.cli import data, progress, terminal
from rbft_plugin.cli.terminal import console, stderr
from rbft_plugin.errors import RbftError, one_line

if TYPE_CHECKING:
    from rbft_plugin.run.steps import Plan, Step

app = typer.Typer(
    help="Rationale-Bootstrapped Fine-Tuning over LLaMA-Factory and lmms-eval.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# Errors of the system that no version of rbft could avoid, such as missing rights or a full disk.
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
for command in (data.init, data.check, data.prepare, data.sync, data.rows):
    app.command()(command)


def main() -> None:
    """The entry point. Every error that a user can cause ends here."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that a running harness is stopped too
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup sets it
            signal.signal(number, lambda n, _: sys.exit(128 + n))
    try:
        app()
    except RbftError as error:
        stderr.print(f"rbft: {error}", style="red")
        sys.exit(1)
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        stderr.print(f"rbft: {error.filename or 'a file'}: {error.strerror}", style="red")
        sys.exit(1)
    except SystemExit as end:
        if end.code == 130:  # typer exits so after Ctrl-C, and prints nothing
            stderr.print("rbft: stopped; the same command goes on from here")
        raise


@app.command()
def collect(
    output: Annotated[
        Path, typer.Argument(help="What lmms-eval wrote for rbft_NAME_rationale: --output_path or a log.")
    ],
    rows: Annotated[Path | None, typer.Option(help="The folder for the rows. Default: data/NAME.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace rows of other rationales.")] = False,
    keep: Annotated[list[str] | None, typer.Option(metavar="REASON", help="Do not drop for this reason.")] = None,
    min_words: Annotated[int | None, typer.Option(help="Drop texts with fewer words. Default: 3.")] = None,
    max_words: Annotated[int | None, typer.Option(help="Drop texts with more words. Default: no limit.")] = None,
    max_share: Annotated[
        float | None, typer.Option(help="Drop texts that a larger share of videos has. Default: 0.2.")
    ] = None,
    conclusion: Annotated[
        str | None, typer.Option(metavar="drop|keep", help="Their last lines. Default: drop.")
    ] = None,
    concluded: Annotated[bool, typer.Option("--concluded", help="Drop texts without a readable conclusion.")] = False,
    right: Annotated[
        bool, typer.Option("--right", help="Drop texts that conclude another class than the label.")
    ] = False,
) -> None:
    """Turn logged rationales into the training rows of stage 1. Dropped rationales are counted by reason."""
    from rbft_plugin.data.prepared import DataFolder
    from rbft_plugin.rationales.collect import collect as collect_rationales
    from rbft_plugin.rationales.collect import write
    from rbft_plugin.spec.filters import Filters
    from rbft_plugin.spec.yaml_models import validated

    workspace.require()
    given: dict[str, object] = {"keep": keep, "min_words": min_words, "max_words": max_words, "max_share": max_share}
    given |= {"conclusion": conclusion, "concluded": concluded, "right": right}
    filters = validated("rbft collect", Filters, {key: value for key, value in given.items() if value is not None})
    collection = collect_rationales(output, filters)
    terminal.print_collection(collection)
    target = write(collection, rows or DataFolder(collection.dataset).path, overwrite)
    console.print(f"written: {target}")


@app.command()
def choose(
    recipe: Annotated[Path, typer.Argument(help="A runner recipe with `select`, whose candidates have been scored.")],
) -> None:
    """Choose the settings of each arm on the validation split, and write the recipe of what was chosen.

    `rbft run` does this by itself, and then runs that recipe.
    """
    from rbft_plugin.run import choose as choice
    from rbft_plugin.run.plan import make
    from rbft_plugin.spec.dataset import load as load_dataset
    from rbft_plugin.spec.recipe import load as load_recipe

    workspace.require()
    loaded = load_recipe(recipe)
    if not loaded.select:
        raise RbftError(f"{recipe}: it has no `select`, so there is nothing to choose")
    plan = make(loaded, load_dataset(loaded.dataset), recipe)
    record = choice.choose(plan)
    written = choice.write(plan, recipe, record)
    terminal.print_choices(record)
    for path in written:
        console.print(f"written: {path}")


@app.command()
def report(
    arms: Annotated[list[str], typer.Argument(metavar="RUN|ARM=OUTPUT...", help="Runs, or outputs of lmms-eval.")],
    output: Annotated[Path | None, typer.Option(help="The folder for the report. Default: RUN/report.")] = None,
    dataset: Annotated[str | None, typer.Option(help="The dataset, if the logs do not name it.")] = None,
    intersect: Annotated[bool, typer.Option("--intersect", help="Compare on the clips that every arm has.")] = False,
) -> None:
    """Compare arms: a table, statistics, pictures and a page. Give an arm several times for several seeds."""
    from rbft_plugin.report.build import summarize, write
    from rbft_plugin.report.load import gather

    workspace.require()
    gathered = gather(arms, dataset, intersect)
    folder = output or gathered.folder
    summary = summarize(gathered.evaluations, gathered.origin)
    write(summary, gathered.evaluations, folder, gathered.videos)
    terminal.print_summary(summary)
    for note in gathered.origin.notes:
        console.print(f"note: {note}")
    terminal.print_pages(folder)


@app.command()
def predict(
    checkpoint: Annotated[str, typer.Argument(help="A model's folder. Join several adapters, in order, by ':'.")],
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO...", help="The videos to label.")],
    dataset: Annotated[str | None, typer.Option(help="The dataset, if the model does not name it.")] = None,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda:1. Default: a GPU if there is one.")] = None,
) -> None:
    """Label new videos with a trained model."""
    from rbft_plugin.model.predict import predict as label_videos

    workspace.require()
    failed = False
    for result in label_videos(checkpoint, videos, dataset, device):
        if result.problem:
            failed = True
            stderr.print(f"rbft: {result.video}: {result.problem}", style="red")
        else:
            label = result.label or "(no answer)"
            typer.echo(f"{result.video}\t{label}\t{one_line(result.answer)}")  # rich replaces tabs
    if failed:
        sys.exit(1)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A runner recipe, such as recipes/rbft.yaml.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the commands, ready to paste.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Steps at a time. See `launch.devices` in the recipe.")] = 1,
) -> None:
    """Run a whole comparison. The same command continues a run that was stopped.

    With `launch.nodes` above 1, start it on each node, with NODE_RANK=0 on the first, 1 on the second, and so on.
    """
    _run(recipe, dry_run, jobs)


@app.command()
def demo(
    data_only: Annotated[bool, typer.Option("--data-only", help="Only write the videos and annotations.")] = False,
) -> None:
    """Run the whole comparison on generated videos with a tiny built-in model: offline, on a CPU, in minutes."""
    from rbft_plugin.demo.data import SOURCE, write_source

    workspace.require()
    count = write_source(progress=progress.progress)
    console.print(f"demo: {count} videos and annotations.csv in {SOURCE}")
    if not data_only:
        _run(Path("recipes/demo.yaml"), dry_run=False, jobs=1)


def _run(path: Path, dry_run: bool, jobs: int) -> None:
    from rbft_plugin.run import runner
    from rbft_plugin.run.choose import read_chosen
    from rbft_plugin.run.plan import add_chosen, make, open_commands
    from rbft_plugin.run.records import read_choices
    from rbft_plugin.spec.dataset import load as load_dataset
    from rbft_plugin.spec.recipe import load as load_recipe

    workspace.require()
    recipe = load_recipe(path)
    plan = make(recipe, load_dataset(recipe.dataset), path)
    if dry_run:
        known = recipe.select and runner.is_done(plan, plan.steps[-1])
        if known:
            add_chosen(plan, read_chosen(plan))
        console.print(plan.commands(), end="")
        if recipe.select and not known:
            console.print(open_commands(plan, path), end="")
        return
    _require_right_positions(recipe.base_model)
    _execute(plan, plan.steps, jobs)
    if recipe.select:
        if choices := read_choices(plan.folder):
            terminal.print_choices(choices)
        _execute(plan, runner.with_lost(plan, add_chosen(plan, read_chosen(plan))), jobs)


def _execute(plan: Plan, steps: list[Step], jobs: int) -> None:
    """Run these steps of a plan. What succeeded is reported, even if another step failed."""
    from rbft_plugin.run import runner

    failed = None
    with progress.Live(steps) as live:
        if plan.recipe.launch.node_rank:
            return runner.follow(plan, live.notify, steps)
        terminal.announce(plan, steps)
        try:
            runner.execute(plan, live.notify, jobs, steps)
        except RbftError as error:
            failed = error
    if steps[-1].kind == "report" and runner.is_done(plan, steps[-1]):
        terminal.print_outcome(plan)
    if failed:
        raise failed


def _require_right_positions(base_model: str) -> None:
    """Refuse to train with a version of transformers that places the text after a video wrongly for this model."""
    from rbft_plugin.model import rope_check

    if rope_check.installed_misplaces():
        from transformers import AutoConfig

        rope_check.require_right_positions(AutoConfig.from_pretrained(base_model).model_type)
