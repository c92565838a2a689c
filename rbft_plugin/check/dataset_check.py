"""`rbft check`: everything that is wrong or doubtful in a dataset, at once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rbft_plugin.check import annotation_checks as doubts
from rbft_plugin.check import model_fit as fit
from rbft_plugin.check import near_duplicates as duplicates
from rbft_plugin.clips import decode as decoding
from rbft_plugin.clips.canonical import read_frames
from rbft_plugin.clips.video import Clip, VideoError, probe
from rbft_plugin.data import prompts, splits
from rbft_plugin.data.annotations import Annotated, Sample
from rbft_plugin.data.annotations import read as read_annotations
from rbft_plugin.data.clip_workers import Progress
from rbft_plugin.data.prepare import counts
from rbft_plugin.data.prepared import read_manifest, read_split
from rbft_plugin.errors import Finding, Level, ProblemsError, RbftError
from rbft_plugin.llamafactory import training
from rbft_plugin.model import rope_check as positions
from rbft_plugin.model.processor import load_base
from rbft_plugin.spec.dataset import SPLITS, ClipSettings, Dataset
from rbft_plugin.spec.recipe import Recipe, recipes_with
from rbft_plugin.spec.row_kinds import LABEL_MARK, ROW_KINDS, RowKind

ORDER = ("error", "warning", "note")
KINDS = {"does not exist": "missing-video", "is not a file": "missing-video", "is empty": "empty-video"}


@dataclass(frozen=True)
class Checked:
    """Samples by split and label, and what was found, errors first."""

    counts: dict[str, dict[str, int]]
    samples: int
    findings: list[Finding]

    def count(self, level: str) -> int:
        return sum(f.level == level for f in self.findings)

    @property
    def summary(self) -> str:
        wrong = [f"{n} {level}{'s' if n > 1 else ''}" for level in ORDER[:2] if (n := self.count(level))]
        return f"{self.samples} samples, {', '.join(wrong) or 'no problem found'}"


@dataclass(frozen=True)
class Seen:
    """What was found of a sample's video: its header, and with --deep its look; or what is wrong with it."""

    sample: Sample
    header: Clip | None = None
    look: duplicates.Look | None = None
    problem: str = ""

    @property
    def seconds(self) -> float | None:
        """How long it is, as decoded or else by its header, which may not say."""
        if self.look:
            return self.look.seconds
        return fit.seconds(self.header, self.sample.part) if self.header else None


def check(dataset: Dataset, progress: Progress, deep: bool = False, recipe: Recipe | None = None) -> Checked:
    """Look at annotations and at every video's header; `deep` decodes the videos, a recipe is held against them.

    Raises RbftError for what makes a check impossible: annotations that cannot be read as samples.
    """
    annotated = read_annotations(dataset)
    found = splits.assign(annotated.samples, dataset.splits)
    table = counts(dataset, found)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looking = pool.map(lambda s: _see(s, dataset.clips, deep), found)
        seen = list(progress(looking, len(found), "videos, decoded" if deep else "videos"))
    usable = [s for s in seen if not s.problem]
    missing = [s for s in seen if s.problem]
    may_go_on = len(missing) <= dataset.max_missing
    left = counts(dataset, [s.sample for s in usable]) if may_go_on else table
    findings = [
        *doubts.classes(left, dataset.label_names),
        *_unusable(missing, "warning" if may_go_on else "error", dataset.max_missing),
        *duplicates.findings({s.sample: s.look for s in usable}),
        *([] if deep else _not_deep()),
        *doubts.groups(found),
        *doubts.names(dataset.label_names),
        *doubts.leaks(dataset, found),
        *_remarks(dataset, annotated),
        *_short(usable),
        *(_fit(dataset, recipe, usable) if recipe else _no_recipe(dataset.name)),
        *_positions(),
    ]
    unique = dict.fromkeys(findings)  # two stages may say the same of the clips
    return Checked(table, len(found), sorted(unique, key=lambda f: ORDER.index(f.level)))


def about(dataset: Dataset) -> dict[str, str]:
    """What the YAML says of the dataset, as far as it says anything."""
    return {key: text for key, text in dataset.about.model_dump().items() if text}


def refused(error: RbftError) -> list[Finding]:
    """The findings of a dataset that cannot be checked, because its YAML or its annotations are wrong."""
    if isinstance(error, ProblemsError):
        return [Finding("error", "dataset", error.what, problem) for problem in error.problems]
    where, _, text = str(error).partition(": ")
    return [Finding("error", "dataset", where if text else "", text or where)]


def _see(sample: Sample, settings: ClipSettings, deep: bool) -> Seen:
    try:
        header = probe(sample.video, estimate=True)
        if not deep:
            if length := fit.seconds(header):
                decoding.window(sample.part, length)  # raises VideoError for a segment that is not in the video
            return Seen(sample, header)
        # As many frames as prepare takes, but never so few that a copy could not be told: short videos hold more here.
        finer = settings.model_copy(update={"frames": max(settings.frames, duplicates.STEPS), "max_fps": 30.0})
        frames, seconds = read_frames(sample.video, finer, sample.part)
        return Seen(sample, header, duplicates.look(frames, seconds))
    except VideoError as error:
        return Seen(sample, problem=str(error))


