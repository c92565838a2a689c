"""prompts: the text that a model is shown, to the letter."""

from __future__ import annotations

from typing import Any

import pytest
from builders import small_yaml

from rbft_plugin import workspace
from rbft_plugin.data import prompts
from rbft_plugin.spec import dataset
from rbft_plugin.spec.dataset import Dataset


def made(**changes: Any) -> Dataset:
    return Dataset.model_validate(small_yaml(**changes))


def test_the_default_prompts_without_a_domain_begin_with_the_question() -> None:
    assert prompts.label(made()) == (
        "Which of these classes does the video belong to?\n"
        "- calm: Nothing happens.\n"
        "- busy: Something happens.\n"
        "Answer with the name of one class and nothing else."
    )
    assert prompts.rationale(made()) == (
        "Watch the whole video, then explain what it shows:\n"
        "1. What is seen: the place, the people, animals and things in it.\n"
        "2. What happens, in order, and what changes over time.\n"
        "3. What in it matters for telling these classes apart, and what speaks for or against each of them:\n"
        "- calm: Nothing happens.\n"
        "- busy: Something happens.\n"
        "Say only what the video shows. Write a few connected sentences.\n\n"
        'End with a last line of its own: "Answer: " and the name of the class that the video belongs to.'
    )


def test_a_request_for_a_conclusion_can_be_taken_out_again() -> None:
    whole = prompts.rationale(made())
    assert prompts.without_conclusion(whole) == whole.rpartition("\n\n")[0]
    own = made(prompts={"rationale": "Why?\n\n{conclusion}"})
    assert prompts.without_conclusion(prompts.rationale(own)) == "Why?"
    assert prompts.CONCLUSION in prompts.rationale(own)
    plain = made(prompts={"rationale": "Why {names}?"})
    assert prompts.without_conclusion(prompts.rationale(plain)) == prompts.rationale(plain) == "Why calm or busy?"
    assert prompts.CONCLUSION not in prompts.hinted(made(), "calm")


def test_a_domain_stands_before_the_question() -> None:
    shown = made(prompts={"domain": " It is from a camera.\n"})
    for prompt in (prompts.label(shown), prompts.rationale(shown)):
        assert prompt.startswith("It is from a camera.\n\nW")


def test_prompts_of_ones_own_have_their_fields_filled_in() -> None:
    shown = made(prompts={"domain": "A camera.", "rationale": "{domain} Why {names}?", "label": "{labels}\nWhich?\n"})
    assert prompts.rationale(shown) == "A camera. Why calm or busy?"
    assert prompts.label(shown) == "- calm: Nothing happens.\n- busy: Something happens.\nWhich?"


def test_descriptions_of_several_lines_of_yaml_end_without_an_empty_one() -> None:
    labels = [{"name": "a", "description": "It is so.\n"}, {"name": "b", "description": " It is not."}]
    assert prompts.label(made(labels=labels, prompts={"label": "{labels}"})) == "- a: It is so.\n- b: It is not."


def test_names_of_three_labels_are_a_list() -> None:
    labels = [{"name": name, "description": "x"} for name in ("a", "b", "c")]
    assert prompts.label(made(labels=labels, prompts={"label": "{names}"})) == "a, b or c"


def test_braces_in_a_description_or_the_domain_stay_as_they_are() -> None:
    labels = [{"name": "a", "description": "Says {names}."}, {"name": "b", "description": "Says {domain} {x}."}]
    shown = made(labels=labels, prompts={"domain": "Of {labels}.", "label": "{domain} {labels}"})
    assert prompts.label(shown) == "Of {labels}. - a: Says {names}.\n- b: Says {domain} {x}."


@pytest.mark.parametrize("name", [p.stem for p in (workspace.shipped() / "dataset_info").glob("*.yaml")])
def test_prompts_of_a_shipped_dataset_are_filled_and_name_every_label_in_the_label_prompt(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.shipped())
    shipped = dataset.load(name)
    shown = [(name, "text") for name in shipped.prompts.context]
    for prompt in (prompts.label(shipped, shown), prompts.rationale(shipped, shown)):
        assert all(f"{name}: text\n" in prompt for name, _ in shown)
        assert prompt == prompt.strip() != "" and "{" not in prompt
    assert all(label in prompts.label(shipped) for label in shipped.label_names)


CONTEXT = (("Title", "A {domain} day"), ("Transcript", "Hello."))


def test_context_stands_between_the_domain_and_the_question_a_line_each() -> None:
    shown = made(prompts={"domain": "A camera."})
    for prompt in (
        prompts.label(shown, CONTEXT),
        prompts.rationale(shown, CONTEXT),
        prompts.hinted(shown, "calm", CONTEXT),
    ):
        assert prompt.startswith("A camera.\n\nTitle: A {domain} day\nTranscript: Hello.\n\n")
    assert prompts.label(made(), CONTEXT).startswith("Title: A {domain} day\nTranscript: Hello.\n\nWhich")


def test_context_stands_where_ones_own_prompt_says_or_before_it() -> None:
    shown = made(prompts={"label": "Which?", "rationale": "Why?\n{context}\nSay."})
    assert prompts.label(shown, CONTEXT[1:]) == "Transcript: Hello.\n\nWhich?"
    assert prompts.rationale(shown, CONTEXT[1:]) == "Why?\nTranscript: Hello.\nSay."
    assert (prompts.label(shown), prompts.rationale(shown)) == ("Which?", "Why?\nSay.")


def test_the_hinted_prompt_shows_the_label_and_asks_why() -> None:
    assert prompts.hinted(made(), "busy") == (
        "These are the classes of such videos:\n"
        "- calm: Nothing happens.\n"
        "- busy: Something happens.\n"
        'This video is of the class "busy". Watch the whole video, then explain from what it shows why that is so:\n'
        "1. What is seen: the place, the people, animals and things in it.\n"
        "2. What happens, in order, and what changes over time.\n"
        "3. What in it speaks for this class, and against each of the others.\n"
        "Say only what the video shows. Write a few connected sentences, as if you had not been told the class."
    )
    own = made(prompts={"hinted": "Why {label}, of {names}?", "domain": "Of {label}."})
    assert prompts.hinted(own, "{names}") == "Why {names}, of calm or busy?"


def test_neither_other_prompt_fills_in_a_label() -> None:
    shown = made(labels=[{"name": "a", "description": "Says {label}."}, {"name": "b", "description": "x"}])
    assert "Says {label}." in prompts.rationale(shown) and "Says {label}." in prompts.label(shown)
