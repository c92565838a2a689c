"""What a user can get wrong. The command line prints these without a traceback and exits 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["error", "warning", "note"]


class RbftError(Exception):
    """Something that the user can mend; the message says where it is, what is wrong and what to do.

    Broken Unicode in it (half a surrogate pair, from a user's JSON) is escaped, so that any terminal or file takes it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.encode("utf-8", "backslashreplace").decode())


class ProblemsError(RbftError):
    """All that is wrong with one thing (a file, a step), at once."""

    def __init__(self, what: str | Path, problems: Sequence[str], hint: str = "") -> None:
        self.what, self.problems = str(what), list(problems)
        lines = [f"{what}: {len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"]
        lines += [f"  - {p}" for p in self.problems]
        super().__init__("\n".join(lines + ([hint] if hint else [])))


@dataclass(frozen=True)
class Finding:
    """One thing that a check found. An error stops or spoils a run, a warning may; a note says what was not checked.

    `kind` is a short word that stays the same from version to version; `where` a row, an id, a key of the YAML.
    """

    level: Level
    kind: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def shortened(items: Sequence[object], most: int = 5) -> str:
    """A list for a message: the first few, and how many more there are."""
    rest = len(items) - most
    return ", ".join(str(i) for i in items[:most]) + (f" and {rest} more" if rest > 0 else "")


def lines(findings: Sequence[Finding], most: int = 5) -> list[str]:
    """Findings for a message: of each kind the first few, and how many more there are."""
    of_kind: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        of_kind.setdefault((finding.level, finding.kind), []).append(finding)
    said = []
    for (_, kind), some in of_kind.items():
        rest = len(some) - most
        said += [str(f) for f in some[:most]] + ([f"and {rest} more of kind {kind}"] if rest > 0 else [])
    return said
