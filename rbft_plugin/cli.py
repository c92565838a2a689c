"""`rbft`: its commands. Nothing else exits, and nothing but this and `terminal` prints."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from rbft_plugin.errors import RbftError
from rbft_plugin.terminal import (
    Live,
    announce,
    console,
    errors,
    print_check,
    print_check_json,
    print_collection,
    print_counts,
    print_outcome,
    print_pages,
    print_prepared,
    print_shard,
    print_summary,
    progress,
)

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
def check(
    name: DatasetName,
    deep: Annotated[
        bool, typer.Option("--deep", help="Decode every video; find copies that were encoded anew.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
    recipe: Annotated[Path | None, typer.Option(help="A runner recipe: does the dataset fit its model?")] = None,
) -> None:
    """Say all that is wrong or doubtful with a dataset at once; exits 1 if anything would stop or spoil a run."""
    from rbft_plugin import check as checks
    from rbft_plugin import recipe as recipes
    from rbft_plugin import workspace
    from rbft_plugin.dataset import load

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


@app.command()
def prepare(
    name: DatasetName,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core unless given.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make clips anew that are there already.")] = False,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Make the clips of one of N parts alone.")] = None,
) -> None:
    """Make canonical clips and splits, and register the dataset with both harnesses.

    What is done already is kept. For many machines: `--shard 1/N` to `--shard N/N`, in any order, then without it.
    """
    from rbft_plugin import preparation, workspace
    from rbft_plugin.dataset import load
    from rbft_plugin.making import Shard

    workspace.require()
    dataset = load(name)
    if shard:
        total, new, bad = preparation.make_shard(dataset, progress, Shard.parse(shard), workers, overwrite)
        print_shard(name, shard, total, new, bad)
    else:
        print_prepared(dataset, preparation.prepare(dataset, progress, workers, overwrite))


@app.command()
def sync(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Datasets; all unless given.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; name what is stale, and exit 1.")] = False,
) -> None:
    """Write what is made of YAML files alone: registrations with both harnesses, and JSON schemas for editors."""
    from rbft_plugin import files, registry, schemas, workspace
    from rbft_plugin.dataset import available, load
    from rbft_plugin.errors import ProblemsError

    workspace.require()
    datasets = [load(name) for name in names or available()]
    wanted = [*map(registry.generated, datasets), schemas.generated()]
    stale = sorted({str(path) for texts in wanted for path, text in texts.items() if not files.holds(path, text)})
    if check and stale:
        raise ProblemsError("stale files", stale, "Run `rbft sync`.")
    if not check:
        for dataset in datasets:
            registry.register(dataset)
        for path, text in schemas.generated().items():
            files.write_text(path, text)
    console.print(f"written: {', '.join(stale)}" if stale else "all is up to date")


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
    from rbft_plugin import rationales, workspace
    from rbft_plugin.config import validated
    from rbft_plugin.filters import Filters

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
    from rbft_plugin import comparison, workspace
    from rbft_plugin.report import summarize, write

    workspace.require()
    found = comparison.gather(arms, dataset, intersect)
    folder = output or found.folder
    summary = summarize(found.evaluations, found.extra)
    write(summary, found.evaluations, folder, found.videos)
    print_summary(summary)
    print_pages(folder)


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
    jobs: Annotated[int, typer.Option(min=1, help="Steps at a time; see `launch.devices` in the recipe.")] = 1,
) -> None:
    """Run a whole comparison; the same command goes on where it was stopped.

    With `launch.nodes` above 1, the same command with NODE_RANK=1, 2, ... joins its trainings on the other nodes.
    """
    _run(recipe, dry_run, jobs)


@app.command()
def rows(
    name: DatasetName,
    kind: Annotated[str, typer.Argument(help="rationale, rationale_hinted, label, label_balanced, rationale_label.")],
    output: Annotated[Path, typer.Option(help="The file to write; its folder's dataset_info.json will know it.")],
    rationales: Annotated[Path | None, typer.Option(help="Rationales, as `rbft collect` wrote them.")] = None,
    labelled: Annotated[bool, typer.Option("--labelled", help="Leave out samples without a label.")] = False,
    shots: Annotated[int | None, typer.Option(min=1, help="Labelled samples of each class.")] = None,
    fraction: Annotated[float | None, typer.Option(min=0, max=1, help="Of the samples of each class.")] = None,
    seed: Annotated[int, typer.Option(help="Which samples are drawn.")] = 0,
) -> None:
    """Write training rows of a kind, of all training samples or a part of them."""
    from rbft_plugin import rows as kinds
    from rbft_plugin import workspace

    workspace.require()
    counts = kinds.write(name, kind, output, rationales, labelled, shots, fraction, seed)
    said = ", ".join(f"{label or 'no label'} {count}" for label, count in sorted(counts.items()))
    console.print(f"{name}: {sum(counts.values())} rows of kind {kind} ({said}) in {output}")


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
    with Live(plan.steps) as live:
        if recipe.launch.node_rank:
            return runner.follow(plan, live.notify)
        announce(plan)
        runner.execute(plan, live.notify, jobs)
    print_outcome(plan)


def _require_positions(base_model: str) -> None:
    """Stop before anything is trained with a transformers that the base model must not be used with."""
    from rbft_plugin import positions

    if positions.installed_misplaces():
        from transformers import AutoConfig

        positions.require_right_positions(AutoConfig.from_pretrained(base_model).model_type)
