"""What a user can get wrong. The command line prints these without a traceback and exits 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class RbftError(Exception):
    """Something that the user can mend; the message says where it is, what is wrong and what to do."""


class ProblemsError(RbftError):
    """All that is wrong with one thing (a file, a step), at once."""

    def __init__(self, what: str | Path, problems: Sequence[str], hint: str = "") -> None:
        self.problems = list(problems)
        lines = [f"{what}: {len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"]
        lines += [f"  - {p}" for p in self.problems]
        super().__init__("\n".join(lines + ([hint] if hint else [])))


def shortened(items: Sequence[object], most: int = 5) -> str:
    """A list for a message: the first few, and how many more there are."""
    rest = len(items) - most
    return ", ".join(str(i) for i in items[:most]) + (f" and {rest} more" if rest > 0 else "")
