"""Prepared data, as `rbft prepare` leaves it in data/<name>: the manifest, the rows of splits, training rows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rbft_plugin import files
from rbft_plugin.errors import RbftError


def read_manifest(name: str) -> dict[str, Any]:
    """What `prepare` left; raises RbftError if the dataset is not prepared."""
    path = Path("data") / name / "manifest.json"
    if not path.is_file():
        raise RbftError(f"{path} is missing: run `rbft prepare {name}` first")
    return files.read_json(path)


def read_split(name: str, split: str) -> list[dict[str, Any]]:
    """Rows of a prepared split."""
    read_manifest(name)
    return read_jsonl(Path("data") / name / f"{split}.jsonl")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """JSON lines; raises RbftError naming the first line that is none (rows may be made by hand)."""
    rows = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                rows += [json.loads(line)] if line.strip() else []
            except json.JSONDecodeError as error:
                raise RbftError(f"{path}: line {number}: not JSON ({error.msg})") from None
    return rows


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    """Write JSON lines; returns their sha256."""
    return files.write_lines(path, map(row_line, rows))


def row_line(row: dict[str, Any]) -> str:
    """A line of a file of JSON lines."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def training_row(row: dict[str, Any], prompt: str, answer: str) -> dict[str, Any]:
    """A LLaMA-Factory sharegpt row: the clip, the prompt, the answer to learn."""
    asked = f"<video>{row.get('after_video', '')}{prompt}"
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return {"id": row["id"], "messages": messages, "videos": [row["video"]]}
