"""The commands that turn a user's files into what both harnesses read."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from rbft_plugin import files, workspace
from rbft_plugin.cli import progress, terminal
from rbft_plugin.cli.terminal import console
from rbft_plugin.errors import ProblemsError, RbftError

DatasetName = Annotated[str, typer.Argument(metavar="NAME", help="The dataset of dataset_info/NAME.yaml.")]


def init(folder: Annotated[Path, typer.Argument(help="The folder for the workspace.")]) -> None:
    """Lay out a workspace: recipes/, task_configs/ and dataset_info/. Existing files stay as they are."""
    written = workspace.init(folder)
    console.print(f"{folder}: {len(written)} files written. Next: cd {shlex.quote(str(folder))} && rbft demo")


def check(
    name: DatasetName,
    deep: Annotated[bool, typer.Option("--deep", help="Decode videos, and look for re-encoded copies.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
    recipe: Annotated[Path | None, typer.Option(help="A runner recipe. Check that the data fits its model.")] = None,
) -> None:
    """List everything that is wrong or doubtful in a dataset. Exits 1 if something would stop or spoil a run."""
    from rbft_plugin.check import dataset_check
    from rbft_plugin.spec.dataset import load
    from rbft_plugin.spec.recipe import load as load_recipe

    workspace.require()
    about: dict[str, str] = {}
    try:
        against = load_recipe(recipe) if recipe else None
        dataset = load(name)
        about = dataset_check.about(dataset)
        shown = (lambda items, *_: items) if as_json else progress.progress
        checked = dataset_check.check(dataset, shown, deep, against)
    except RbftError as error:
        if not as_json:
            raise
        checked = dataset_check.CheckResult({}, 0, dataset_check.refused(error))
    if as_json:
        terminal.print_check_json(name, about, checked)
        sys.exit(1 if checked.count("error") else 0)
    terminal.print_counts(name, checked.counts)
    terminal.print_check(name, about, checked)
    if checked.count("error"):
        raise RbftError(f"{name}: {checked.summary}")
    console.print(f"{name}: {checked.summary}")


def prepare(
    name: DatasetName,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one for each core.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make existing clips again.")] = False,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Make only the clips of part I of N.")] = None,
) -> None:
    """Make canonical clips and splits, and register the dataset with both harnesses.

    Existing clips are kept. For many machines, use `--shard 1/N` to `--shard N/N` in any order, then no --shard.
    """
    from rbft_plugin.cli.registrations import register
    from rbft_plugin.data.clip_workers import Shard
    from rbft_plugin.data.prepare import make_shard
    from rbft_plugin.data.prepare import prepare as prepare_dataset
    from rbft_plugin.spec.dataset import load

    workspace.require()
    dataset = load(name)
    if shard:
        total, new, problems = make_shard(dataset, progress.progress, Shard.parse(shard), workers, overwrite)
        terminal.print_shard(name, shard, total, new, problems)
    else:
        prepared = prepare_dataset(dataset, progress.progress, workers, overwrite)
        register(dataset)
        terminal.print_prepared(dataset, prepared)


def sync(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Datasets. Default: all.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing. Exit 1 if a file is stale.")] = False,
) -> None:
    """Write what follows from YAML files alone: registrations with both harnesses, and JSON schemas for editors."""
    from rbft_plugin.cli.registrations import register, registrations
    from rbft_plugin.lmms_eval.task_files import unneeded_files
    from rbft_plugin.spec import json_schemas
    from rbft_plugin.spec.dataset import available, load

    workspace.require()
    datasets = [load(name) for name in names or available()]
    schemas = json_schemas.generated()
    wanted = [*map(registrations, datasets), schemas]
    stale = sorted({str(path) for texts in wanted for path, text in texts.items() if not files.holds(path, text)})
    unneeded = sorted(str(path) for dataset in datasets for path in unneeded_files(dataset))
    if check and stale + unneeded:
        raise ProblemsError("stale files", stale + unneeded, "Run `rbft sync`.")
    if not check:
        for dataset in datasets:
            register(dataset)
        for path, text in schemas.items():
            files.write_text(path, text)
    done = {"written": stale, "removed": unneeded}
    said = "; ".join(f"{what}: {', '.join(paths)}" for what, paths in done.items() if paths)
    console.print(said or "all is up to date")


def rows(
    name: DatasetName,
    kind: Annotated[str, typer.Argument(help="What a stage learns, such as label (see docs/training.md).")],
    output: Annotated[Path, typer.Option(help="The file to write. The dataset_info.json beside it will name it.")],
    rationales: Annotated[
        Path | None, typer.Option(help="The file of `rbft collect`; for rationale_file, of texts.")
    ] = None,
    labelled: Annotated[bool, typer.Option("--labelled", help="Leave out samples without a label.")] = False,
    shots: Annotated[int | None, typer.Option(min=1, help="Labelled samples to take of each class.")] = None,
    fraction: Annotated[float | None, typer.Option(min=0, max=1, help="Share of each class to take.")] = None,
    seed: Annotated[int, typer.Option(help="The seed that draws the samples.")] = 0,
    fold: Annotated[list[int] | None, typer.Option(help="Leave out the samples of this fold. May be repeated.")] = None,
) -> None:
    """Write training rows of one kind, for all training samples or for a part of them."""
    from rbft_plugin.llamafactory.rows import write

    workspace.require()
    counts = write(name, kind, output, rationales, labelled, shots, fraction, seed, fold or ())
    by_label = ", ".join(f"{label or 'no label'} {count}" for label, count in sorted(counts.items()))
    console.print(f"{name}: {sum(counts.values())} rows of kind {kind} ({by_label}) in {output}")
