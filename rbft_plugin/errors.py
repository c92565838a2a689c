"""Errors that a user can correct, findings of checks, and how lists and texts are shown in messages.

The command line prints these errors without a traceback and exits with status 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["error", "warning", "note"]


class RbftError(Exception):
    """Something that the user can correct. The message says where it is, what is wrong and what to do.

    Half a surrogate pair (from a user's JSON) is escaped in it, so that any terminal or file can take the message.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.encode("utf-8", "backslashreplace").decode())


class ProblemsError(RbftError):
    """All that is wrong with one thing, such as a file or a step."""

    def __init__(self, what: str | Path, problems: Sequence[str], hint: str = "") -> None:
        self.what, self.problems = str(what), list(problems)
        head = f"{what}: {len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
        super().__init__("\n".join([head, *(f"  - {p}" for p in self.problems), *([hint] if hint else [])]))


@dataclass(frozen=True)
class Finding:
    """One finding of a check: an error stops or spoils a run, a warning may, a note says what was not checked.

    `kind` is a short word that stays the same from version to version; `where` is a row, an id or a key of the YAML.
    """

    level: Level
    kind: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def grouped(findings: Iterable[Finding]) -> dict[tuple[Level, str], list[Finding]]:
    """Findings by level and kind, each in the order in which it comes first."""
    groups: dict[tuple[Level, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.level, finding.kind].append(finding)
    return groups


def lines(findings: Iterable[Finding], most: int = 5) -> list[str]:
    """Findings for a message: the first few of each kind, and how many more there are."""
    listed = []
    for (_, kind), some in grouped(findings).items():
        rest = len(some) - most
        listed += [str(f) for f in some[:most]] + ([f"and {rest} more of kind {kind}"] if rest > 0 else [])
    return listed


def shortened(items: Sequence[object], most: int = 5) -> str:
    """A list for a message: the first few items, and how many more there are."""
    rest = len(items) - most
    return ", ".join(str(i) for i in items[:most]) + (f" and {rest} more" if rest > 0 else "")


def first_line(error: Exception, most: int = 300) -> str:
    """The first line of an error's message that is not empty, cut to `most` characters, or else the error's type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:most]


def one_line(text: str) -> str:
    """A text without line breaks, runs of white space and characters that a terminal would act on."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def escaped(text: str) -> str:
    """A text as one line in which every character that a terminal would act on is escaped, as in "\\n"."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
