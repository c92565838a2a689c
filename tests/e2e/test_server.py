"""Rationales written over the network: lmms-eval's client of OpenAI-compatible servers against a stub of one."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from builders import QUIET, prepare, read_jsonl, small_dataset
from PIL import Image
from shell import sh

from rbft_plugin.spec.dataset import load

pytestmark = pytest.mark.e2e

N = 24  # training samples; 16 are asked for together, 2 at a time
PART = 16
TEXTS = {3: "I'm sorry, but I cannot view the video.", 5: "A person walks past and", 7: ""}  # by number of the request


class Stub(BaseHTTPRequestHandler):
    """POST /v1/chat/completions, as https://platform.openai.com/docs/api-reference/chat describes it."""

    asked: list[dict[str, Any]] = []
    fails: int | None = None  # the number of a request that it refuses
    hangs_after = 10**6  # requests
    texts: dict[int, str] = {}  # in place of its usual ones
    lock = threading.Lock()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.lock:
            self.asked.append(body)
            number = len(self.asked)
        while number > self.hangs_after:
            time.sleep(0.1)
        content = body["messages"][0]["content"]
        text = self.texts.get(number, f"Person number {number} comes from the left and turns back. That is all.")
        cut = text == TEXTS[5]
        self.answer(
            400 if number == self.fails else 200,
            {
                "id": f"chatcmpl-{number}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": body["model"],
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": text},
                        "finish_reason": "length" if cut else "stop",
                    }
                ],
                "usage": {
                    "prompt_tokens": 10 * len(content),
                    "completion_tokens": body["max_tokens"] if cut else len(text.split()),
                    "total_tokens": 0,
                },
            },
        )

    def answer(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(ws: Path) -> Any:
    small_dataset("mine", {"train": N, "val": 0, "test": 2})
    prepare(load("mine"), QUIET)
    Stub.asked, Stub.hangs_after, Stub.fails, Stub.texts = [], 10**6, None, {}
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    httpd.daemon_threads = True
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield httpd.server_address[1]
    httpd.shutdown()


def test_a_killed_writer_goes_on_and_its_texts_become_rows(server: int) -> None:
    """The command is that of docs/rationales.md."""
    command = [
        *("lmms-eval", "--model", "openai"),
        "--model_args",
        f"model_version=writer,base_url=http://127.0.0.1:{server}/v1,api_key=none,video_fps=1000,timeout=60,"
        "max_retries=1,num_concurrent=2",
        *("--tasks", "rbft_mine_rationale", "--log_samples", "--output_path", "OUT", "--use_cache", "CACHE"),
    ]
    Stub.hangs_after, Stub.fails, Stub.texts = PART + 2, 9, TEXTS
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    deadline = time.time() + 300
    while len(Stub.asked) <= Stub.hangs_after and first.poll() is None and time.time() < deadline:
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    said = first.communicate()[0].decode()
    before = [_question(one) for one in Stub.asked]
    assert len(set(before)) == len(before) > PART + 2, said
    Stub.hangs_after, Stub.fails, Stub.texts, Stub.asked = 10**6, None, {}, []

    said = sh(shlex.join(command)).stdout
    again = [_question(one) for one in Stub.asked]
    stored = set(before[:PART]) - {before[8]}  # the refused one is not taken for an answer
    assert len(again) == N - len(stored) and not stored & set(again), said
    assert len({*stored, *again}) == N

    (images, (text,)) = (_parts(Stub.asked[0], kind) for kind in ("image_url", "text"))
    frames = [Image.open(io.BytesIO(base64.b64decode(image["url"].split(",")[1]))) for image in images]
    assert text == load_rows()[0]["rationale_prompt"]
    assert {len(_parts(one, "image_url")) for one in Stub.asked} <= {r["meta"]["frames"] for r in load_rows()}
    assert all(frame.width * frame.height >= 56 * 56 for frame in frames)
    assert {(one["max_tokens"], one["temperature"]) for one in Stub.asked} == {(512, 0.0)}

    collected = sh("rbft collect OUT").stdout
    assert re.sub("train[0-9]+", "X", collected) == (
        "mine: 21 of 24 rationales kept\n"
        "  1 dropped as empty: the model wrote nothing\n"
        "  1 dropped as truncated: it was cut at the limit of new tokens\n"
        "    X: A person walks past and\n"
        "  1 dropped as refusal: the model declines, or says that it sees no video\n"
        "    X: I'm sorry, but I cannot view the video.\n"
        "written: data/mine/rationale.jsonl\n"
    )


def load_rows() -> list[dict[str, Any]]:
    return read_jsonl("data/mine/train.jsonl")


def _parts(body: dict[str, Any], kind: str) -> list[Any]:
    return [part[kind] for part in body["messages"][0]["content"] if part["type"] == kind]


def _question(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()
