"""response_cache: lmms-eval's real response cache with our wrapper, and a model that is killed while it answers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rbft_plugin.lmms_eval import response_cache

pytestmark = pytest.mark.torch

TASK = "rbft_mine_rationale"


class Killed(BaseException):
    """Ends a process here, as SIGKILL ends a real one: nothing of ours is called after it."""


class Writer:
    """An lmms-eval model that answers every request, and notes for which documents it was asked."""

    def __init__(self, docs: int = 20, dies_at: int | None = None, **settings: Any) -> None:
        rows = [{"id": f"v{i}", "video": f"clips/{i}.mp4"} for i in range(docs)]
        self.task_dict = {TASK: {"test": rows}, "other": {"test": rows}}
        self.batch_size, self.dies_at, self.settings = 1, dies_at, settings
        self.asked: list[int] = []
        self.calls: list[int] = []
        self.texts: dict[int, str] = {}

    def generate_until(self, requests: list[Any]) -> list[Any]:
        from lmms_eval.api.instance import GenerationResult, TokenCounts

        self.calls.append(len(requests))
        found = []
        for request in requests:
            if request.doc_id == self.dies_at:
                raise Killed
            self.asked.append(request.doc_id)
            text = self.texts.get(request.doc_id, f"text {request.doc_id}")
            found.append(GenerationResult(text, TokenCounts(7, request.doc_id)))
        return found

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        self.calls.append(len(requests))
        return [("(-1.0, True, 2)", {"output_tokens": 2}) for _ in requests]


@pytest.fixture(scope="module", autouse=True)
def installed() -> Iterator[None]:
    from lmms_eval.caching.response_cache import ResponseCache

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResponseCache, "execute", inspect.unwrap(ResponseCache.execute))
        patch.setenv("LMMS_CACHE_RUN_ID", "")  # as if it were not set
        patch.delenv("LMMS_CACHE_RUN_ID")
        response_cache.install(True)
        yield


def run(lm: Writer, folder: Path, model_args: str = "pretrained=base", task: str = TASK, **settings: Any) -> list[Any]:
    """What lmms-eval makes of the answers to all documents: (text, output tokens)."""
    from lmms_eval.api.instance import Instance, unwrap_generation_output
    from lmms_eval.caching.response_cache import ResponseCache

    settings = {"temperature": 0.0, "do_sample": False, "until": []} | settings
    kind = settings.pop("kind", "generate_until")
    requests = [
        Instance(kind, ("Why?", dict(settings), None, i, task, "test"), 0, {"doc_id": i, "task": task, "repeats": 1})
        for i in range(len(lm.task_dict[task]["test"]))
    ]
    for request in requests:
        request.task_name, request.doc_id = task, request.metadata["doc_id"]
    config = SimpleNamespace(dump_config=partial(dict, prompt="Why?"))
    store = ResponseCache.create(str(folder), model="writer", model_args=model_args, task_dict={task: config})
    try:
        answers = store.execute(lm, kind, requests)
    except Killed:
        return []  # no finalize: it was killed
    store.finalize(success=True)
    return [(text, counts and counts.output_tokens) for text, counts in map(unwrap_generation_output, answers)]


ALL = [(f"text {i}", i) for i in range(20)]


def test_the_function_that_we_wrap_has_the_signature_that_we_wrap() -> None:
    from lmms_eval.caching.response_cache import ResponseCache

    theirs = inspect.signature(inspect.unwrap(ResponseCache.execute)).parameters
    ours = inspect.signature(ResponseCache.execute, follow_wrapped=False).parameters
    assert list(theirs) == list(ours) == ["self", "lm", "reqtype", "requests"]


def test_a_killed_generation_goes_on_with_texts_and_token_counts(tmp_path: Path) -> None:
    killed, again, third = Writer(dies_at=18), Writer(), Writer()
    assert run(killed, tmp_path) == []
    assert killed.calls == [8, 8, 4]  # of a batch size of 1, 8 are asked for at a time
    assert run(again, tmp_path) == ALL
    assert again.asked == [16, 17, 18, 19]
    assert run(third, tmp_path) == ALL and third.asked == []


def test_without_our_wrapper_a_killed_generation_is_lost_and_so_are_token_counts(tmp_path: Path) -> None:
    """When this fails, lmms-eval may do it itself: see whether `response_cache` is still needed."""
    from lmms_eval.caching.response_cache import ResponseCache

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResponseCache, "execute", inspect.unwrap(ResponseCache.execute))
        again, third = Writer(), Writer()
        assert run(Writer(dies_at=18), tmp_path) == []
        assert run(again, tmp_path) == ALL and again.calls == [20]
        assert run(third, tmp_path) == [(text, None) for text, _ in ALL] and third.asked == []


@pytest.mark.parametrize(
    "change",
    [{"model_args": "pretrained=base,fingerprint=1"}, {"max_new_tokens": 5}],
)
def test_another_model_or_setting_gets_no_old_answers(tmp_path: Path, change: dict[str, Any]) -> None:
    run(Writer(), tmp_path)
    other = Writer()
    assert run(other, tmp_path, **change) == ALL
    assert len(other.asked) == 20


def test_other_videos_get_no_old_answers(tmp_path: Path) -> None:
    run(Writer(), tmp_path)
    other = Writer()
    other.task_dict[TASK]["test"][3]["video"] = "clips/prepared-anew.mp4"
    run(other, tmp_path)
    assert len(other.asked) == 20


def test_a_failed_request_is_asked_again(tmp_path: Path) -> None:
    failing, again = Writer(), Writer()
    failing.texts[5] = "[LMMS_EVAL_REQUEST_FAILED after 3 retries] no route"
    assert run(failing, tmp_path)[5] == (failing.texts[5], 5)
    assert run(again, tmp_path) == ALL
    assert again.asked == [5]


def test_an_empty_answer_is_an_answer(tmp_path: Path) -> None:
    first, again = Writer(), Writer()
    first.texts[5] = ""
    run(first, tmp_path)
    assert run(again, tmp_path)[5] == ("", 5)
    assert again.asked == []


def test_sampled_answers_are_never_stored_and_asked_for_all_at_once(tmp_path: Path) -> None:
    for _ in range(2):
        lm = Writer()
        assert run(lm, tmp_path, do_sample=True, temperature=0.7) == ALL
        assert lm.calls == [20]


def test_as_many_are_asked_for_at_a_time_as_a_model_takes(tmp_path: Path) -> None:
    lm = Writer(docs=100)
    lm.batch_size = "auto"  # type: ignore[assignment]
    lm.num_concurrent = 4  # type: ignore[attr-defined]
    run(lm, tmp_path)
    assert lm.calls == [32, 32, 32, 4]


def test_other_tasks_and_likelihoods_are_left_to_lmms_eval(tmp_path: Path) -> None:
    lm = Writer()
    run(lm, tmp_path, task="other")
    assert run(lm, tmp_path, kind="loglikelihood") == [("(-1.0, True, 2)", 2)] * 20
    assert lm.calls == [20, 20]


def test_one_bar_counts_the_answers_of_all_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(Writer(), tmp_path)
    said = capsys.readouterr().err.replace("\r", "\n")
    assert [line.split("|")[2].split()[0] for line in said.splitlines() if "answers" in line][-1] == "20/20"
    run(Writer(8), tmp_path, model_args="other")  # one part, which the model's own bar counts
    assert "answers" not in capsys.readouterr().err
