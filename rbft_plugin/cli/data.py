"""The commands of `rbft` that concern datasets: from a user's files to what both harnesses read."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from rbft_plugin.cli.terminal import (
    console,
    print_check,
    print_check_json,
    print_counts,
    print_prepared,
    print_shard,
    progress,
)
from rbft_plugin.errors import RbftError

DatasetName = Annotated[str, typer.Argument(metavar="NAME", help="A dataset: dataset_info/NAME.yaml.")]


def init(folder: Annotated[Path, typer.Argument(help="Where to make the workspace.")]) -> None:
    """Lay out a workspace: recipes/, task_configs/ and dataset_info/. Files that are there already stay."""
    from rbft_plugin import workspace

    written = workspace.init(folder)
    console.print(f"{folder}: {len(written)} files written. Next: cd {shlex.quote(str(folder))} && rbft demo")


def check(
    name: DatasetName,
    deep: Annotated[
        bool, typer.Option("--deep", help="Decode every video; find copies that were encoded anew.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
    recipe: Annotated[Path | None, typer.Option(help="A runner recipe: does the dataset fit its model?")] = None,
) -> None:
    """Say all that is wrong or doubtful with a dataset at once; exits 1 if anything would stop or spoil a run."""
    from rbft_plugin import workspace
    from rbft_plugin.check import dataset_check as checks
    from rbft_plugin.spec import recipe as recipes
    from rbft_plugin.spec.dataset import load

    workspace.require()
    about: dict[str, str] = {}
    try:
        chosen = recipes.load(recipe) if recipe else None
        dataset = load(name)
        about = checks.about(dataset)
        found = checks.check(dataset, (lambda items, *_: items) if as_json else progress, deep, chosen)
    except RbftError as error:
        if not as_json:
            raise
        found = checks.Checked({}, 0, checks.refused(error))
    if as_json:
        print_check_json(name, about, found)
        sys.exit(1 if found.count("error") else 0)
    print_counts(name, found.counts)
    print_check(name, about, found)
    if found.count("error"):
        raise RbftError(f"{name}: {found.summary}")
    console.print(f"{name}: {found.summary}")


def prepare(
    name: DatasetName,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core unless given.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make clips anew that are there already.")] = False,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Make the clips of one of N parts alone.")] = None,
) -> None:
    """Make canonical clips and splits, and register the dataset with both harnesses.

    What is done already is kept. For many machines: `--shard 1/N` to `--shard N/N`, in any order, then without it.
    """
    from rbft_plugin import workspace
    from rbft_plugin.cli.registrations import register
    from rbft_plugin.data.clip_workers import Shard
    from rbft_plugin.data.prepare import make_shard
    from rbft_plugin.data.prepare import prepare as prepare_dataset
    from rbft_plugin.spec.dataset import load

    workspace.require()
    dataset = load(name)
    if shard:
        total, new, bad = make_shard(dataset, progress, Shard.parse(shard), workers, overwrite)
        print_shard(name, shard, total, new, bad)
    else:
        prepared = prepare_dataset(dataset, progress, workers, overwrite)
        register(dataset)
        print_prepared(dataset, prepared)


def sync(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Datasets; all unless given.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; name what is stale, and exit 1.")] = False,
) -> None:
    """Write what is made of YAML files alone: registrations with both harnesses, and JSON schemas for editors."""
    from rbft_plugin import files, workspace
    from rbft_plugin.cli.registrations import register, registrations
    from rbft_plugin.errors import ProblemsError
    from rbft_plugin.spec import json_schemas as schemas
    from rbft_plugin.spec.dataset import available, load

    workspace.require()
    datasets = [load(name) for name in names or available()]
    wanted = [*map(registrations, datasets), schemas.generated()]
    stale = sorted({str(path) for texts in wanted for path, text in texts.items() if not files.holds(path, text)})
    if check and stale:
        raise ProblemsError("stale files", stale, "Run `rbft sync`.")
    if not check:
        for dataset in datasets:
            register(dataset)
        for path, text in schemas.generated().items():
            files.write_text(path, text)
    console.print(f"written: {', '.join(stale)}" if stale else "all is up to date")


def rows(
    name: DatasetName,
    kind: Annotated[str, typer.Argument(help="What a stage learns: rationale, label, ... (docs/training.md)")],
    output: Annotated[Path, typer.Option(help="The file to write; its folder's dataset_info.json will know it.")],
    rationales: Annotated[Path | None, typer.Option(help="Rationales, as `rbft collect` wrote them.")] = None,
    labelled: Annotated[bool, typer.Option("--labelled", help="Leave out samples without a label.")] = False,
    shots: Annotated[int | None, typer.Option(min=1, help="Labelled samples of each class.")] = None,
    fraction: Annotated[float | None, typer.Option(min=0, max=1, help="Of the samples of each class.")] = None,
    seed: Annotated[int, typer.Option(help="Which samples are drawn.")] = 0,
) -> None:
    """Write training rows of a kind, of all training samples or a part of them."""
    from rbft_plugin import workspace
    from rbft_plugin.llamafactory import rows as kinds

    workspace.require()
    counts = kinds.write(name, kind, output, rationales, labelled, shots, fraction, seed)
    said = ", ".join(f"{label or 'no label'} {count}" for label, count in sorted(counts.items()))
    console.print(f"{name}: {sum(counts.values())} rows of kind {kind} ({said}) in {output}")
