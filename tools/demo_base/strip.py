"""Draws a test clip of each class with the base model's rationale and the answer of each arm of a run.

    python -m tools.demo_base.strip RUN OUT.png

Nothing is picked by hand: each clip is the first of its class in the test split, each answer that of the first seed.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rbft_plugin.data.prepared import read_split
from rbft_plugin.demo.data import BASE
from rbft_plugin.report import load as comparison

RIGHT, WRONG = "#00664f", "#a03c00"  # of one lightness, after Okabe and Ito; wrong answers are also italic


@dataclass(frozen=True)
class Line:
    """One class: its clip, uint8 (frames, height, width, 3), the rationale, and {arm: (answer, is it right?)}."""

    label: str
    frames: np.ndarray
    rationale: str
    answers: dict[str, tuple[str, bool]]


def lines(run: Path) -> list[Line]:
    """A line for each class of a run's dataset. The base model writes the rationales of these test clips now."""
    from rbft_plugin.model.generate import generate
    from rbft_plugin.model.inputs import batch_inputs
    from rbft_plugin.model.load import load_model

    evaluations = comparison.gather([str(run)]).evaluations
    firsts = {one.arm: one for one in reversed(evaluations)}
    order = list(dict.fromkeys(one.arm for one in evaluations))
    rows = read_split(evaluations[0].dataset, "test")
    chosen = [next(row for row in rows if row.label == label) for label in evaluations[0].labels]
    model, processor = load_model(str(BASE), (), None)
    given = batch_inputs(processor, [Path(row.video) for row in chosen], [row.rationale_prompt for row in chosen])
    texts = [answer.text for answer in generate(model, processor, given, {"max_new_tokens": 64})]
    made = []
    for row, text in zip(chosen, texts, strict=True):
        answers = {}
        for arm in order:
            one = firsts[arm].of([row.id])
            answers[arm] = (one.predictions[0] or "no answer", one.predictions == one.targets)
        made.append(Line(row.label or "", _frames(Path(row.video)), text.strip(), answers))
    return made


def _frames(clip: Path) -> np.ndarray:
    import av

    with av.open(str(clip)) as opened:
        frames = [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]
    return np.stack(frames)


def draw(given: Sequence[Line], output: Path) -> None:
    """Write the picture as PNG: the clip's frames side by side, the texts below them."""
    from matplotlib.figure import Figure

    count, height, width = given[0].frames.shape[:3]
    figure = Figure(figsize=(8, 1.45 * len(given)), dpi=110)
    for place, line in enumerate(given):
        axes: Any = figure.add_axes((0.01, 1 - (place + 0.72) / len(given), 0.98, 0.66 / len(given)))
        axes.imshow(np.concatenate(list(line.frames), axis=1), interpolation="nearest")
        axes.set_axis_off()
        said = textwrap.shorten(f'{line.label}. The base: "{line.rationale}"', 150)
        axes.text(0, height * 1.16, said, fontsize=8, va="center")
        at = 0.0
        for arm, (answer, right) in line.answers.items():
            text = f"{arm}: {answer}"
            style, color = ("normal", RIGHT) if right else ("italic", WRONG)
            axes.text(at, height * 1.36, text, fontsize=8, va="center", color=color, style=style)
            at += width * count / len(line.answers)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run, such as runs/demo")
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    draw(lines(args.run), args.output)


if __name__ == "__main__":
    main()
