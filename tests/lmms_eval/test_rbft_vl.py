"""`rbft_vl` as lmms-eval calls it: order, grouping, repeats, model arguments, and how it fails."""

from __future__ import annotations

import ast
import json
import random
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from builders import BASE, write_clips

from rbft_plugin.errors import RbftError
from rbft_plugin.lmms_eval import rbft_vl
from rbft_plugin.lmms_eval.rbft_vl import RbftVL
from rbft_plugin.model import checkpoint
from rbft_plugin.model.inputs import batch_inputs
from rbft_plugin.model.load import load_model
from rbft_plugin.model.loglikelihood import answer_ids, score
from rbft_plugin.run.steps import Step

pytestmark = pytest.mark.torch

PROMPT = "Describe what happens in the video."
GREEDY = {"max_new_tokens": 32, "do_sample": False, "temperature": 0.0, "until": []}
SAMPLED = {"max_new_tokens": 16, "temperature": 5.0, "until": []}
LENGTHS = [8, 2, 6, 8, 4, 12, 8, 6]
LABELS = ["box", "a box", "waits"]
KNOWN = "pretrained, adapters, dtype, attn_implementation, device_map, trust_remote_code, num_workers, fingerprint"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny model, with a processor that leaves clips of up to 200 x 200 pixels as they are."""
    folder = tmp_path_factory.mktemp("model") / "base"
    shutil.copytree(BASE, folder)
    config = json.loads((BASE / "processor_config.json").read_text())
    for part in ("image_processor", "video_processor"):
        config[part]["size"] = {"shortest_edge": 3136, "longest_edge": 40_000}
    (folder / "processor_config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    videos = write_clips(tmp_path_factory.mktemp("clips"), LENGTHS)
    return [
        {"video": str(v), "meta": {"frames": n, "width": 56 if i % 3 else 84, "height": 56}}
        for i, (v, n) in enumerate(zip(videos, LENGTHS, strict=True))
    ]


def loaded(model_folder: str, docs: list[dict[str, Any]], **arguments: Any) -> RbftVL:
    lm = RbftVL(**{"pretrained": model_folder, "device": "cpu", "num_workers": 0} | arguments)
    lm.task_dict = {"task": {"test": docs}, "other": {"test": docs}}
    return lm


def request(doc: int, second: Any, task: str = "task") -> Any:
    """What lmms-eval hands to a simple model."""
    visual = lambda doc: [doc["video"]] * doc.get("times", 1)  # noqa: E731
    return SimpleNamespace(args=(PROMPT, second, visual, doc, task, "test"))


def test_generate_until_keeps_the_order_at_any_batch_size(model_folder: str, docs: list[dict[str, Any]]) -> None:
    answers = []
    for size, workers in (("1", 0), (3, 1)):
        lm = loaded(model_folder, docs, batch_size=size, num_workers=workers)
        asked = [request(i, GREEDY | ({"max_new_tokens": 3} if i % 2 else {})) for i in range(len(docs))]
        results = lm.generate_until(asked)
        answers.append([(r.text, r.token_counts.input_tokens, r.token_counts.output_tokens) for r in results])
    assert answers[0] == answers[1] and len(answers[0]) == len(docs)
    assert [tokens == 3 for _, _, tokens in answers[0]] == [bool(i % 2) for i in range(len(docs))]
    visual = [n // 2 * 2 * (2 if i % 3 else 3) for i, n in enumerate(LENGTHS)]  # frame pairs x merged patches
    text = answers[0][0][1] - visual[0]
    assert [tokens for _, tokens, _ in answers[0]] == [text + v for v in visual]
    processor = load_model(model_folder, device="cpu")[1]
    for said, _, tokens in answers[0]:
        assert tokens == len(processor.tokenizer(said)["input_ids"])  # neither padding nor the end of turn


def test_a_sample_is_drawn_by_its_seed_and_repeat_alone(model_folder: str, docs: list[dict[str, Any]]) -> None:
    def drawn(size: int, order: list[int], **more: Any) -> dict[int, list[str]]:
        lm = loaded(model_folder, docs, batch_size=size)
        asked = [request(i, SAMPLED | more) for i in order]
        several = [r for r in asked for _ in range(3)]  # lmms-eval repeats the object
        several += [SimpleNamespace(args=several[-1].args)]  # and pads a rank's requests with a copy
        texts: dict[int, list[str]] = {i: [] for i in order}
        for r, result in zip(several, lm.generate_until(several), strict=True):
            texts[r.args[3]].append(result.text)
        assert texts[order[-1]].pop() == texts[order[-1]][0]
        return texts

    first = drawn(1, [0, 1, 2, 3])
    assert all(len(set(texts)) == 3 for texts in first.values())
    for size, order in ((3, [0, 1, 2, 3]), (8, [3, 1, 0, 2])):
        assert drawn(size, order) == first
    assert drawn(2, [2])[2] == first[2]
    assert drawn(2, [2], seed=7)[2] != first[2]
    before = torch.initial_seed()
    assert drawn(2, [2], seed=before)[2] == first[2]
    torch.manual_seed(7)  # as lmms-eval's --seed does
    try:
        assert drawn(2, [2])[2] == drawn(3, [2, 1], seed=7)[2]
    finally:
        torch.manual_seed(before)


@pytest.mark.parametrize("size", [1, 3])
def test_labels_of_a_document_share_one_pass_in_whatever_order_they_come(
    model_folder: str, docs: list[dict[str, Any]], size: int
) -> None:
    lm = loaded(model_folder, docs, batch_size=size)
    asked = [request(i, label, task) for task in ("task", "other") for i in range(4) for label in LABELS]
    asked += [request(3, LABELS[-1])] * 2  # lmms-eval pads a rank's requests with copies of its last one
    random.Random(1).shuffle(asked)
    passes = []
    hook = lambda m, a, k: passes.append("pixel_values_videos" in k)  # noqa: E731
    lm.model.register_forward_pre_hook(hook, with_kwargs=True)
    results = lm.loglikelihood(asked)
    assert passes.count(True) == -(-8 // size)  # one for 4 documents of 2 tasks each
    net, processor = load_model(model_folder, device="cpu")
    answers = [answer_ids(processor, label) for label in LABELS]
    for r, (text, counts) in zip(asked, results, strict=True):
        _, label, _, i, _, _ = r.args
        inputs = batch_inputs(processor, [docs[i]["video"]], [PROMPT])
        expected = score(net, inputs, [answers])[0][LABELS.index(label)]
        logprob, greedy, tokens = ast.literal_eval(text)
        assert logprob == pytest.approx(expected.logprob, abs=1e-4)
        assert (greedy, tokens) == (expected.greedy, expected.tokens)
        assert counts == {"input_tokens": inputs["input_ids"].shape[1], "output_tokens": tokens}


def test_lmms_eval_reads_a_likelihood_alike_from_the_model_and_from_its_cache(
    model_folder: str, docs: list[dict[str, Any]]
) -> None:
    from lmms_eval.api.instance import unwrap_generation_output
    from lmms_eval.caching.response_cache import ResponseCache, _deserialize_response, _serialize_response

    (result,) = loaded(model_folder, docs).loglikelihood([request(0, "a box")])
    assert ResponseCache._is_valid_response(result, "loglikelihood")
    cached = _deserialize_response(_serialize_response(ResponseCache._extract_cacheable(result)))
    text, counts = unwrap_generation_output(result)
    assert (text, counts) == unwrap_generation_output(cached)
    assert text == result[0] and counts.output_tokens == ast.literal_eval(text)[2]


def test_a_function_of_the_document_may_give_the_continuation(model_folder: str, docs: list[dict[str, Any]]) -> None:
    lm = loaded(model_folder, docs)
    given, made = lm.loglikelihood([request(1, "12 box"), request(1, lambda doc: f"{doc['meta']['frames']}2 box")])
    assert ast.literal_eval(made[0])[2] == ast.literal_eval(given[0])[2]


def test_without_a_video_the_question_is_answered(model_folder: str, docs: list[dict[str, Any]]) -> None:
    blind = [dict(doc, times=0) for doc in docs]
    lm = loaded(model_folder, blind, batch_size=3)
    answers = lm.generate_until([request(i, GREEDY) for i in range(4)])
    assert len({a.text for a in answers}) == 1 and answers[0].text
    processor = load_model(model_folder, device="cpu")[1]
    prompt = batch_inputs(processor, [None], [PROMPT])["input_ids"]
    assert "<|video" not in processor.tokenizer.decode(prompt[0])
    assert answers[0].token_counts.input_tokens == prompt.shape[1]
    assert len(lm.loglikelihood([request(0, "box")])) == 1


def test_what_a_user_can_get_wrong_is_said(model_folder: str, docs: list[dict[str, Any]], tmp_path: Path) -> None:
    def message(**arguments: Any) -> str:
        with pytest.raises(RbftError) as error:
            RbftVL(**{"pretrained": model_folder, "device": "cpu"} | arguments)
        return str(error.value)

    assert message(max_pixels=3, adapter="x") == (
        f"rbft_vl: unknown model arguments: max_pixels, adapter; known are {KNOWN}"
    )
    assert message(pretrained="") == ("rbft_vl: which model? Give --model_args pretrained=FOLDER, or a name on the hub")
    assert message(batch_size="auto") == "rbft_vl: --batch_size must be a whole number above 0, not 'auto'"
    assert message(num_workers=-1) == "rbft_vl: num_workers must be a whole number, not -1"
    assert message(trust_remote_code="yes") == "rbft_vl: trust_remote_code must be true or false, not 'yes'"
    assert message(adapters=f"{tmp_path}/a:{tmp_path}/b") == (
        f"adapters: no adapter_config.json in {tmp_path}/a, {tmp_path}/b"
    )
    lm = loaded(model_folder, [dict(docs[0], times=2)])
    with pytest.raises(RbftError) as error:
        lm.generate_until([request(0, GREEDY)])
    assert str(error.value) == "rbft_vl takes one video file a sample, or none; task task gives str, str"
    with pytest.raises(RbftError, match="generation_kwargs: 1 problem\n  - beams: no setting"):
        lm.generate_until([request(0, {"beams": 2})])


def test_another_model_than_the_fingerprints_is_refused(model_folder: str, tmp_path: Path) -> None:
    base = shutil.copytree(model_folder, tmp_path / "base")
    known = checkpoint.Checkpoint(str(base)).fingerprint()
    assert RbftVL(str(base), device="cpu", fingerprint=known).workers >= 0
    (base / "generation_config.json").write_text('{"eos_token_id": 2}')
    now = checkpoint.Checkpoint(str(base)).fingerprint()
    with pytest.raises(RbftError) as error:
        RbftVL(str(base), device="cpu", fingerprint=known)
    assert str(error.value) == (
        f"rbft_vl: the model at pretrained={base} has fingerprint {now}, not {known}. It has changed, and "
        "cached answers are those of the old model. Pass its fingerprint, or none."
    )


@pytest.mark.parametrize(
    ("size", "advice"),
    [
        (5, "out of GPU memory with --batch_size 5; try --batch_size 2"),
        (1, "out of GPU memory with --batch_size 1; use smaller clips (`clips.frames` or `clips.max_pixels` of the "),
    ],
)
def test_out_of_memory_says_what_to_try(
    model_folder: str, docs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, size: int, advice: str
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(rbft_vl, "generate", full)
    monkeypatch.setattr(rbft_vl, "score", full)
    lm = loaded(model_folder, docs, batch_size=size)
    for call in (lambda: lm.generate_until([request(0, GREEDY)]), lambda: lm.loglikelihood([request(0, "box")])):
        with pytest.raises(RbftError) as error:
            call()
        assert str(error.value).startswith(advice)


def test_a_failure_of_one_process_of_several_ends_it(
    model_folder: str, docs: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """lmms-eval would log an exception and exit 0, and the other processes would wait for this one."""
    lm = loaded(model_folder, [dict(docs[0], video=str(tmp_path / "gone.mp4"))])
    with pytest.raises(RbftError, match=r"gone\.mp4: does not exist"):
        lm.generate_until([request(0, GREEDY)])
    lm._world_size = 2
    with pytest.raises(SystemExit) as ended:
        lm.generate_until([request(0, GREEDY)])
    assert ended.value.code == 1
    assert f"RbftError: {tmp_path}/gone.mp4: does not exist" in capsys.readouterr().err


def test_the_shipped_base_describes_clips_that_it_was_not_trained_on() -> None:
    from tools.demo_base import captioner

    net, processor = load_model(str(BASE), device="cpu")
    scenes, frames = captioner.draw_clips(200, 424_242, (8, 56, 56), processes=1)
    shares = captioner.measure(captioner.Captioner(net, processor), scenes, frames, 1, seed=0)
    assert shares["exact"] > 0.9 and shares["color"] > 0.98 and shares["explained"] > 0.9
    assert shares["named"] < 0.5  # it knows, and has to say it to itself first


def test_a_retrained_model_gets_no_answers_of_the_old_one(
    model_folder: str, docs: list[dict[str, Any]], tmp_path: Path
) -> None:
    """lmms-eval's response cache keys on the model arguments; `rbft run` puts the fingerprint among them."""
    from lmms_eval.api.instance import Instance, unwrap_generation_output
    from lmms_eval.caching.response_cache import ResponseCache
    from lmms_eval.utils import simple_parse_args_string
    from safetensors.torch import load_file, save_file

    base = str(shutil.copytree(model_folder, tmp_path / "base"))
    asked: list[int] = []

    def answers(fingerprint: bool = True) -> list[str]:
        """As `lmms-eval --use_cache` gets them; `asked` counts what reaches the model."""
        argv = ["lmms-eval", "--model", "rbft_vl", "--model_args", f"pretrained={base}", "--tasks", "t"]
        arguments = (
            Step("score", "score", argv, model=checkpoint.Checkpoint(str(base))).command() if fingerprint else argv
        )[4]
        lm = RbftVL(**simple_parse_args_string(arguments), device="cpu", num_workers=0)
        lm.task_dict = {"task": {"test": docs}}
        cache = ResponseCache.create(str(tmp_path / "cache"), model="rbft_vl", model_args=arguments)
        found: list[str] = []
        for kind, second in (("generate_until", GREEDY), ("loglikelihood", "a box")):
            call = getattr(lm, kind)
            counted = SimpleNamespace(**{kind: lambda missing, call=call: asked.append(len(missing)) or call(missing)})
            given = [
                Instance(kind, request(i, second).args, 0, {"task": "task", "repeats": 1, "doc_id": i}) for i in (0, 1)
            ]
            found += [unwrap_generation_output(answer)[0] for answer in cache.execute(counted, kind, given)]
        cache.finalize(success=True)
        return found

    old = answers()
    assert asked == [2, 2]
    assert answers() == old and asked == [2, 2]  # all from the cache
    weights = load_file(f"{base}/model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"] *= -1  # trained in one place
    save_file(weights, f"{base}/model.safetensors", {"format": "pt"})
    new = answers()
    assert asked == [2, 2] * 2
    assert all(a != b for a, b in zip(old, new, strict=True))
    # What it guards against: by its path alone, the first model would now get the second one's answers.
    assert answers(fingerprint=False) == new and asked == [2, 2] * 3
    shutil.copy(f"{model_folder}/model.safetensors", base)
    assert answers(fingerprint=False) == new and asked == [2, 2] * 3
    assert answers() == old and asked == [2, 2] * 3
