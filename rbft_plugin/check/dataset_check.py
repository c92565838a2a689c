"""`rbft check`: everything that is wrong or doubtful in a dataset, at once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rbft_plugin.check import annotation_checks, model_fit, near_duplicates
from rbft_plugin.check.model_fit import TrainingExample
from rbft_plugin.check.near_duplicates import PictureFingerprint
from rbft_plugin.clips.canonical import read_frames
from rbft_plugin.clips.decode import window
from rbft_plugin.clips.video import Clip, VideoError, probe
from rbft_plugin.data import prompts, splits
from rbft_plugin.data.annotations import Annotated, Sample, read_annotations
from rbft_plugin.data.clip_workers import Progress
from rbft_plugin.data.prepare import counts
from rbft_plugin.data.prepared import read_manifest, read_split
from rbft_plugin.errors import Finding, Level, ProblemsError, RbftError
from rbft_plugin.llamafactory import training
from rbft_plugin.llamafactory.rows import read_texts
from rbft_plugin.model import rope_check
from rbft_plugin.model.processor import load_base
from rbft_plugin.spec.dataset import ClipSettings, Dataset, path_of
from rbft_plugin.spec.dataset_sources import SPLITS
from rbft_plugin.spec.recipe import Recipe, recipes_with
from rbft_plugin.spec.row_kinds import LABEL_MARK, ROW_KINDS, RowKind

ORDER = ("error", "warning", "note")
KINDS = {"does not exist": "missing-video", "is not a file": "missing-video", "is empty": "empty-video"}


@dataclass(frozen=True)
class CheckResult:
    """Numbers of samples by split and label, and the findings, errors first."""

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
class VideoCheck:
    """A sample's video: its header, and with --deep its fingerprint; or the problem with it."""

    sample: Sample
    header: Clip | None = None
    fingerprint: PictureFingerprint | None = None
    problem: str = ""

    @property
    def seconds(self) -> float | None:
        """Its length, as decoded or else by its header; None where the header does not say."""
        if self.fingerprint:
            return self.fingerprint.seconds
        return model_fit.seconds(self.header, self.sample.part) if self.header else None


def check(dataset: Dataset, progress: Progress, deep: bool = False, recipe: Recipe | None = None) -> CheckResult:
    """Check the annotations and the header of every video. `deep` also decodes the videos.

    With a recipe, the clips and texts are compared with its base model and its training. Raises RbftError for
    annotations that cannot be read as samples.
    """
    annotated = read_annotations(dataset)
    samples = splits.assign(annotated.samples, dataset.splits, f"{path_of(dataset.name)}: splits")
    table = counts(dataset, samples)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checks = pool.map(lambda sample: _check_video(sample, dataset.clips, deep), samples)
        videos = list(progress(checks, len(samples), "videos, decoded" if deep else "videos"))
    usable = [video for video in videos if not video.problem]
    missing = [video for video in videos if video.problem]
    enough = len(missing) <= dataset.max_missing
    left = counts(dataset, [s.sample for s in usable]) if enough else table
    findings = [
        *annotation_checks.classes(left, dataset.label_names),
        *_unusable(missing, "warning" if enough else "error", dataset.max_missing),
        *near_duplicates.findings({s.sample: s.fingerprint for s in usable}),
        *([] if deep else _not_deep()),
        *annotation_checks.groups(samples),
        *annotation_checks.names(dataset.label_names),
        *annotation_checks.leaks(dataset, samples),
        *_remarks(dataset, annotated),
        *_short(usable),
        *(_fit(dataset, recipe, usable) if recipe else _no_recipe(dataset.name)),
        *_positions(),
    ]
    unique = dict.fromkeys(findings)  # two stages may have the same finding
    return CheckResult(table, len(samples), sorted(unique, key=lambda f: ORDER.index(f.level)))


def about(dataset: Dataset) -> dict[str, str]:
    """The texts about the dataset that its YAML has."""
    return {key: text for key, text in dataset.about.model_dump().items() if text}


def refused(error: RbftError) -> list[Finding]:
    """The findings of a dataset that cannot be checked, because its YAML or its annotations are wrong."""
    if isinstance(error, ProblemsError):
        return [Finding("error", "dataset", error.what, problem) for problem in error.problems]
    where, _, text = str(error).partition(": ")
    return [Finding("error", "dataset", where if text else "", text or where)]


def _check_video(sample: Sample, settings: ClipSettings, deep: bool) -> VideoCheck:
    try:
        header = probe(sample.video, estimate=True)
        if not deep:
            if length := model_fit.seconds(header):
                window(sample.part, length)  # raises VideoError for a segment that is not in the video
            return VideoCheck(sample, header)
        # At least as many frames as prepare takes, and enough of a short video to recognize a copy.
        finer = settings.model_copy(update={"frames": max(settings.frames, near_duplicates.STEPS), "max_fps": 30.0})
        frames, seconds = read_frames(sample.video, finer, sample.part)
        return VideoCheck(sample, header, near_duplicates.picture_fingerprint(frames, seconds))
    except VideoError as error:
        return VideoCheck(sample, problem=str(error))


