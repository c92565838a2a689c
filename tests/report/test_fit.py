"""fit: what the accuracy on a model's own training samples says, from logs as both harnesses leave them."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import BASE, scored
from rich.console import Console

from rbft_plugin.report import fit, html, markdown
from rbft_plugin.report.build import summarize
from rbft_plugin.report.evaluations import Fit
from rbft_plugin.run.records import PlannedFit

LN2 = math.log(2)
STAMP = "20260101_000000"


@pytest.mark.parametrize(
    ("known", "right", "expected"),  # right: of 100 other clips
    [
        # two tokens of ln 2 / 20 each: at most 10 % can be wrong
        (Fit(70, 100, 0.2, LN2 / 20, 2), 70, "mismatch"),
        (Fit(79, 100, 0.2, LN2 / 20, 2), 70, "mismatch"),
        (Fit(81, 100, 0.2, LN2 / 20, 2), 70, None),  # within 10 points of it
        (Fit(0, 100, 0.2, 0.0, 2), 0, "mismatch"),
        (Fit(0, 100, 0.2, 1.0, 2), 0, "unlearned"),
        (Fit(40, 100, 0.2, 0.6 * LN2, 2), 40, "unlearned"),  # 60 % are wrong, and twice as many might be
        (Fit(40, 100, 0.2, 0.59 * LN2, 2), 40, None),  # what a model with this loss that knows it answers less wrongly
        (Fit(61, 100, 0.2, 1.0, 2), 40, None),  # halfway between 20 and 100 is 60
        (Fit(61, 100, 0.3, 1.0, 2), 40, "unlearned"),
        (Fit(40, 100, 0.2), 40, None),  # the loss is not known
        (Fit(40, 100, 0.2, 1.0), 40, None),  # nor the tokens
        (Fit(100, 100, 0.2), 70, "memorised"),
        (Fit(95, 100, 0.2), 60, "memorised"),
        (Fit(94, 100, 0.2), 60, None),
        (Fit(100, 100, 0.2), 72, "memorised"),  # the interval reaches 79.9 %
        (Fit(100, 100, 0.2), 73, None),  # 80.7 %
        (Fit(100, 100, 0.2, 0.0), 99, None),
    ],
)
def test_what_is_said_of_a_fit(known: Fit, right: int, expected: str | None) -> None:
    assert fit.finding(known, right, 100) == expected


def write_losses(*points: tuple[int, float], **results: float) -> Path:
    """What a training leaves: its log with an eval_loss and a last line without a loss, and its results."""
    rows: list[dict[str, Any]] = [{"current_steps": step, "loss": loss} for step, loss in points]
    rows += [{"current_steps": 1, "eval_loss": 9.0}, {"current_steps": 99, "percentage": 100.0}]
    Path("stage").mkdir(exist_ok=True)
    file = Path("stage/trainer_log.jsonl")
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    file.with_name("train_results.json").write_text(json.dumps(results), encoding="utf-8")
    return file


def test_the_final_loss_is_that_of_the_last_tenth_of_the_steps(ws: Path) -> None:
    file = write_losses((85, 5.0), (90, 4.0), (95, 2.0), (100, 1.0), train_loss=7.0)
    assert fit.final_loss(file) == 1.5
    assert fit.final_loss(file, checkpoint=97) == pytest.approx(3.0)  # of the steps 90 and 95
    assert fit.final_loss(file, checkpoint=84) is None
    assert fit.final_loss(write_losses((5, 3.5), (10, 0.9), train_loss=2.0)) == 0.9


def test_a_training_of_fewer_steps_than_it_logs_leaves_their_mean(ws: Path) -> None:
    file = write_losses(train_loss=3.2)
    assert fit.final_loss(file) == 3.2
    assert fit.final_loss(file, checkpoint=1) is None
    assert fit.final_loss(write_losses()) is None
    assert fit.final_loss(Path("nowhere/trainer_log.jsonl")) is None


def write_log(*pairs: tuple[str, str | None], model: str = str(BASE)) -> Path:
    """The log of samples (target, prediction) of a model, and the results beside it."""
    folder = Path("eval_train/model")
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"sample_id": f"v{n}", "target": t, "prediction": p} for n, (t, p) in enumerate(pairs)]
    log = folder / f"{STAMP}_samples_rbft_demo_train.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    results = {"config": {"model_args": f"pretrained={model},fingerprint=x"}}
    log.with_name(f"{STAMP}_results.json").write_text(json.dumps(results), encoding="utf-8")
    return folder.parent


@pytest.mark.torch
def test_a_fit_is_read_from_what_both_harnesses_leave(ws: Path) -> None:
    losses = write_losses((100, 0.5))
    output = write_log(("theft", "theft"), ("theft", None), ("patrol", "theft"))
    # A label is one token of the demo's base; <|im_end|> and a line break end its turn.
    assert fit.read(PlannedFit(output=output, losses=losses)) == Fit(1, 3, 2 / 3, 0.5, 3.0)
    assert fit.read(PlannedFit(output=output)) == Fit(1, 3, 2 / 3)
    write_log(("theft", "theft"), ("theft", None), model="nowhere")
    assert fit.read(PlannedFit(output=output, losses=losses)) == Fit(1, 2, 1.0, 0.5)
    write_log(("theft", "theft"))
    assert fit.read(PlannedFit(output=output, losses=losses)) == Fit(1, 1, 1.0, 0.5)  # its tokens are not needed
    assert fit.read(PlannedFit(output=Path("nowhere"))) is None
    Path("empty").mkdir()
    assert fit.read(PlannedFit(output=Path("empty"))) is None


WRONG = ("b", "a", "b", "a", "b", "a")  # one of six is right
RIGHT = ("a", "a", "a", "b", "b", "b")


def said(*evaluations: Any) -> list[str]:
    return fit.sentences(summarize(evaluations))


def test_what_the_report_says_in_words() -> None:
    assert said(scored("rbft", WRONG, fit=Fit(40, 40, 0.2))) == [
        "rbft has learned its training samples by heart: it answers 100.0 % of them rightly, and 33.3 % of the test "
        "clips. It needs more samples, or fewer steps."
    ]
    assert said(scored("rbft", WRONG, fit=Fit(11, 40, 0.2, 3.2024, 3))) == [
        "rbft has not learned its own training samples: it answers 27.5 % of them rightly, and its loss is still 3.2 "
        "for a token of a label. It needs more steps, or another learning rate."
    ]
    assert said(scored("rbft", WRONG, fit=Fit(0, 40, 0.2, 0.00064, 3))) == [
        "rbft: training and scoring do not see the same thing. With the loss at the end of its training, 0.00064 for a "
        "token of a label, it can answer at most 0.3 % of its training samples wrongly; scored, it answers 100.0 % of "
        "40 wrongly. Compare on both sides: the chat template (that of the training, and that of the model), the "
        "processor, the clips, and the adapters."
    ]
    assert said(scored("rbft", RIGHT, fit=Fit(40, 40, 0.2, 0.0))) == []


def test_seeds_of_which_the_same_is_said_are_in_one_sentence() -> None:
    seeds = [scored("rbft", WRONG, seed=seed, fit=Fit(40, 40, 0.2)) for seed in (0, 2)]
    lost = scored("rbft", RIGHT, seed=3, fit=Fit(10, 30, 0.2, 0.0, 3))
    first, second = said(*seeds, lost)
    assert first.startswith("rbft (seeds 0, 2) has learned its training samples by heart: it answers 100.0 % of them ")
    assert second.startswith("rbft (seed 3): training and scoring do not see the same thing.")
    assert " 66.7 % of 30 wrongly." in second
    report = summarize([*seeds, lost])
    assert fit.explained(report) == "fit: the accuracy on an arm's own labelled training samples (30 to 40 of them)."
    arm = report.arms["rbft"].fit
    assert arm and (arm.mean, arm.per_seed, arm.n, arm.loss) == (
        pytest.approx(7 / 9),
        [1.0, 1.0, pytest.approx(1 / 3)],
        [40, 40, 30],
        [None, None, 0.0],
    )
    assert summarize([*seeds, replace(lost, fit=None)]).arms["rbft"].fit is None


def test_tables_and_page_have_the_fit_where_an_arm_has_one() -> None:
    evaluations = [scored("zero_shot", WRONG), scored("rb<ft", WRONG, fit=Fit(40, 40, 0.2))]
    report = summarize(evaluations)
    lines = markdown.markdown(report, evaluations).split("\n")
    assert "| arm | accuracy, % (95 % interval) | macro-F1, % (95 % interval) | no answer | fit |" in lines
    assert [line.split(" | ")[-1] for line in lines if line.startswith(("| zero_shot | 33", r"| rb\<ft | 33"))][:2] == [
        *("- |", "100.0 % |"),
    ]
    assert "fit: the accuracy on an arm's own labelled training samples (40 of them)." in lines
    (sentence,) = fit.sentences(report)
    assert "- " + sentence.replace("<", r"\<") in lines
    shown = io.StringIO()
    Console(file=shown, width=200).print(markdown.table(report))
    assert "fit: the accuracy on an arm's own" in shown.getvalue() and "100.0 %" in shown.getvalue()
    page = html.render(report, evaluations, [], {})
    assert '<th scope="col">fit</th>' in page and "<td><b>100.0</b></td>" in page
    assert "<div><dt>fit</dt><dd>100.0 %</dd></div>" in page
    assert f'<p class="sentence">{sentence.replace("<", "&lt;")}</p>' in page
    without = summarize(evaluations[:1])
    assert "fit" not in markdown.markdown(without, evaluations[:1]).lower()
    assert ">fit<" not in html.render(without, evaluations[:1], [], {})
