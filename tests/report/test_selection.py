"""selection: what of a choice on validation a report says, in figures, sentences, tables and a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import prepared_sample, scored, write_prepared

from rbft_plugin.errors import RbftError
from rbft_plugin.report import curve_plots, selection, selection_prose
from rbft_plugin.report.build import summarize, write
from rbft_plugin.report.selection_model import Selection
from rbft_plugin.report.view_model import Origin, Report
from rbft_plugin.run import layout, records
from rbft_plugin.run.records import Choice, ChoiceRecord, ScoredCandidate

RUN = Path("runs/r")
RATE, STEPS = "training.stages.label.overrides.learning_rate", "training.stages.label.overrides.max_steps"
N = 20  # validation samples, calm and busy by turns


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_prepared(train=[], val=[prepared_sample(f"v{i}", ("calm", "busy")[i % 2]) for i in range(N)], test=[])


def candidate(name: str, right: int, settings: dict[str, Any], **fields: Any) -> ScoredCandidate:
    """A candidate that is right on the first `right` samples, with its log."""
    output = RUN / name / "eval_val"
    output.mkdir(parents=True)
    rows = []
    for i in range(N):
        label, other = ("calm", "busy")[i % 2], ("busy", "calm")[i % 2]
        rows.append({"sample_id": f"v{i}", "prediction": label if i < right else other, "resps": [["said"]]})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (output / "20260101_000000_samples_rbft_mine_val.jsonl").write_text(text)
    fixed: dict[str, Any] = {"cell": "", "values": {}, "arm": "rbft", "stages": ("label",), "steps": 100}
    fixed |= {"settings": settings, "outputs": {0: [output]}, "metric": right / N, "per_seed": {0: right / N}}
    return ScoredCandidate.model_validate(fixed | {"log_likelihood": -0.5} | fields)


def chosen(*candidates: ScoredCandidate, best: int = 0, possible: int = 2, metric: str = "accuracy") -> Selection:
    record = ChoiceRecord(
        metric=metric,
        budget=8,
        seeds=(0,),
        settings={RATE: (1e-4, 2e-4, 3e-4), STEPS: (50, 100)},
        choices=(Choice(cell="", arm="rbft", candidates=candidates, chosen=best, tried=2, possible=possible),),
    )
    records.write(layout.choices_file(RUN), record)
    made = selection.of_run(RUN, "mine")
    assert made
    return made


def report(made: Selection) -> Report:
    return summarize([scored("rbft", ("a", "a", "a", "b", "b", "a"))], Origin(selection=made))


def test_a_run_without_select_has_none() -> None:
    assert selection.of_run(RUN, "mine") is None


def test_candidates_come_with_their_intervals_the_chosen_one_first() -> None:
    made = chosen(
        candidate("a", 12, {RATE: 1e-4, STEPS: 50}), candidate("b", 16, {RATE: 2e-4, STEPS: 100}, checkpoint=50), best=1
    )
    (choice,) = made.choices
    assert [one.name for one in choice.candidates] == [
        "learning_rate 0.0002, max_steps 100, checkpoint 50",
        "learning_rate 0.0001, max_steps 50",
    ]
    first = choice.candidates[0].metric
    assert (first.mean, made.n, made.few) == (0.8, N, [])
    assert first.model_dump()["ci95"] == pytest.approx((0.5840, 0.9193), abs=1e-4)  # Wilson's, of 16 of 20
    assert choice.lead and choice.lead.mean == pytest.approx(0.2)
    assert choice.optimism is not None and 0 <= choice.optimism < 0.05
    assert choice.edges == ["learning_rate 0.0002, the highest"]  # a checkpoint was taken before max_steps


def test_equal_candidates_are_too_good_by_what_chance_gives() -> None:
    """Four candidates that are right on different samples: the best of a resample is better there by chance."""
    made = []
    for place in range(4):
        one = candidate(f"c{place}", 10, {RATE: place})
        log = next(one.outputs[0][0].glob("*.jsonl"))
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        for i, row in enumerate(rows):
            label, other = ("calm", "busy")[i % 2], ("busy", "calm")[i % 2]
            row["prediction"] = label if (i * 7 + place * 5) % 20 < 10 else other
        log.write_text("".join(json.dumps(row) + "\n" for row in rows))
        made.append(one)
    (choice,) = chosen(*made).choices
    assert choice.optimism == pytest.approx(0.11, abs=0.04)


def test_sentences_say_how_sure_and_how_far_to_believe() -> None:
    made = chosen(candidate("a", 17, {RATE: 1e-4, STEPS: 50}), candidate("b", 16, {RATE: 2e-4, STEPS: 100}))
    lines = selection_prose.sentences(report(made), made)
    assert lines[0].startswith("rbft: learning_rate 0.0001, max_steps 50 is 5.0 points ahead of learning_rate 0.0002")
    assert lines[0].endswith("): 20 validation clips cannot tell them apart.")
    optimism = made.choices[0].optimism
    assert optimism is not None
    assert lines[1:] == [
        "rbft: 85.0 % on validation, 83.3 % on the test, 1.7 points lower. To choose the best of 2 by the same clips "
        f"makes the validation figure too good by about {100 * optimism:.1f} points (bootstrap).",
        "rbft: learning_rate 0.0001, the lowest of the values tried, was chosen: a value beyond it may be better.",
        "rbft: max_steps 50, the lowest of the values tried, was chosen: a value beyond it may be better.",
        "rbft: its settings have only 2 combinations, fewer than the budget of 8 trainings.",
    ]


def test_few_validation_clips_of_a_class_are_warned_of() -> None:
    labels = ["calm"] * 17 + ["busy"] * 3
    write_prepared(train=[], val=[prepared_sample(f"v{i}", label) for i, label in enumerate(labels)], test=[])
    made = chosen(candidate("a", 10, {}))
    assert selection_prose.sentences(report(made), made)[-1] == (
        "1 of 2 classes have fewer than 10 validation clips (busy): such a choice is mostly luck."
    )


def test_a_metric_of_probabilities_has_no_interval() -> None:
    made = chosen(candidate("a", 12, {}, metric=0.4), candidate("b", 12, {}, metric=0.3), best=1, metric="brier")
    (choice,) = made.choices
    assert [one.metric.model_dump() for one in choice.candidates] == [
        {"mean": 0.3, "per_seed": [0.6]},
        {"mean": 0.4, "per_seed": [0.6]},
    ]
    assert (choice.lead, choice.optimism) == (None, None)
    assert selection_prose.rows(report(made), made) == [["rbft", "as in the recipe", "30.0", "-", "2", "2"]]


def test_the_files_of_a_report_have_the_choice(tmp_path: Path) -> None:
    made = chosen(candidate("a", 17, {RATE: 1e-4}), candidate("b", 16, {RATE: 2e-4}), possible=12)
    evaluations = [scored("rbft", ("a", "a", "a", "b", "b", "a"))]
    full = report(made)
    write(full, evaluations, tmp_path / "report")
    text = (tmp_path / "report/report.md").read_text()
    assert "## Chosen on validation" in text and "![candidates on the validation clips](choices.png)" in text
    assert "| rbft | learning_rate 0.0001 | 85.0 (64.0 to 94.8) | 83.3 (43.6 to 97.0) | 2 | 2 of 12 |" in text
    page = (tmp_path / "report/index.html").read_text()
    assert '<h2 id="chosen-title">Chosen on validation</h2>' in page and "rbft: all 2 candidates" in page
    assert (tmp_path / "report/choices.svg").is_file()
    again = Report.model_validate(json.loads((tmp_path / "report/report.json").read_text()))
    assert again.selection == made


def test_the_picture_shows_the_best_candidates_of_many() -> None:
    made = chosen(*(candidate(f"c{place}", 20 - place % 20, {RATE: place}) for place in range(30)))
    figure: Any = curve_plots.choices(report(made))
    (axes,) = [axes for axes in figure.axes if axes.get_visible()]
    assert axes.get_title() == "rbft (best 24 of 30)"
    assert len(axes.get_yticklabels()) == 24


def test_logs_of_another_validation_split_are_refused() -> None:
    one = candidate("a", 12, {})
    write_prepared(train=[], val=[prepared_sample("other")], test=[])
    with pytest.raises(RbftError, match="not of the present validation samples; `rbft run` scores the candidates"):
        chosen(one)
    next(one.outputs[0][0].glob("*.jsonl")).unlink()
    with pytest.raises(RbftError, match="needs one log of a task rbft_mine, but has 0"):
        chosen(one)
