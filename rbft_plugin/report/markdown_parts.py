"""The smallest parts of report.md: tables, lists and commands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rbft_plugin.report.prose import inline


def shell(commands: Sequence[str]) -> str:
    ticks = max(map(len, re.findall("`+", "\n".join(commands))), default=0)
    fence = "`" * max(3, ticks + 1)
    return "\n".join([f"{fence}sh", *commands, fence])


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(inline(cell) for cell in line)} |" for line in lines)


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {inline(line)}" for line in lines)
