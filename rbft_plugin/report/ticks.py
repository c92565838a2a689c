"""Names on the axes of pictures: fonts that have their characters, and names that are short enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from unicodedata import east_asian_width

FONT = "DejaVu Sans"  # comes with matplotlib
NAME_WIDTH = 22  # of a tick label, in columns of a terminal (a Chinese character has two)


def fonts(text: str) -> tuple[list[str], frozenset[str]]:
    """Font families that together draw the text, matplotlib's own first, and the characters that none of them has."""
    from matplotlib.font_manager import findfont, fontManager
    from matplotlib.ft2font import FT2Font

    def has(path: str, characters: set[str]) -> set[str]:
        try:
            font = FT2Font(path)
        except (OSError, RuntimeError):  # a broken font file, or one of a kind that matplotlib cannot read
            return set()
        return {c for c in characters if font.get_char_index(ord(c))}

    families, missing = [FONT], set(text)
    missing -= has(findfont(FONT), missing)
    regular = {f.name: f.fname for f in fontManager.ttflist if f.style == "normal" and f.weight in (400, "normal")}
    regular = {name: path for name, path in sorted(regular.items()) if "Last Resort" not in name}  # draws only boxes
    found = {name: has(path, missing) for name, path in regular.items()} if missing else {}
    while missing and (best := max(found, key=lambda name: len(found[name] & missing), default="")):
        if not found[best] & missing:
            break
        families.append(best)
        missing -= found[best]
    return families, frozenset(missing)


def ticks(names: Sequence[str], missing: frozenset[str], most: int = NAME_WIDTH) -> list[str]:
    """The names as short as they must be; "#<row>" for those that cannot be drawn or told apart."""
    short = [cut(" ".join(name.split()), most) for name in names]
    counts = Counter(short)
    return [
        f"#{number}" if missing & set(name) else f"#{number} {name}" if counts[name] > 1 else name
        for number, name in enumerate(short, start=1)
    ]


def cut(name: str, most: int = NAME_WIDTH) -> str:
    """At most so many columns of a terminal, the middle left out: names of classes often share their beginnings."""
    if width(name) <= most:
        return name
    head, tail = name[: len(name) // 2], name[len(name) // 2 :]
    while width(head) + 1 + width(tail) > most:
        head, tail = (head[:-1], tail) if width(head) > width(tail) else (head, tail[1:])
    return f"{head}…{tail}"


def width(name: str) -> int:
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in name)