def _unusable(videos: Sequence[VideoCheck], level: Level, allowed: int) -> list[Finding]:
    """Videos that cannot be used: errors, unless a run may do without so many."""
    findings = [
        Finding(level, KINDS.get(s.problem, "unreadable-video"), s.sample.named, f"{s.sample.video} {s.problem}")
        for s in videos
    ]
    if videos and allowed:
        of_split = ", ".join(f"{split} {n}" for split, n in Counter(s.sample.split for s in videos).items())
        text = f"allows {allowed} videos that cannot be used; there are {len(videos)} ({of_split})"
        findings.append(Finding(level, "max-missing", "max_missing", text))
    return findings


def _short(videos: Sequence[VideoCheck]) -> list[Finding]:
    findings = []
    for one in videos:
        if one.seconds and one.seconds < 1:
            text = f"{one.sample.video} lasts {one.seconds:.2g} s: little can happen in it"
            findings.append(Finding("warning", "short-video", one.sample.named, text))
    return findings


def _remarks(dataset: Dataset, annotated: Annotated) -> list[Finding]:
    """What the annotations leave out or lack, and what the YAML names that they do not have."""
    given, values = dataset.annotations, annotated.label_values
    findings = [Finding("warning", "annotations", "annotations", text) for text in annotated.warnings]
    findings += [Finding("note", "dropped", "annotations", text) for text in annotated.dropped]
    for label in dataset.labels:
        findings += annotation_checks.unused(f"values of label '{label.name}'", label.values, values)
    findings += annotation_checks.unused("annotations.drop", given.drop, values)
    return findings + annotation_checks.unused("annotations.unlabelled", given.unlabelled, values)


def _no_recipe(name: str) -> list[Finding]:
    """A note that names the recipes of the workspace that are of this dataset."""
    using = [path.as_posix() for path in recipes_with("dataset", name)]
    with_ = f"--recipe {min(using, key=len)}" if using else "--recipe RECIPE"  # demo.yaml, not demo_full.yaml
    text = f"token lengths, sizes and rates were not checked against a model and its training: give {with_}"
    return [Finding("note", "no-recipe", "clips", text)]


def _fit(dataset: Dataset, recipe: Recipe, videos: Sequence[VideoCheck]) -> list[Finding]:
    """Whether the clips, prepared or planned, suit the recipe's base model and stages."""
    made = _prepared(dataset)
    clip_of = {
        s.sample.id: made.get(s.sample.id) or model_fit.planned(s.header, s.seconds, dataset.clips)
        for s in videos if s.header
    }  # fmt: skip
    base, findings = None, []
    try:
        base = load_base(recipe.base_model)
        findings += model_fit.model_findings(base, dataset.clips, clip_of.values())
        if any(map(recipe.stages_of, recipe.arms)):
            findings += model_fit.break_findings(base, [dataset.prompts.after_video])
    except RbftError as error:
        text = f"{error}; sizes, rates and token lengths were not checked against it"
        findings.append(Finding("note", "no-model", "base_model", text))
    used = dict.fromkeys(stage for arm in recipe.arms for stage in recipe.stages_of(arm))
    for stage in used:
        try:
            merged = training.stage_settings(recipe.training, stage).merged
            longest = model_fit.longest_rationale(recipe)
            file = recipe.training.stages[stage].file
            texts = read_texts(file) if file else None
        except RbftError as error:
            findings += refused(error)
            continue
        kind, samples = ROW_KINDS[recipe.training.stages[stage].rows], recipe.training.stages[stage].samples
        examples = [
            _example(dataset, kind, s.sample, clip_of[s.sample.id], texts[s.sample.id] if texts else longest)
            for s in videos if s.sample.split not in ("val", "test")
            and (s.sample.label is not None or (samples == "all" and not kind.labelled_only))
            and (texts is None or s.sample.id in texts)
        ]  # fmt: skip
        wrong_size = any(f.kind == "size-multiple" for f in findings)
        findings += model_fit.stage_findings(None if wrong_size else base, merged, stage, examples)
    return findings


def _example(dataset: Dataset, kind: RowKind, sample: Sample, clip: Clip, rationale: str | int) -> TrainingExample:
    """What a row of this kind will hold. Of a rationale that a model writes only the most tokens are known."""
    label, context = sample.label or "", sample.context
    if kind.prompt == "label":
        prompt = prompts.label(dataset, context)
    elif kind.prompt == "hinted":
        prompt = prompts.hinted(dataset, label, context)
    else:
        prompt = prompts.rationale(dataset, context)
    if not kind.rationales:
        return TrainingExample(sample.named, clip, prompt, label)
    if isinstance(rationale, str):
        return TrainingExample(sample.named, clip, prompt, rationale)
    return TrainingExample(
        sample.named, clip, prompt, rationale + (len((LABEL_MARK + label).encode()) if kind.label else 0)
    )


def _prepared(dataset: Dataset) -> dict[str, Clip]:
    """Clips of a dataset that was prepared with the same settings, by id."""
    try:
        if read_manifest(dataset.name).clips != dataset.clips:
            return {}
        prepared = [sample for split in SPLITS for sample in read_split(dataset.name, split)]
    except (RbftError, OSError):  # not prepared, or not completely: the headers must do
        return {}
    return {sample.id: model_fit.clip_of(sample) for sample in prepared}


def _positions() -> list[Finding]:
    families = ", ".join(rope_check.installed_misplaces())
    text = f"the installed version misplaces text after videos for {families} models; {rope_check.TESTED} is right"
    return [Finding("warning", "transformers", "transformers", text)] if families else []


def _not_deep() -> list[Finding]:
    text = "only equal files were looked for; --deep compares pictures too, and decodes every video"
    return [Finding("note", "not-deep", "videos", text)]
