"""Recipe -> the ordered steps of a run: command lines of the two harnesses, what they need, how to judge them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rbft_plugin import checkpoint, evaluation, fit, preparation, registry, training
from rbft_plugin.checkpoint import Checkpoint
from rbft_plugin.dataset import Dataset
from rbft_plugin.recipe import Evaluation, Recipe, Stage


@dataclass(frozen=True)
class Step:
    """One command. Its record in steps/ makes it done for as long as command, files and models stay the same.

    `problems_before` is asked before it starts; `problems_after`, with its log, decides whether it succeeded.
    """

    name: str
    argv: list[str]
    output: Path | None = None  # a folder that only this step writes
    leaves: tuple[Path, ...] = ()  # files that it has to make; without them it has failed, or has to run again
    files: tuple[Path, ...] = ()  # read by it: content counts; of a folder, the logs of samples below it
    models: tuple[str, ...] = ()  # read by it: fingerprints count
    cache: Path | None = None  # what an interrupted start left for the next one with the same inputs
    resumable: bool = False  # the harness itself goes on from a checkpoint-* that an interrupted start left in `output`
    always: bool = False  # cheap, and knows itself what is up to date
    problems_before: Callable[[], list[str]] = lambda: []
    problems_after: Callable[[str], list[str]] = lambda log: []
    finish: Callable[[], None] = lambda: None

    @property
    def slug(self) -> str:
        return self.name.replace(" ", "-").replace("/", "-")

    def command(self) -> list[str]:
        """`argv` as it is run: an evaluation's model arguments end in the fingerprint of the model as it is now."""
        if "--model_args" not in self.argv or not self.models:
            return self.argv
        at = self.argv.index("--model_args") + 1
        fingerprint = Checkpoint(self.models[0], self.models[1:]).fingerprint()
        return [*self.argv[:at], f"{self.argv[at]},fingerprint={fingerprint}", *self.argv[at + 1 :]]

    def inputs(self) -> dict[str, Any]:
        """What the outcome depends on, as it is on disk now."""
        return {
            "argv": self.argv,
            "files": {p.as_posix(): _content(p) for p in self.files},
            "models": {m: checkpoint.fingerprint(m) for m in self.models},
        }


@dataclass(frozen=True)
class Plan:
    """The steps of a run, in order, and the model of each (arm, seed)."""

    recipe: Recipe
    dataset: Dataset
    steps: list[Step]
    models: dict[tuple[str, int], Checkpoint] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.recipe.folder


def make(recipe: Recipe, dataset: Dataset) -> Plan:
    """All steps of a run. Arms that begin with the same stages share them."""
    base = Checkpoint(recipe.base_model, (), dataset.name)
    plan = Plan(recipe, dataset, [_prepare(dataset)])
    if any("rationale" in stages for stages in recipe.arms.values()):
        plan.steps.extend([_generate(plan, base), _collect(plan)])
    trained: dict[tuple[int, tuple[Stage, ...]], Checkpoint] = {}
    scored: list[str] = []
    for arm, stages in recipe.arms.items():
        for seed in recipe.seeds if stages else recipe.seeds[:1]:
            model = base
            for i, stage in enumerate(stages, 1):
                if (seed, stages[:i]) not in trained:
                    step, trained[seed, stages[:i]] = _train(plan, arm, seed, stage, model)
                    plan.steps.append(step)
                model = trained[seed, stages[:i]]
            plan.models[arm, seed] = model
            output = plan.folder / arm / f"seed-{seed}" / "eval"
            plan.steps.append(_score(plan, f"score {arm} seed {seed}", model, output))
            scored.append(f"{arm}={output.as_posix()}")
    plan.steps.append(_report(plan, scored))
    return plan


def _content(path: Path) -> str:
    """sha256 of a file, or of the logs of samples below a folder."""
    files = evaluation.sample_logs(path) + evaluation.sample_logs(path, "_rationale") if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes() if file.is_file() else b"missing")
    return digest.hexdigest()


def _with_env(recipe: Recipe, argv: list[str]) -> list[str]:
    return ["env", *(f"{k}={v}" for k, v in recipe.env.items()), *argv] if recipe.env else argv


def _prepare(dataset: Dataset) -> Step:
    return Step(f"prepare {dataset.name}", ["rbft", "prepare", dataset.name], always=True)


def _generate(plan: Plan, base: Checkpoint) -> Step:
    """Its answers so far lie in a cache beside its output, so that a killed generation goes on where it stopped."""
    output, given = plan.folder / "rationales", plan.recipe.evaluation
    cache = output.with_suffix(".cache")
    settings = given.model_copy(update={"args": {"use_cache": cache.as_posix(), **given.args}})
    kinds = ["rationale_hinted" if plan.recipe.rationales.mode == "hinted" else "rationale"]
    return replace(_lmms_eval(plan, "write rationales", base, output, kinds, settings), cache=cache)


