"""filters: which texts are no rationales, by tables of texts that are and of texts that only look so."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rbft_plugin.rationales import filters
from rbft_plugin.rationales.filters import FILTERS, RationaleRow, reasons
from rbft_plugin.spec.filters import Filters, Keepable

SENTENCE = "The man walks slowly to the door"
FINE = "A man in a red coat walks to the door, rings the bell and leaves again."


def row(text: str, prompt: str = "", **known: Any) -> RationaleRow:
    return RationaleRow("a", text, prompt, **known)


def reason(text: str, chosen: Filters | None = None, **known: Any) -> str | None:
    return reasons([row(text, **known)], chosen or Filters())[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        (FINE, None),
        ("A <image> of a dog.", "markup"),
        ("See <video> here.", "markup"),
        ("no no no no", "repetitive"),
        ("No, no. NO! no", "repetitive"),
        ("no no no", None),
        ("It goes up and down, up and down, up and down, up and down.", "repetitive"),
        ("It goes up and down, up and down, up and down.", None),
        ("a b a b a b a", None),
        ("up and down up and down up and down up and it stops there, by the door", None),
        ("a b a b a b a b", "repetitive"),
        (f"{SENTENCE}. A dog barks. {SENTENCE}! Then it rains. {SENTENCE.upper()}.", "repetitive"),
        (f"{SENTENCE}. A dog barks. {SENTENCE}! Then it rains.", None),
        ("He waits. A dog barks. He waits. A cat sits. He waits. It rains.", None),
        ("Step 1: he walks. Step 2: he sits. Step 3: he stands. Step 4: he leaves.", None),
        ("他走了他走了他走了他走了", "repetitive"),
        ("他走到门口，放下一个盒子，然后离开。", None),
        ("It walks.", "short"),
        ("It walks by.", None),
        ("走了。", "short"),
        ("他走了。", None),
        ("[LMMS_EVAL_REQUEST_FAILED after 3 retries] Error code: 500", "failed"),
        ("[LMMS_EVAL_BUDGET_EXCEEDED]", "failed"),
    ],
)
def test_a_text_is_left_out_for(text: str, expected: str | None) -> None:
    assert reason(text) == expected


def test_the_first_reason_in_their_order_counts() -> None:
    assert reason("", truncated=True) == "empty"
    assert reason("no no no no", truncated=True) == "truncated"
    assert reason("I'm sorry, the ground truth is unknown.") == "refusal"


REFUSALS = [
    "I'm sorry, but I cannot view the video.",
    "I am very sorry.",
    "Sorry, no footage is available to me.",
    "Unfortunately, I can't process video files.",
    "I apologize, but I am not able to provide a description.",
    "I cannot watch videos.",
    "I can't help with identifying people in this footage.",
    "I can’t assist with that request.",
    "As an AI language model, I do not have eyes.",
    "As a text-based model, I see nothing.",
    "I'm unable to view or analyze the video directly.",
    "I could not access the clip.",
    "I'm not able to see the video you mention.",
    "I won't be able to help with this request.",
    "No video was provided, so I can only guess.",
    "There is no video attached.",
    "Please upload the video so that I can help.",
    "I don't see any video in your message.",
    "I do not have access to the video.",
    "抱歉，我无法观看视频。",
    "作为一个人工智能助手，我不能看视频。",
    "我无法直接查看该视频。",
    "请提供视频内容。",
]
NO_REFUSALS = [
    "The boy cannot help with the box. I am not sure why.",
    "I cannot see the man's face in the video, but he walks to the door.",
    "A man asks: can you help me?",
    "The person is unable to open the door.",
    "The guard cannot see the thief behind the frame of the door.",
    "No person is visible in the video at first.",
    "He apologises and leaves; the dog is sorry-looking.",
    "The video is provided by a camera above the door; a cat passes.",
    "A woman shares a video with her friend on the phone.",
    "A sign reads: please provide a ticket.",
    "They do not see a car coming.",
    "An AI-generated sign hangs over the door.",
    "The camera is not able to capture the whole scene.",
    "Sorrow shows on her face as she leaves.",
    "没有人走过，视频里只有一只猫。",
    "店员无法打开门，顾客请她提供帮助。",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal(text: str) -> None:
    assert reason(text) == "refusal"


@pytest.mark.parametrize("text", NO_REFUSALS)
def test_no_refusal(text: str) -> None:
    assert reason(text) is None


def test_a_refusal_stands_at_the_start() -> None:
    assert reason(f"{FINE} " + "A car passes, number {}. ".join(map(str, range(20))) + "I cannot watch videos.") is None


LEAKS = [
    "The ground truth is theft.",
    "The ground-truth class fits.",
    "This matches the given label.",
    "As labelled, the clip shows a theft.",
    "The correct answer is theft because he takes a box.",
    "Given the provided category, one sees a theft.",
    "The video is labeled as abnormal.",
    "He runs, because it was labelled so.",
    "The label provided is abnormal.",
    "The class that was given fits.",
    "The class I was told fits.",
    "This is consistent with the annotated label.",
    "真实标签是偷窃。",
    "该视频被标注为异常。",
]
NO_LEAKS = [
    "The box is labelled 'fragile' and stands by the door.",
    "A label on the bottle is visible.",
    "He takes the box, which speaks for theft.",
    "This looks like a delivery; the class normal fits less.",
    "There is no truth in what the ground shows.",
    "The correct door is opened.",
    "A teacher gives a class.",
    "The video could be classified as abnormal.",
    "She gives the right answer to the guard.",
    "A man stands on the ground, true to his word.",
    "他把箱子拿走了，属于偷窃。",
]
HINTED_LEAKS = [
    "The label theft fits.",
    "A label is on the box.",  # any label is suspect there
    "Since this is theft, the man runs.",
    "The category is 'theft'.",
    'This video is of the class "theft".',
    "It is classified as a theft.",
    "The class: theft.",
    "Given that the video shows theft, he runs.",
    "The answer is theft.",
    "类别是theft。",
    "The hint says so.",
]
NO_HINTED_LEAKS = [
    "A man takes the box and runs; this is theft.",
    "This points to theft.",
    "He commits theft.",
    "In class, theft is punished.",
    "The class is thefts and more.",
]


@pytest.mark.parametrize("text", LEAKS)
def test_a_leak_of_the_label(text: str) -> None:
    assert filters.leaks(text) and filters.leaks(text, "theft")


@pytest.mark.parametrize("text", NO_LEAKS)
def test_no_leak(text: str) -> None:
    assert not filters.leaks(text)


@pytest.mark.parametrize("text", HINTED_LEAKS)
def test_a_leak_where_the_label_was_shown_alone(text: str) -> None:
    assert filters.leaks(text, "theft") and not filters.leaks(text)


@pytest.mark.parametrize("text", NO_HINTED_LEAKS)
def test_no_leak_where_the_label_was_shown(text: str) -> None:
    assert not filters.leaks(text, "theft")


def test_a_label_is_no_pattern() -> None:
    assert filters.leaks("The class is C++ (new).", "C++ (new)")
    assert not filters.leaks("The class is C.", "C++ (new)")


ENGLISH, CHINESE = "Describe what happens in the video.", "请描述视频里发生了什么。"


@pytest.mark.parametrize(
    ("prompt", "text", "expected"),
    [
        (ENGLISH, FINE, None),
        (ENGLISH, "他走到门口，放下一个盒子，然后离开。", "language"),
        (ENGLISH, "Человек подходит к двери.", "language"),
        (ENGLISH, "A man walks to 門, the gate.", None),
        (ENGLISH, "Ein Mann geht zur Tür.", None),  # another language in the same script cannot be told
        (ENGLISH, "1 2 3 4 5", None),
        (ENGLISH, "ＡＢＣ walks ｂｙ", None),  # Latin of full width
        (CHINESE, FINE, "language"),
        (CHINESE, "他走到门口，放下一个盒子。", None),
        (CHINESE, "男の人がドアまで歩く。", None),
        ("Which is it, 正常 or 异常? Describe.", "他走到门口，放下一个盒子。", None),  # the prompt has both
        ("", "他走到门口。", None),
    ],
)
def test_a_text_in_another_script_than_its_prompt(prompt: str, text: str, expected: str | None) -> None:
    assert reason(text, prompt=prompt) == expected


def test_numbers_of_words_are_settings() -> None:
    four = "One two three four."
    assert [reason(four, Filters(min_words=n)) for n in (4, 5)] == [None, "short"]
    assert [reason(four, Filters(max_words=n)) for n in (3, 4)] == ["long", None]
    assert reason("日本語と", Filters(max_words=3)) == "long"


@pytest.mark.parametrize(
    ("text", "switched_off"),
    [
        ("no no no no", "repetitive"),
        ("I cannot watch videos.", "refusal"),
        ("The ground truth is theft.", "leak"),
        ("Человек идёт сюда.", "language"),
        ("Two words.", "short"),
    ],
)
def test_every_filter_has_a_switch(text: str, switched_off: Any) -> None:
    assert reason(text, prompt=ENGLISH) == switched_off
    assert reason(text, Filters(keep=(switched_off,)), prompt=ENGLISH) is None
    assert reason(FINE, Filters(keep=("truncated",)), truncated=True) is None


def test_a_text_that_cannot_be_trained_on_cannot_be_kept() -> None:
    for never in ("failed", "empty", "markup"):
        with pytest.raises(ValidationError, match="Input should be 'truncated', 'refusal', 'leak', "):
            Filters(keep=(never,))  # type: ignore[arg-type]
    assert [name for name, one in FILTERS.items() if one.keepable] == list(get_args(Keepable))
    assert Filters(keep=("long", "leak", "long")).keep == ("leak", "long")


def different(count: int) -> list[RationaleRow]:
    return [row(f"A man with hat {i} passes door {i} while dog {i} barks.") for i in range(count)]


def test_a_text_of_too_many_videos_is_left_out_but_for_the_first() -> None:
    same = [row("A person walks past the camera at night.")] * 11
    assert reasons([*different(44), *same], Filters()) == [None] * 55  # 11 of 55 are a fifth
    assert reasons([*different(43), *same], Filters()) == [None] * 44 + ["generic"] * 10
    assert reasons([*different(43), *same], Filters(keep=("generic",))) == [None] * 54
    assert reasons(same[:10], Filters()) == [None] * 10  # few videos may be all alike
    assert reasons(same[:3], Filters(max_share=0)) == [None, "generic", "generic"]
    assert reasons(different(5), Filters(max_share=0)) == [None] * 5


def test_nearly_the_same_is_four_fifths_of_the_runs_of_three_words() -> None:
    first = row("one two three four five six seven eight nine ten eleven")  # 9 runs
    last_differs = row("one two three four five six seven eight nine ten TWELVE")  # shares 8 of 10
    inner_differs = row("one two three four five six seven eight nine X eleven")  # shares 7 of 11
    assert reasons([first, last_differs], Filters(max_share=0)) == [None, "generic"]
    assert reasons([first, inner_differs], Filters(max_share=0)) == [None, None]
    assert reasons([row("One, two three!"), row("one two. three")], Filters(max_share=0))[1] == "generic"


def test_texts_that_are_left_out_for_another_reason_do_not_make_others_generic() -> None:
    cut = row(FINE, truncated=True)
    assert reasons([cut, row(FINE)], Filters(max_share=0)) == ["truncated", None]


@given(st.lists(st.text(max_size=60), max_size=12), st.sampled_from([0, 0.2, 1]))
def test_any_texts_get_a_reason_each(texts: list[str], share: float) -> None:
    found = reasons([row(text.strip(), "Why?", label="a") for text in texts], Filters(max_share=share))
    assert len(found) == len(texts)
    assert set(found) <= {None, *FILTERS}
