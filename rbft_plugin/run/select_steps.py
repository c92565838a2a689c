"""The steps of `select`: training and scoring candidates, and choosing among them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import chain, product
from pathlib import Path

from rbft_plugin.data.prepared import DataFolder
from rbft_plugin.llamafactory import training
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.run import candidates, choose, layout
from rbft_plugin.run.arm_steps import train_stages, write_all_rationales
from rbft_plugin.run.lmms_eval_steps import score
from rbft_plugin.run.records import PlannedCandidate
from rbft_plugin.run.steps import Plan, Step
from rbft_plugin.run.sweep import Cell
from rbft_plugin.spec.names import stage_name
from rbft_plugin.spec.selection import Select


def candidate_steps(plan: Plan, base: Cell, select: Select) -> None:
    """Train what each arm tries, and score it on the validation split."""
    write_all_rationales(plan, base)
    for arm in base.recipe.arms:
        stages = base.recipe.stages_of(arm)
        for cell in candidates.cells(base, select, arm)[0] if stages else ():
            last = training.stage_settings(cell.recipe.training, stages[-1]).merged
            # A `checkpoint` of a repeated stage would hold for all of its rounds.
            saved = training.saved_steps(last) if select.checkpoints and stages.count(stages[-1]) == 1 else []
            for fold, other in product(range(plan.dataset.folds), repeat=2) if select.on == "folds" else [(None, None)]:
                if fold is not None and fold == other:
                    continue
                own = cell if fold is None else replace(cell, without=tuple(sorted([fold, other or 0])))
                for seed in select.seeds:
                    models = train_stages(plan, own, arm, seed, stages, saved)
                    add = partial(_candidate, plan, base, own, arm, seed, (fold, other))
                    if select.skip_last and len(stages) > 1:
                        add(stages[:-1], models[-2], of=stage_name(stages[:-1]))
                    for step in saved:
                        add(stages, training.at_step(models[-1], step), step, of=f"checkpoint-{step}")
                    add(stages, models[-1])


def _candidate(
    plan: Plan,
    base: Cell,
    cell: Cell,
    arm: str,
    seed: int,
    folds: tuple[int | None, int | None],
    stages: tuple[str, ...],
    model: Checkpoint,
    checkpoint: int | None = None,
    of: str = "",
) -> None:
    """Score a model on the validation split, or on the second of the folds, to choose for the first one.

    It joins the candidate that has the same settings, and another seed or fold.
    """
    fold, other = folds
    output = score(
        plan, cell, arm, seed, stages, model, "val" if fold is None else "test", ("label", "ll"), of, None, other
    )
    own = {key: value for key, value in cell.values.items() if key not in base.values}
    settings, whole = candidates.concerned(own, cell.recipe, stages), cell.recipe.stages_of(arm)
    planned = PlannedCandidate(
        cell=base.name,
        values=base.values,
        arm=arm,
        stages=stages,
        settings=settings,
        left_out=None if stages == whole else stage_name(whole),
        checkpoint=checkpoint,
        steps=candidates.steps(cell.recipe, stages, checkpoint),
        outputs={},
        fold=fold,
    )
    same = next((c for c in plan.candidates if c.planned.model_copy(update={"outputs": {}}) == planned), None)
    if same is None:
        plan.candidates.append(same := candidates.Candidate(planned, cell.recipe, []))
    outputs = same.planned.outputs.get(seed, ())
    if output not in outputs:  # what skips the last stage is the same whatever that stage's settings
        same.planned.outputs[seed] = (*outputs, output)
        same.models.append(model)


def choice_step(plan: Plan, path: Path) -> Step:
    """Choose among the candidates. Weights of the others are removed when that is recorded, if `select` says so."""
    chosen = [layout.chosen_file(plan.folder / cell.name, fold) for cell, fold in choose.choices_of(plan)]
    split = "test" if plan.dataset.folds else "val"
    by_seed = [outputs for candidate in plan.candidates for outputs in candidate.planned.outputs.values()]
    return Step(
        "choose",
        "choose",
        ["rbft", "choose", path.as_posix()],
        leaves=(layout.choices_file(plan.folder), *chosen),
        files=(path, DataFolder(plan.dataset.name).samples(split), *dict.fromkeys(chain.from_iterable(by_seed))),
        finish=lambda: choose.remove_others(plan),
    )
