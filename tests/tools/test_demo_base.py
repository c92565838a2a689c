"""How the demo's base model is taught: made-up classes, lessons of text, batches of clips."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import BASE
from transformers import Qwen2_5_VLForConditionalGeneration

from rbft_plugin.demo.data import LABEL_OF
from rbft_plugin.demo.synthetic_video import EVENTS, Scene, random_scene
from rbft_plugin.model.processor import load_base
from tools.demo_base import lessons, pretrain
from tools.demo_base.architecture import PROMPTS, build
from tools.demo_base.captioner import Captioner, accuracy, draw_clips, measure
from tools.demo_base.meanings import (
    ANSWER,
    CONCLUDE,
    EXPLAIN,
    MOST,
    NAMES,
    QUESTIONS,
    VALUES,
    WORD_OF,
    Classes,
    conclusion,
    draw,
)

pytestmark = pytest.mark.torch

SCENE = Scene("red", "car", "left", "drop")
TOKENIZER = load_base(str(BASE)).processor.tokenizer


def test_classes_define_names_in_the_prompt_and_a_rationale_ends_with_the_definition_that_is_met() -> None:
    classes = Classes("event", {"take": "salute", "drop": "duty"})
    assert classes.prompt(EXPLAIN) == f"{EXPLAIN}\nTaking: salute\nLeaving: duty"
    assert classes.name(SCENE) == "duty"
    assert classes.rationale(SCENE) == "A red car comes from the left and leaves a box.\nLeaving: duty"


def test_drawn_classes_hold_the_scene_are_few_and_favour_no_name() -> None:
    rng = random.Random(0)
    drawn = [(scene, draw(scene, rng)) for scene in (random_scene(rng) for _ in range(20_000))]
    for scene, classes in drawn:
        assert 2 <= len(classes.name_of) <= MOST and getattr(scene, classes.kind) in classes.name_of
        assert len(set(classes.name_of.values())) == len(classes.name_of)
        assert set(classes.name_of) <= set(VALUES[classes.kind]) and set(classes.name_of.values()) <= set(NAMES)
    assert len(EVENTS) > MOST  # never all five, as the demo has them
    pairs = Counter((c.kind, value, name) for _, c in drawn for value, name in c.name_of.items())
    of_demo = [pairs["event", event, label] for event, label in LABEL_OF.items()]
    expected = sum(n for (kind, *_), n in pairs.items() if kind == "event") / (len(EVENTS) * len(NAMES))
    assert all(expected / 2 < n < 2 * expected for n in of_demo)
    places = Counter(list(c.name_of).index(getattr(s, c.kind)) for s, c in drawn if len(c.name_of) == MOST)
    assert max(places.values()) < 1.2 * min(places.values())


def test_a_word_with_its_colon_is_one_token_and_so_is_each_name() -> None:
    for word in WORD_OF.values():
        assert len(TOKENIZER(f"\n{word}: ")["input_ids"]) == 2  # the line break and the word
    for name in NAMES:
        assert len(TOKENIZER(f"Taking: {name}")["input_ids"]) == 2
    assert len(set(NAMES)) == 100 and set(LABEL_OF.values()) <= set(NAMES)


def test_the_demo_asks_as_the_base_was_taught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from rbft_plugin import workspace
    from rbft_plugin.spec import dataset

    workspace.init(tmp_path)
    monkeypatch.chdir(tmp_path)
    demo = dataset.load("demo")
    classes = Classes("event", LABEL_OF)
    assert demo.prompts.rationale.strip() == classes.prompt(EXPLAIN)
    assert demo.prompts.label.strip() == classes.prompt(ANSWER)
    assert list(demo.label_names) == list(LABEL_OF.values())


@pytest.mark.parametrize("level", range(lessons.LEVELS))
def test_looking_up_asks_for_names_that_were_defined_before(level: int) -> None:
    ids, labels = lessons.look_up(TOKENIZER, random.Random(level), level, asked=5)
    lines = TOKENIZER.decode(ids).strip().split("\n")
    defined = dict(line.split(": ") for line in lines[:-5])
    assert 2 <= len(defined) <= 2 + level
    assert all(defined[word] == name for word, name in (line.split(": ") for line in lines[-5:]))
    learnt = [token for token, label in zip(ids, labels, strict=True) if label != -100]
    assert learnt == [label for label in labels if label != -100]
    assert [TOKENIZER.decode([token]) for token in learnt] == [line.split(": ")[1] for line in lines[-5:]]


def test_relating_teaches_the_definitions_and_not_the_descriptions() -> None:
    ids, labels = lessons.relate(TOKENIZER, random.Random(0), scenes=3)
    learnt = TOKENIZER.decode([label for label in labels if label != -100]).split("<|im_end|>")
    prompt, *rationales = TOKENIZER.decode(ids).replace("<|im_start|>assistant\n", "\f").split("\f")
    assert EXPLAIN in prompt and len(rationales) == 1
    told = [part.strip() for part in rationales[0].split("<|im_end|>") if part.strip()]
    assert [part.split("\n")[1] for part in told] == [part.strip() for part in learnt if part.strip()]
    assert all(line.split("\n")[1] in prompt for line in told)


def test_words_go_a_level_up_once_it_is_learnt_and_then_relate() -> None:
    words = lessons.Words(TOKENIZER, random.Random(0))
    for _ in range(lessons.LEVELS):
        level = words.level
        for _ in range(50):
            assert words.level == level
            batch = words.batch()
            right = torch.nn.functional.one_hot(batch["labels"].roll(-1, 1).clamp(min=0), len(TOKENIZER)).float()
            words.learnt(right, batch["labels"])
        assert words.level == level + 1
    sizes = Counter(len(words.batch()["input_ids"]) for _ in range(60))
    assert set(sizes) == {8, 32} and sizes[8] > sizes[32]
    batch = words.batch()
    assert batch["position_ids"].shape == (3, *batch["input_ids"].shape)
    assert batch["position_ids"][0, 0].tolist() == list(range(batch["input_ids"].shape[1]))


def test_words_that_are_not_learnt_stay_at_their_level() -> None:
    words = lessons.Words(TOKENIZER, random.Random(0))
    for _ in range(60):
        batch = words.batch()
        words.learnt(torch.zeros(*batch["labels"].shape, len(TOKENIZER)), batch["labels"])
    assert words.level == 0


def test_lessons_are_descriptions_and_as_many_definitions_as_asked_for() -> None:
    rng = random.Random(0)
    pairs = [pretrain.lesson(SCENE, rng, pretrain.Phase(1, 1e-3, related=0.5)) for _ in range(2000)]
    kinds = Counter(
        "name" if p.startswith(ANSWER) else "explain" if p.startswith(EXPLAIN) else "describe" for p, _ in pairs
    )
    assert abs(kinds["describe"] - 1000) < 100 and abs(kinds["explain"] - 600) < 100 and abs(kinds["name"] - 400) < 100
    for prompt, answer in pairs:
        if prompt in PROMPTS:
            assert answer == SCENE.caption
        else:
            assert answer.splitlines()[-1] in prompt.splitlines() or answer in [
                d.split(": ")[-1] for d in prompt.splitlines()
            ]
    assert {pretrain.lesson(SCENE, rng, pretrain.Phase(1, 1e-3))[1] for _ in range(20)} == {SCENE.caption}


def test_lessons_of_the_further_phase_ask_for_a_word_at_once_or_after_a_description() -> None:
    rng, phase = random.Random(0), pretrain.Phase(1, 1e-3, asked=0.6, concluded=0.2)
    lessons_of = Counter(pretrain.lesson(SCENE, rng, phase) for _ in range(5000))
    answers = {
        "What happens? Answer in a word.": "Leaving",
        "Which color? Answer in a word.": "Red",
        "Who is seen? Answer in a word.": "Car",
        "From where? Answer in a word.": "Left",
        'Describe the video. End with a last line of its own: "Answer: " and what happens in a word.': (
            "A red car comes from the left and leaves a box.\n\nAnswer: Leaving"
        ),
    } | dict.fromkeys(PROMPTS, SCENE.caption)
    assert set(lessons_of) == set(answers.items())
    shares = {prompt: n / 5000 for (prompt, _), n in lessons_of.items()}
    assert [shares[question] for question in QUESTIONS.values()] == pytest.approx([0.4, 0.067, 0.067, 0.067], abs=0.02)
    assert shares[CONCLUDE] == pytest.approx(0.2, abs=0.02)
    (further,) = pretrain.FURTHER
    assert further.asked and further.concluded and not any(p.asked or p.concluded for p in pretrain.PHASES)


def test_clips_depend_on_the_seed_alone_and_have_the_shape_asked_for() -> None:
    scenes, clips = draw_clips(3, 5, (6, 56, 84), processes=1)
    assert clips.shape == (3, 6, 56, 84, 3) and clips.dtype == np.uint8 and len(scenes) == 3
    again = draw_clips(3, 5, (6, 56, 84), processes=2)
    assert again[0] == scenes and np.array_equal(again[1], clips)
    assert draw_clips(3, 6, (6, 56, 84), processes=1)[0] != scenes


def test_the_captions_of_a_batch_are_all_that_is_learnt_and_answers_are_those_of_clips_alone() -> None:
    model, processor = build(0)
    captioner = Captioner(model, processor)
    _, clips = draw_clips(2, 5, (8, 56, 56), processes=1)
    prompts, captions = [PROMPTS[0], PROMPTS[4]], ["A red car.", "Taking: theft"]
    given = captioner.inputs(clips, prompts, captions, 1.5)
    learnt = [processor.tokenizer.decode(row[row != -100]) for row in given["labels"]]
    assert learnt == [caption + "<|im_end|>" for caption in captions]
    alone = [captioner.answer(clips[i : i + 1], [prompts[i]], 1.5)[0] for i in range(2)]
    assert captioner.answer(clips, prompts, 1.5) == alone


def test_frames_attention_in_one_call_is_that_of_the_original() -> None:
    model, processor = build(0)
    _, clips = draw_clips(2, 5, (8, 56, 56), processes=1)
    videos = [torch.from_numpy(clip).permute(0, 3, 1, 2) for clip in clips]
    seen = processor.video_processor(videos, do_resize=False, do_sample_frames=False, return_tensors="pt")
    with torch.no_grad():
        before = model.model.visual(seen["pixel_values_videos"], grid_thw=seen["video_grid_thw"]).pooler_output
        Captioner(model, processor)
        after = model.model.visual(seen["pixel_values_videos"], grid_thw=seen["video_grid_thw"]).pooler_output
    assert torch.allclose(before, after, atol=1e-5)


def test_accuracy_is_of_whole_captions_and_of_each_attribute() -> None:
    other = Scene("blue", "ball", "top", "take")
    texts = [SCENE.caption, "A blue ball comes from the bottom and takes a box."]
    assert accuracy(texts, [SCENE, other]) == {"exact": 0.5, "color": 1.0, "agent": 1.0, "side": 0.5, "event": 1.0}


def test_a_base_is_trained_saved_and_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "measure", lambda captioner, scenes, *_: {"clips": len(scenes)})
    monkeypatch.setattr(pretrain, "POOLS", {(8, 56, 56): 0.8, (6, 56, 84): 0.2})
    phases = [pretrain.Phase(2, 1e-3), pretrain.Phase(2, 1e-3, anew=True, words=1.0)]
    phases += [pretrain.Phase(2, 1e-3, words=0.5, related=1.0, hard=("drop",))]
    pretrain.train(tmp_path / "base", 0, phases, pool=50, held_out=4)
    said = capsys.readouterr().out
    assert "1,669,120 parameters, 800 tokens" in said
    assert said.count("held out, (8, 56, 56), 1 s a step: {'clips': 4}") == 4  # after each phase, and at the end
    assert said.count("s a step:") == 3 + 3 * len(pretrain.POOLS)
    trained, fresh = load_base(str(tmp_path / "base")), build(0)[0]
    assert len(trained.processor.tokenizer("Taking: theft")["input_ids"]) == 2
    weights = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "base").state_dict()
    moved = {name: float((weights[name] - begun).abs().max()) for name, begun in fresh.state_dict().items()}
    assert len(moved) == len(weights) and all(0 < m < 1e-3 for m in moved.values())


def test_the_further_phase_goes_on_from_a_folder_of_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "set_flush_denormal", lambda on: on)  # it would stay on for the tests that follow
    monkeypatch.setattr(pretrain, "measure", lambda *_: {})
    monkeypatch.setattr(pretrain, "POOLS", {(8, 56, 56): 1.0})
    monkeypatch.setattr(pretrain, "FURTHER", (pretrain.Phase(9, 1e-3, words=0.5, asked=0.5),))
    command = ["pretrain", str(tmp_path / "base"), "--start", str(BASE), "--pool", "40"]
    monkeypatch.setattr("sys.argv", [*command, "--steps", "2"])
    pretrain.main()
    begun, trained = (
        Qwen2_5_VLForConditionalGeneration.from_pretrained(folder).state_dict() for folder in (BASE, tmp_path / "base")
    )
    assert all(float((trained[name] - old).abs().max()) < 1e-4 for name, old in begun.items())  # two warm-up steps
    assert any(float((trained[name] - old).abs().max()) > 0 for name, old in begun.items())
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "base" / name).read_bytes() == (BASE / name).read_bytes()
    monkeypatch.setattr("sys.argv", [*command, "--steps", "2", "2"])
    with pytest.raises(SystemExit):
        pretrain.main()
    assert f"error: {tmp_path / 'base'} is there already" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["pretrain", str(tmp_path / "new"), *command[2:], "--steps", "2", "2"])
    with pytest.raises(SystemExit):
        pretrain.main()
    assert "error: --steps needs one number for each phase that is trained: 1" in capsys.readouterr().err


def test_the_shares_of_right_names_are_those_of_the_names_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = build(0)
    captioner = Captioner(model, processor)
    scenes, clips = draw_clips(4, 5, (8, 56, 56), processes=1)

    def answer(self: Captioner, clips: np.ndarray, prompts: list[str], step: float) -> list[str]:
        """Right descriptions, right definitions but one, and always the first name."""
        if prompts[0] == PROMPTS[0]:
            return [scene.caption for scene in scenes]
        if prompts[0] == QUESTIONS["event"]:
            return [WORD_OF[scenes[0].event], "Nothing", "Nothing", "Nothing"]
        if prompts[0] == CONCLUDE:
            return [*(conclusion(scene) for scene in scenes[:2]), WORD_OF[scenes[2].event], scenes[3].caption]
        names = [dict(line.split(": ") for line in prompt.splitlines()[1:]) for prompt in prompts]
        if prompts[0].startswith(ANSWER):
            return [next(iter(defined.values())) for defined in names]
        told = [f"{WORD_OF[s.event]}: {defined[WORD_OF[s.event]]}" for s, defined in zip(scenes, names, strict=True)]
        return [*told[:3], "Taking: nothing"]

    monkeypatch.setattr(Captioner, "answer", answer)
    found = measure(captioner, scenes, clips, 1, seed=0)
    first = sum(scene.event == next(iter(EVENTS)) for scene in scenes) / 4
    assert found == {
        "exact": 1.0, "color": 1.0, "agent": 1.0, "side": 1.0, "event": 1.0, "explained": 0.75, "named": first,
        "asked": 0.25, "concluded": 0.5,
    }  # fmt: skip
