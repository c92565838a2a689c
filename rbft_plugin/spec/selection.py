"""`select` of a recipe: which settings each arm tries, and by what the best of them is chosen."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import field_validator

from rbft_plugin.scoring.metrics import METRICS
from rbft_plugin.spec.yaml_models import Count, Name, Seeds, Strict, one_of, problems_at

# An arm's own stages can differ in these alone. What else a recipe has is the same for all of its arms.
TRIED = ("training.overrides.", "training.stages.")


class Select(Strict):
    """The settings of each arm are chosen on validation samples. Only the chosen ones are scored on the test split.

    An arm tries the settings that its stages depend on: all combinations, or `budget` of them, drawn by `seed`.
    """

    on: Literal["val", "folds"] = "val"
    """The samples on which candidates are scored: those of the split val; or, for each fold of a dataset, those of the
    other folds, each by a model that was trained on neither."""
    metric: Annotated[str, *one_of(lambda: METRICS)] = "macro_f1"
    """What is compared. Equal candidates are compared by the mean log-likelihood of the label, then by their number of
    optimizer steps, of which fewer are better."""
    budget: Count = 8
    """How many trainings of its last stage each arm may try, for each seed."""
    checkpoints: bool = True
    """Whether each saved checkpoint of the last stage is a candidate too. It costs no training."""
    skip_last: bool = True
    """Whether an arm of several stages may leave out its last one."""
    seeds: Seeds = (0,)
    """Candidates are compared by their means over these seeds."""
    seed: int = 0
    """Draws the combinations, where there are more than `budget`."""
    settings: dict[Name, tuple[Any, ...]] = {}
    """Values of keys of the recipe by their paths, such as training.stages.label.overrides.learning_rate."""
    keep: Literal["best", "all"] = "best"
    """Whether the weights of candidates that were not chosen are removed, once the choice is recorded."""

    @field_validator("settings")
    @classmethod
    def _can_be_tried(cls, settings: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        problems = []
        for key, values in settings.items():
            if not key.startswith(TRIED):
                problems.append((key, f"arms differ only in what begins with {' or '.join(TRIED)}"))
            elif not values:
                problems.append((key, "has no values"))
            elif any(value in values[:place] for place, value in enumerate(values)):
                problems.append((key, "lists a value twice"))
        if problems:
            raise problems_at([((key,), text) for key, text in problems])
        return settings
