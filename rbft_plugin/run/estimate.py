"""What a run will take: steps, videos, disk and time. Times come from earlier runs of this workspace."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rbft_plugin.data.prepared import Manifest, read_manifest
from rbft_plugin.errors import RbftError
from rbft_plugin.run import runner
from rbft_plugin.run.records import StepRecord, all_records
from rbft_plugin.run.steps import Plan, Step
from rbft_plugin.spec.names import fold_name


@dataclass(frozen=True)
class Estimate:
    """`seconds` is None where no earlier run tells; bytes of models are None for a base that is not a local folder.

    `model_bytes` are those of models with all weights.
    """

    to_do: list[Step]
    done: int
    seconds: float | None
    model_bytes: int | None
    free_bytes: int
    videos: int | None
    answers: int | None
    harness_starts: int
    adapters: int = 0

    def lines(self) -> list[str]:
        """As a person reads it."""
        videos = "not known before `rbft prepare`" if self.videos is None else f"{self.videos}"
        answers = "" if self.answers is None else f"; answers to generate about them: {self.answers}"
        models = []
        if self.model_bytes is None:
            models.append("size of trained models unknown (the base model is not a local folder)")
        elif self.model_bytes or not self.adapters:
            models.append(f"trained models at most {_size(self.model_bytes)}")
        models += [f"adapters: {self.adapters}"] if self.adapters else []
        time = (
            f"about {_minutes(self.seconds)}, step after step, by earlier runs"
            if self.seconds is not None
            else f"not known before a first run; {self.harness_starts} starts of a harness take 20 to 30 s each"
        )
        return [
            *(f"- {step.name}" for step in self.to_do),
            f"videos: {videos}{answers}",
            f"disk: {', '.join(models)}; {_size(self.free_bytes)} are free",
            f"time: {time}",
        ]


def estimate(plan: Plan, steps: Sequence[Step]) -> Estimate:
    """Of what is still to do. A step's time is the median of earlier steps of its kind on the same base model."""
    to_do = [s for s in steps if s.kind == "prepare" or not runner.is_done(plan, s) or runner.needed_again(plan, s)]
    past = [record for record in all_records() if record.seconds is not None]
    times = [(step, _seconds(step, plan.recipe.base_model, past)) for step in to_do]
    known = [seconds for _, seconds in times if seconds is not None]
    # The steps of rbft itself take seconds, so an unknown one does not make the sum unknown.
    unknown = [step for step, seconds in times if seconds is None and step.argv[0] != "rbft"]
    whole = sum(step.models_made for step in to_do)
    base = Path(plan.recipe.base_model)
    size = sum(p.stat().st_size for p in base.rglob("*") if p.is_file()) if base.is_dir() else None
    return Estimate(
        to_do,
        len(steps) - len(to_do),
        None if unknown or not known else sum(known),
        size * whole if size is not None else None if whole else 0,
        shutil.disk_usage(".").free,
        *_videos_and_answers(plan, to_do),
        sum(s.argv[0] != "rbft" for s in to_do),
        adapters=sum(step.adapters_made for step in to_do),
    )


def _videos_and_answers(plan: Plan, to_do: list[Step]) -> tuple[int | None, int | None]:
    """Videos of the dataset, and answers that lmms-eval has to generate, if the dataset is prepared."""
    try:
        manifest = read_manifest(plan.dataset.name)
    except RbftError:
        return None, None
    videos = sum(sum(of_label.values()) for of_label in manifest.counts.values())
    return videos, sum(_answers(step, _asked(manifest, step)) for step in to_do if step.split)


def _asked(manifest: Manifest, step: Step) -> Mapping[str, int]:
    return manifest.in_file(fold_name(step.fold) if step.fold is not None else step.split or "")


def _answers(step: Step, of_label: Mapping[str, int]) -> int:
    """At most how many samples a step asks about: only those with a label are scored."""
    samples = sum(count for label, count in of_label.items() if label or step.kind == "rationales")
    return samples if step.most is None else min(samples, step.most)


def _seconds(step: Step, base: str, past: list[StepRecord]) -> float | None:
    """Median seconds of recorded steps of the same kind that read the same base model or none."""
    found = [
        one.seconds
        for one in past
        if one.seconds is not None and one.kind == step.kind and (not step.models or _reads(one, base, step.models))
    ]
    return median(found) if found else None


def _reads(past: StepRecord, base: str, models: tuple[str, ...]) -> bool:
    return any(base in word for word in past.inputs.argv) or any(model in past.inputs.models for model in models)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} s"
