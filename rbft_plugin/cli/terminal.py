"""What commands print: tables, progress and outcomes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from rbft_plugin.errors import escaped, grouped, one_line

if TYPE_CHECKING:  # to load these takes a second, and `rbft --help` needs none of them
    from rbft_plugin.check.dataset_check import CheckResult
    from rbft_plugin.data.prepare import Prepared
    from rbft_plugin.rationales.collect import Collection, Conclusions
    from rbft_plugin.report.view_model import Report
    from rbft_plugin.run.records import ChoiceRecord
    from rbft_plugin.run.steps import Plan, Step
    from rbft_plugin.spec.dataset import Dataset

T = TypeVar("T")

console = Console(soft_wrap=True, highlight=False, markup=False)
stderr = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
LOST = 0.2  # a class is warned of if its share falls below so much of what it was


def announce(plan: Plan, steps: Sequence[Step]) -> None:
    """The steps that a run has to do, and what they will take."""
    from rbft_plugin.run.estimate import estimate

    expected = estimate(plan, steps)
    console.print(f"{plan.folder}: {len(expected.to_do)} of {len(steps)} steps to do", style="bold")
    for line in expected.lines():
        console.print(f"  {line}")
    if steps and steps[-1].kind == "choose":
        trained, scored = (sum(step.kind == kind for step in expected.to_do) for kind in ("train", "score"))
        console.print(f"  select: {trained} trainings and {scored} scorings of candidates; then come the chosen ones")


def print_collection(collection: Collection, examples: int = 2, width: int = 100) -> None:
    """How many rationales were kept, and how many were dropped for each reason, with a few examples."""
    from rbft_plugin.rationales.collect import REASONS

    total = len(collection.rows) + len(collection.dropped)
    hinted = " (hinted: the writer was shown the label)" if collection.mode == "hinted" else ""
    console.print(f"{collection.dataset}: {len(collection.rows)} of {total} rationales kept{hinted}")
    for reason, dropped in collection.by_reason().items():
        console.print(f"  {len(dropped)} dropped as {reason}: {REASONS[reason]}")
        for one in [one for one in dropped if one.text][:examples]:
            text = escaped(one.text or "")
            console.print(f"    {one.id}: {text if len(text) <= width else text[: width - 3] + '...'}")
    if collection.conclusions:
        print_conclusions(collection.conclusions)
    if collection.uncounted:
        console.print(f"  {collection.uncounted} have no token count, so it is not known whether they were cut off")
    if collection.further:
        console.print(f"  {collection.further} further texts are not used, only the first of each video (--repeats)")


def print_conclusions(found: Conclusions) -> None:
    """How often conclusions are right where that is known, and the balance of their classes."""

    def share(right: int, of: int) -> str:
        return f"{right} of {of}" + (f" ({100 * right / of:.1f} %)" if of else "")

    console.print(
        f"  conclusions that are the label: {share(found.right, found.labelled)} of all written, "
        f"{share(found.right_kept, found.labelled_kept)} of those kept"
    )
    written, kept = sum(found.classes.values()), sum(found.classes_kept.values())
    classes = [f"{name} {found.classes_kept.get(name, 0)} of {count}" for name, count in found.classes.items()]
    console.print(f"  kept by conclusion: {', '.join(classes)}")
    for name, count in found.classes.items():
        left = found.classes_kept.get(name, 0)
        if left * written < LOST * count * kept or not left:
            console.print(f"  warning: of '{name}', {'none' if not left else f'only {left}'} of {count} are kept")


def print_choices(record: ChoiceRecord) -> None:
    """A table of what each arm chose among how many candidates, and its metric on the validation split."""
    from rich.table import Table

    from rbft_plugin.report.prose import candidate_name, percent
    from rbft_plugin.scoring.metrics import METRICS

    table = Table(title="chosen on validation")
    for column in ("arm", "chosen", METRICS[record.metric].title, "candidates"):
        table.add_column(column, overflow="fold")
    for choice in record.choices:
        best = choice.candidates[choice.chosen]
        arm = "/".join(filter(None, (choice.cell, choice.arm)))
        arm += "" if choice.fold is None else f", fold {choice.fold}"
        table.add_row(arm, candidate_name(best, record.settings), percent(best.metric), str(len(choice.candidates)))
    console.print(table)


def print_summary(report: Report) -> None:
    """The table of a report, and a sentence for each comparison."""
    from rbft_plugin.report import fit
    from rbft_plugin.report.markdown import table

    console.print(table(report))
    for sentence in (*(one.sentence for one in report.comparisons), *fit.sentences(report)):
        console.print(f"- {sentence}")


def print_outcome(plan: Plan) -> None:
    """The report of a run, the model of each arm, and where outputs of earlier settings are."""
    from rbft_plugin import files
    from rbft_plugin.report.view_model import Report
    from rbft_plugin.run import layout, runner

    folder = layout.report_folder(plan.folder)
    print_summary(Report.model_validate(files.read_json(folder / "report.json")))
    scored = {evaluation.output for evaluation in plan.scored}
    for step in plan.steps:
        if step.kind == "score" and step.model and step.output in scored and step.output.is_dir():
            arm = "/".join(filter(None, (step.cell, step.arm)))
            console.print(f"  {arm} (seed {step.seed}): {step.model.model_args()}")
    superseded, size = runner.superseded(plan)
    if size:
        where = f"({size / 1e9:.2f} GB) are in {superseded}"
        console.print(f"  outputs of earlier settings {where}; delete them when you like")
    print_pages(folder)


def print_pages(folder: Path) -> None:
    console.print(f"report: {folder / 'index.html'} (for a browser); beside it report.md, report.json and the pictures")


def print_counts(name: str, counts: Mapping[str, Mapping[str, int]]) -> None:
    """A table of the numbers of samples: a row for each label, a column for each split."""
    from rich.table import Table

    table = Table(title=f"{name}: samples")
    table.add_column("label")
    for split in counts:
        table.add_column(split if split != "train" or "test" in counts else "train in all folds", justify="right")
    for label in next(iter(counts.values())):
        table.add_row(label or "(no label)", *(str(counts[split][label]) for split in counts))
    table.add_row("all", *(str(sum(counts[split].values())) for split in counts), style="bold")
    console.print(table)


def print_check(name: str, about: Mapping[str, str], checked: CheckResult, examples: int = 3) -> None:
    """What the YAML says about the dataset, and a table with a row for each kind of finding."""
    from rich.table import Table

    for key, text in about.items():
        console.print(f"{key}: {one_line(text)}")
    table = Table(title=f"{name}: findings", show_lines=True)
    table.add_column("")
    table.add_column("kind")
    table.add_column("number", justify="right")
    table.add_column("where and what", overflow="fold")
    for (level, kind), some in grouped(checked.findings).items():
        rest = len(some) - examples
        shown = [str(f) for f in some[:examples]] + ([f"... and {rest} more (--json has all)"] if rest > 0 else [])
        table.add_row(level, kind, str(len(some)), "\n".join(shown))
    if checked.findings:
        console.print(table)


def print_check_json(name: str, about: Mapping[str, str], checked: CheckResult) -> None:
    content = {"dataset": name, "about": about, "samples": checked.samples, "counts": checked.counts}
    content |= {f"{level}s": checked.count(level) for level in ("error", "warning", "note")}
    content |= {"findings": [asdict(finding) for finding in checked.findings]}
    print(json.dumps(content, indent=2, ensure_ascii=False))


def print_prepared(dataset: Dataset, prepared: Prepared) -> None:
    """The counts of a prepared dataset, what was left out, and the names under which both harnesses know it."""
    from rbft_plugin.data.prepared import DataFolder, splits_with_labels
    from rbft_plugin.spec.names import STAGES, TASK_KINDS, VALIDATION_ROWS, fold_name, llamafactory_name, task_name

    name, manifest, folder = dataset.name, prepared.manifest, DataFolder(dataset.name)
    print_counts(name, manifest.counts)
    if missing := manifest.missing.samples:
        of = ", ".join(
            f"{count} of {split} {label or '(no label)'}"
            for split, labels in manifest.missing.counts.items()
            for label, count in labels.items()
            if count
        )
        allowed = f"max_missing allows {dataset.max_missing}"
        console.print(f"{len(missing)} without a video that can be used ({of}; {allowed}): see manifest.json")
    console.print(f"clips: {prepared.new} new" if prepared.new else "clips: all there already, none made")
    if prepared.unused:
        size = f"{prepared.unused_bytes / 1e6:.1f} MB"
        console.print(f"{prepared.unused} files of {folder.clips} ({size}) are used by no sample any more")
    tasks = ", ".join(task_name(name, kind) for kind in TASK_KINDS)
    splits = splits_with_labels(dataset)
    stages = [*reversed(STAGES), *([VALIDATION_ROWS] if "val" in splits else [])]
    rows = ", ".join(llamafactory_name(name, stage) for stage in stages)
    console.print(f"{name}: prepared in {folder.path}; tasks {tasks}; LLaMA-Factory datasets {rows}")
    others = " or ".join(f"_{split}" for split in splits if split != "test")
    if dataset.folds:
        last = fold_name(dataset.folds - 1)
        console.print(f"tasks that score one fold have the same names, with _{fold_name(0)} to _{last} at the end")
        console.print(
            f"{llamafactory_name(name, 'label')} has the samples of all folds; to train for the test of fold 0: "
            f"rbft rows {name} label --fold 0 --output FOLDER/label.jsonl"
        )
    console.print(f"tasks that score the other splits have the same names, with {others} at the end")


def print_shard(name: str, shard: str, total: int, new: int, problems: Sequence[str]) -> None:
    counts = f"{total} samples, {new} new clips, {len(problems)} videos that cannot be used"
    console.print(f"{name}: shard {shard}: {counts}")
    for problem in problems:
        console.print(f"  {problem}")
    console.print(f"when all shards are done: rbft prepare {name}")