def _unusable(seen: Sequence[Seen], level: Level, allowed: int) -> list[Finding]:
    """Videos that cannot be used: errors, unless a run may do without so many."""
    found = [
        Finding(level, KINDS.get(s.problem, "unreadable-video"), s.sample.named, f"{s.sample.video} {s.problem}")
        for s in seen
    ]
    if seen and allowed:
        of_split = ", ".join(f"{split} {n}" for split, n in Counter(s.sample.split for s in seen).items())
        text = f"allows {allowed} videos that cannot be used; there are {len(seen)} ({of_split})"
        found.append(Finding(level, "max-missing", "max_missing", text))
    return found


def _short(seen: Sequence[Seen]) -> list[Finding]:
    found = []
    for one in seen:
        if one.seconds and one.seconds < 1:
            text = f"{one.sample.video} lasts {one.seconds:.2g} s: little can happen in it"
            found.append(Finding("warning", "short-video", one.sample.named, text))
    return found


def _remarks(dataset: Dataset, annotated: Annotated) -> list[Finding]:
    """What the annotations leave out or lack, and what the YAML names that they do not have."""
    given, raws = dataset.annotations, annotated.raws
    found = [Finding("warning", "annotations", "annotations", text) for text in annotated.doubts]
    found += [Finding("note", "dropped", "annotations", text) for text in annotated.dropped]
    for label in dataset.labels:
        found += doubts.unused(f"values of label '{label.name}'", label.values, raws)
    found += doubts.unused("annotations.drop", given.drop, raws)
    return found + doubts.unused("annotations.unlabelled", given.unlabelled, raws)


def _no_recipe(name: str) -> list[Finding]:
    """A note that names the recipes of the workspace that are of this dataset."""
    using = [path.as_posix() for path in recipes_with("dataset", name)]
    with_ = f"--recipe {min(using, key=len)}" if using else "--recipe RECIPE"  # demo.yaml, not demo_full.yaml
    text = f"token lengths, sizes and rates were not held against a model and its training: give {with_}"
    return [Finding("note", "no-recipe", "clips", text)]


def _fit(dataset: Dataset, recipe: Recipe, seen: Sequence[Seen]) -> list[Finding]:
    """How the clips, as they are or will be, suit the recipe's base model and stages."""
    made = _prepared(dataset)
    clip_of = {
        s.sample.id: made.get(s.sample.id) or fit.planned(s.header, s.seconds, dataset.clips)
        for s in seen if s.header
    }  # fmt: skip
    base, found = None, []
    try:
        base = load_base(recipe.base_model)
        found += fit.model_findings(base, dataset.clips, clip_of.values())
        if any(recipe.arms.values()):
            found += fit.break_findings(base, [dataset.prompts.after_video])
    except RbftError as error:
        text = f"{error}; sizes, rates and token lengths were not held against it"
        found.append(Finding("note", "no-model", "base_model", text))
    used = dict.fromkeys(stage for stages in recipe.arms.values() for stage in stages)
    for stage in used:
        try:
            _, _, merged = training.settings(recipe.training, stage)
            longest = fit.longest_rationale(recipe)
        except RbftError as error:
            found += refused(error)
            continue
        kind, samples = ROW_KINDS[recipe.training.stages[stage].rows], recipe.training.stages[stage].samples
        examples = [
            _example(dataset, kind, s.sample, clip_of[s.sample.id], longest)
            for s in seen if s.sample.split == "train"
            and (s.sample.label is not None or (samples == "all" and not kind.labelled_only))
        ]  # fmt: skip
        wrong_size = any(f.kind == "size-multiple" for f in found)
        found += fit.stage_findings(None if wrong_size else base, merged, stage, examples)
    return found


def _example(dataset: Dataset, kind: RowKind, sample: Sample, clip: Clip, longest: int) -> fit.Example:
    """What a row of this kind will hold. Of a rationale only the most tokens are known."""
    label, context = sample.label or "", sample.context
    if kind.prompt == "label":
        prompt = prompts.label(dataset, context)
    elif kind.prompt == "hinted":
        prompt = prompts.hinted(dataset, label, context)
    else:
        prompt = prompts.rationale(dataset, context)
    if not kind.rationales:
        return fit.Example(sample.named, clip, prompt, label)
    return fit.Example(sample.named, clip, prompt, longest + (len((LABEL_MARK + label).encode()) if kind.label else 0))


def _prepared(dataset: Dataset) -> dict[str, Clip]:
    """Clips of a dataset that was prepared with the same settings, by id."""
    try:
        if read_manifest(dataset.name).clips != dataset.clips:
            return {}
        prepared = [sample for split in SPLITS for sample in read_split(dataset.name, split)]
    except (RbftError, OSError):  # not prepared, or not wholly: then headers tell
        return {}
    return {sample.id: fit.clip_of(sample) for sample in prepared}


def _positions() -> list[Finding]:
    families = ", ".join(positions.installed_misplaces())
    text = f"the installed version misplaces text after videos for {families} models; {positions.TESTED} is right"
    return [Finding("warning", "transformers", "transformers", text)] if families else []


def _not_deep() -> list[Finding]:
    text = "only equal files were looked for; --deep compares pictures too, and decodes every video"
    return [Finding("note", "not-deep", "videos", text)]
