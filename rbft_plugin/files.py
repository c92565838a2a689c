"""Files that appear complete or not at all, JSON files, and hashes of files."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from rbft_plugin.errors import RbftError


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file and its folders at once. A file with the same content stays untouched."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file and its folders at once. A file with the same content stays untouched."""
    if _holds(path, content):
        return
    partial = _partial(path)
    partial.write_bytes(content)
    os.replace(partial, path)


def write_lines(path: Path, lines: Iterable[str]) -> str:
    """Write a UTF-8 file as `write_text` does, but line by line, never all of it in memory. Returns its sha256."""
    partial = _partial(path)
    digest = hashlib.sha256()
    with partial.open("wb") as file:
        for line in lines:
            content = line.encode()
            digest.update(content)
            file.write(content)
    if path.is_file() and sha256(path) == digest.hexdigest():
        partial.unlink()
    else:
        os.replace(partial, path)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """sha256 of a file's content, in hexadecimal. Raises OSError."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def sha256_of_lines(lines: Iterable[str]) -> str:
    """sha256 of the file that `write_lines` would make of these lines."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode())
    return digest.hexdigest()


def cached_sha256(path: Path) -> str:
    """`sha256`, for which a process reads a file again only when its time or size has changed."""
    stat = path.stat()
    # A file that was just written may change again within the resolution of its time.
    settled = time.time() - stat.st_mtime > 2
    return _sha256_of(path.absolute(), stat.st_mtime_ns if settled else time.monotonic_ns(), stat.st_size)


@cache
def _sha256_of(path: Path, time_ns: int, size: int) -> str:
    return sha256(path)


def holds(path: Path, text: str) -> bool:
    """Whether a file exists and holds exactly this text."""
    return _holds(path, text.encode())


def _partial(path: Path) -> Path:
    """The path at which this process writes a file until it is complete. Makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


def json_text(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    write_text(path, json_text(content))


def read_json(path: Path) -> Any:
    """Content of a JSON file that rbft wrote. Raises RbftError if it is no longer valid JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RbftError(f"{path}: damaged ({error}); remove it and run the command again that makes it") from None
