"""Every path of a run's folder is made here, and read here.

runs/<run>/
    plan.json                                   what the run scores
    choices.json, [<cell>/]chosen[-fold-<fold>].yaml   what `select` compared; the recipe of what it chose
    steps/<step>.json, <step>.started.json      a step's last success; a start that has not succeeded (yet)
    logs/<step>.log                             what its command printed
    superseded/<step>-<time>/                   what a step made of earlier inputs, or was making when interrupted
    report/
    [<cell>/]rationales[_hinted]/, rows[_hinted]/
    [<cell>/]<arm>/seed-<seed>/[without-<folds>/]<stage>/, eval[_<split>][_<model>]/, merged/
        of a stage's further rounds: <stage>-<round>/, <stage>-<round>_rationales/, <stage>-<round>_rows/
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

from rbft_plugin.spec.dataset_sources import Split

RUNS = Path("runs")
COLLECTED = "rationale.jsonl"  # in a folder of rows, those of the rationales that were kept
LOSSES = "trainer_log.jsonl"  # LLaMA-Factory's, in a stage's folder


# --- paths; `run` is a run's folder, `part` it or the folder of a cell in it ---


def run_folder(name: str) -> Path:
    return RUNS / name


def slug(step: str) -> str:
    """A step's name as the name of a file."""
    return step.replace(" ", "-").replace("/", "-")


def plan_file(run: Path) -> Path:
    return run / "plan.json"


def choices_file(run: Path) -> Path:
    return run / "choices.json"


def chosen_file(part: Path, fold: int | None = None) -> Path:
    """The recipe of what was chosen, for all or for one fold."""
    return part / ("chosen.yaml" if fold is None else f"chosen-fold-{fold}.yaml")


def lock_file(run: Path) -> Path:
    return run / ".lock"


def record_file(run: Path, step: str) -> Path:
    return run / "steps" / f"{slug(step)}.json"


def started_file(run: Path, step: str) -> Path:
    return run / "steps" / f"{slug(step)}.started.json"


def log_file(run: Path, step: str, node: int = 0) -> Path:
    return run / "logs" / f"{slug(step)}{f'.node-{node}' if node else ''}.log"


def superseded_folder(run: Path) -> Path:
    return run / "superseded"


def aside(run: Path, step: str) -> Path:
    """Where a step's output is moved now, when it has to be made anew."""
    return superseded_folder(run) / f"{slug(step)}-{time.strftime('%Y%m%d-%H%M%S')}"


def report_folder(run: Path) -> Path:
    return run / "report"


def rationales_folder(part: Path, hinted: bool) -> Path:
    return part / f"rationales{'_hinted' if hinted else ''}"


def answers_cache(output: Path) -> Path:
    """Where the answers of an interrupted generation are, beside its output."""
    return output.with_suffix(".cache")


def rows_folder(part: Path, hinted: bool = False) -> Path:
    return part / f"rows{'_hinted' if hinted else ''}"


def collected_file(part: Path, hinted: bool) -> Path:
    """The rows of the rationales that were kept."""
    return rows_folder(part, hinted) / COLLECTED


def round_rationales_folder(models: Path, stage: str) -> Path:
    """Where the model of the round before writes the rationales of a stage's further round, such as rationale-2."""
    return models / f"{stage}_rationales"


def round_rows_folder(models: Path, stage: str) -> Path:
    """Where rows of these rationales are."""
    return models / f"{stage}_rows"


def models_folder(part: Path, arm: str, seed: int, without: Sequence[int] = ()) -> Path:
    """Where the models of an arm and seed are, and their answers; `without` are folds that they are not trained on."""
    folder = part / arm / f"seed-{seed}"
    return folder / f"without-{'-'.join(map(str, without))}" if without else folder


def merged_stage_folder(stage: Path) -> Path:
    """Where a stage's model is merged for the next stage to start from."""
    return stage.with_name(f"{stage.name}_merged")


def merged_folder(models: Path) -> Path:
    """Where an arm's last model is merged, below the folder of its models."""
    return models / "merged"


def evaluation_folder(models: Path, split: Split = "test", of: str = "", fold: int | None = None) -> Path:
    """Where the answers of an arm's last model to a split or fold are logged, or those of an earlier model, named by
    `of`.
    """
    which = f"fold{fold}" if fold is not None else "" if split == "test" else split
    return models / "_".join(filter(None, ["eval", which, of]))


# --- the other way: what lies in a run's folder, and what a path says ---


def run_of(path: Path) -> Path | None:
    """The run's folder that a path lies in, if `rbft run` made it."""
    return next((p for p in path.resolve().parents if (p / "steps").is_dir()), None)


def run_named(path: Path) -> str | None:
    """The run that a path, relative to the workspace, names; neither need exist any more.

    runs/by_hand is no run: the shipped recipes of LLaMA-Factory write there.
    """
    named = path.parts[1] if path.is_relative_to(RUNS) and len(path.parts) > 2 else None
    return None if named == "by_hand" else named


def workspace_of(run: Path) -> Path:
    return run.parents[1]


def below_run(path: Path) -> Path:
    """The part of a planned path below its run's folder, which may have been moved since."""
    return Path(*path.parts[2:])


def seed_in(path: str) -> int | None:
    """The seed that a path names, if it names one."""
    found = re.search(r"(?:^|/)seed-(\d+)(?:/|$)", path)
    return int(found[1]) if found else None


def evaluations(run: Path) -> list[tuple[str, int, Path]]:
    """(arm, seed, folder) of the evaluations of a run without a sweep, by arm and seed."""
    folders = [*run.glob("*/seed-*/eval"), *run.glob("*/seed-*/without-*/eval_fold*")]
    return [(*_arm_and_seed(path.relative_to(run)), path) for path in sorted(folders)]


def _arm_and_seed(below: Path) -> tuple[str, int]:
    """The arm, below its cell, and the seed that a path below a run's folder names."""
    at = next(place for place, part in enumerate(below.parts) if re.fullmatch(r"seed-\d+", part))
    return "/".join(below.parts[:at]), int(below.parts[at].removeprefix("seed-"))


def arm_in_cell(output: Path) -> str:
    """The arm, below the part of a sweep's cell, whose models' folder has this planned output."""
    return _arm_and_seed(below_run(output))[0]


def loss_files(run: Path) -> list[tuple[str, int, str, Path]]:
    """(arm, below its cell; seed; stage; LLaMA-Factory's log of losses) of a run's trainings."""
    found = []
    for file in sorted([*run.glob(f"**/seed-*/*/{LOSSES}"), *run.glob(f"**/seed-*/without-*/*/{LOSSES}")]):
        arm, seed = _arm_and_seed(file.relative_to(run))
        if not file.is_relative_to(superseded_folder(run)):
            found.append((arm, seed, file.parent.name, file))
    return found


def collected_rationales(run: Path) -> list[Path]:
    """Files of collected rationales: plain ones of the whole run, then of its cells; hinted ones after them."""
    patterns = [collected_file(Path(part), hinted) for hinted in (False, True) for part in ("", "*")]
    return [path for pattern in patterns for path in sorted(run.glob(pattern.as_posix()))]