def _score(plan: Plan, name: str, model: Checkpoint, output: Path) -> Step:
    return _lmms_eval(plan, name, model, output, plan.recipe.evaluation.tasks, plan.recipe.evaluation)


def _lmms_eval(
    plan: Plan, name: str, model: Checkpoint, output: Path, kinds: Sequence[str], settings: Evaluation
) -> Step:
    """One start for tasks that run on one split."""
    tasks = [registry.task_name(plan.dataset.name, kind) for kind in kinds]
    split = registry.split_of(kinds[0])

    def problems_before() -> list[str]:
        given = preparation.read_split(plan.dataset.name, split)
        return fit.split_problems(plan.recipe, plan.dataset.clips, given)

    def problems_after(log: str) -> list[str]:
        rows = preparation.read_split(plan.dataset.name, split)
        ids = [row["id"] for row in rows if "rationale_hinted" not in kinds or row["hinted_prompt"]]
        found = {task: evaluation.output_problems(output, task, ids) for task in tasks}
        return [f"{task}: {problem}" if len(tasks) > 1 else problem for task in tasks for problem in found[task]]

    configs = [*(f"{task}.yaml" for task in tasks), *dict.fromkeys(b for kind in kinds for b in registry.BASES[kind])]
    return Step(
        name,
        _with_env(plan.recipe, evaluation.argv(model, ",".join(tasks), output, settings)),
        output=output,
        files=(plan.dataset.folder / f"{split}.jsonl", *(Path("task_configs") / config for config in configs)),
        models=(model.base, *model.adapters),
        problems_before=problems_before,
        problems_after=problems_after,
    )


def _collect(plan: Plan) -> Step:
    rows, source, filters = plan.folder / "rows", plan.folder / "rationales", plan.recipe.rationales.filters
    argv = ["rbft", "collect", source.as_posix(), "--rows", rows.as_posix(), "--overwrite"]
    for name, value in filters.model_dump(exclude_defaults=True).items():
        for one in value if isinstance(value, tuple) else [value]:
            argv += [f"--{name.replace('_', '-')}", str(one)]
    return Step(
        "collect rationales",
        argv,
        leaves=(rows / "rationale.jsonl",),
        files=(source, plan.dataset.folder / "train.jsonl"),
    )


def _train(plan: Plan, arm: str, seed: int, stage: Stage, start: Checkpoint) -> tuple[Step, Checkpoint]:
    recipe, overrides, merged = training.settings(plan.recipe.training, stage)
    output = plan.folder / arm / f"seed-{seed}" / stage
    folder = Path("dataset_info") if stage == "label" else plan.folder / "rows"
    rows = (plan.dataset.folder if stage == "label" else folder) / f"{stage}.jsonl"
    result = training.result(start, output, merged["finetuning_type"], plan.dataset.name)
    own = {
        "dataset": registry.llamafactory_name(plan.dataset.name, stage),
        "dataset_dir": folder.as_posix(),
        "media_dir": ".",
        **training.start_from(start),
        "output_dir": output.as_posix(),
        "seed": seed,
    }

    def problems_before() -> list[str]:
        preparation.manifest(plan.dataset.name)  # raises if there is none
        given = preparation.read_jsonl(rows)
        return training.row_problems(given) or fit.run_problems(plan.recipe, plan.dataset.clips, merged, stage, given)

    def problems_after(log: str) -> list[str]:
        count = len(preparation.read_jsonl(rows))
        return training.output_problems(output, log, count, merged["max_steps"], merged["finetuning_type"])

    def finish() -> None:
        training.remove_checkpoints(output)
        checkpoint.write_note(output, result)

    step = Step(
        f"train {arm} seed {seed} {stage}",
        _with_env(plan.recipe, training.argv(recipe, own | overrides)),
        output=output,
        files=(recipe, rows),
        models=(start.base, *start.adapters),
        resumable=True,
        problems_before=problems_before,
        problems_after=problems_after,
        finish=finish,
    )
    return step, result


def _report(plan: Plan, scored: list[str]) -> Step:
    output = plan.folder / "report"
    return Step(
        "report",
        ["rbft", "report", *scored, "--output", output.as_posix()],
        leaves=(output / "report.json",),
        files=(*(Path(s.split("=", 1)[1]) for s in scored), plan.dataset.folder / "test.jsonl"),
    )
