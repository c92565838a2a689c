"""doubtful_labels: given labels that are improbable to models that were not trained on them."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import scored

from rbft_plugin.report import doubtful_labels
from rbft_plugin.report.build import summarize, write
from rbft_plugin.report.evaluations import Evaluation, Fit, pooled


def folded(arm: str, of_a: list[float], seed: int = 0) -> Evaluation:
    """An evaluation of six clips (three of a, then three of b) by two models; `of_a` are probabilities of a."""
    rows = tuple((p, 1 - p) for p in of_a)
    predictions = tuple("a" if p > 0.5 else "b" for p in of_a)
    return scored(arm, predictions, seed, probabilities=rows, folds=2)


def test_the_least_probable_given_label_comes_first() -> None:
    """Means over seeds: clip1 0.2, clip2 0.6, clip4 0.9 of a; the last is labelled b."""
    one = folded("rbft", [0.9, 0.1, 0.8, 0.2, 0.95, 0.3])
    two = folded("rbft", [0.7, 0.3, 0.4, 0.4, 0.85, 0.3], seed=1)
    found = doubtful_labels.of_arms({"rbft": [one, two]})
    assert found and (found.arm, found.seeds, found.n) == ("rbft", [0, 1], 2)
    assert [(s.id, s.label, s.other) for s in found.samples] == [("clip4", "b", "a"), ("clip1", "a", "b")]
    assert [s.probability for s in found.samples] == pytest.approx([0.1, 0.2])
    assert [s.other_probability for s in found.samples] == pytest.approx([0.9, 0.8])


def test_the_arm_with_the_best_probabilities_is_asked() -> None:
    good, bad = folded("good", [0.9, 0.8, 0.9, 0.1, 0.2, 0.6]), folded("bad", [0.4, 0.1, 0.2, 0.9, 0.8, 0.6])
    found = doubtful_labels.of_arms({"bad": [bad], "good": [good]})
    assert found and found.arm == "good" and [s.id for s in found.samples] == ["clip5"]


def test_only_models_that_did_not_see_the_sample_are_asked() -> None:
    whole = folded("zero_shot", [0.1] * 6)
    assert doubtful_labels.of_arms({"zero_shot": [scored("zero_shot", ("a",) * 6)]}) is None
    assert doubtful_labels.of_arms({"zero_shot": [Evaluation(**{**vars(whole), "folds": 0})]}) is None


def test_the_files_of_a_report_have_the_table(tmp_path: Path) -> None:
    evaluation = folded("rbft", [0.9, 0.1, 0.8, 0.2, 0.95, 0.3])
    report = summarize([evaluation])
    write(report, [evaluation], tmp_path / "report")
    text = (tmp_path / "report/report.md").read_text()
    assert "## Doubtful labels" in text and "| clip4 | b | 5.0 | a | 95.0 |" in text
    assert "another label is more probable than the given one for 2 samples." in text
    assert '<h2 id="doubtful-title">Doubtful labels</h2>' in (tmp_path / "report/index.html").read_text()
    assert any(
        note.startswith("Each clip was answered by a model that was not trained on it: 2") for note in report.notes
    )


def test_without_doubtful_labels_that_is_said_and_without_probabilities_how_to_get_them(tmp_path: Path) -> None:
    sure = folded("rbft", [0.9, 0.8, 0.8, 0.2, 0.1, 0.3])
    write(report := summarize([sure]), [sure], tmp_path)
    said = "of rbft that were not trained on them, no other label is more probable than the given one, for any sample."
    for name in ("report.md", "index.html"):
        text = (tmp_path / name).read_text()
        assert said in text and "more probable</th>" not in text and "| more probable" not in text
    assert not [note for note in report.notes if "look wrong" in note]
    lacking = Evaluation(**{**vars(sure), "probabilities": None})
    assert summarize([lacking]).notes[-1] == (
        "Labels that look wrong are not listed, because no arm with folds has probabilities of its labels. A recipe "
        "with `evaluation: {tasks: [label, ll]}` has them; by hand, score rbft_demo_ll_fold0 and those of the other "
        "folds too."
    )


def test_folds_are_pooled_and_what_one_lacks_the_whole_lacks() -> None:
    first, second = (folded("rbft", [0.9, 0.1, 0.8, 0.2, 0.95, 0.3]).of(ids) for ids in (["clip0", "clip3"], ["clip1"]))
    whole = pooled([first, second])
    assert (whole.ids, whole.targets, whole.folds) == (("clip0", "clip3", "clip1"), ("a", "b", "a"), 2)
    assert whole.probabilities == ((0.9, pytest.approx(0.1)), (0.2, 0.8), (0.1, 0.9))
    fits = [Fit(8, 10, 0.5, 0.2, 2.0), Fit(9, 10, 0.7, 0.4, 4.0)]
    both = pooled([Evaluation(**{**vars(one), "fit": fit}) for one, fit in zip((first, second), fits, strict=True)])
    assert both.fit == Fit(17, 20, pytest.approx(0.6), pytest.approx(0.3), 3.0)
    lacking = pooled([Evaluation(**{**vars(first), "probabilities": None, "fit": fits[0]}), second])
    assert (lacking.probabilities, lacking.fit) == (None, None)
