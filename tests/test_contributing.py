"""The map in CONTRIBUTING.md against the package."""

from __future__ import annotations

import re
from pathlib import Path

from test_layers import FLOOR, ORDER

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return TEXT.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_map_lists_every_package_in_the_order_of_imports() -> None:
    listed = re.findall(r"^    (\w+)(?:/|\.py) ", section("The map"), re.MULTILINE)
    assert set(listed) == set(FLOOR)
    rows = [FLOOR[name] for name in listed]
    assert rows == sorted(rows) and len(listed) == sum(map(len, ORDER))


def test_every_path_that_it_names_is_there() -> None:
    named = re.findall(r"`([\w.]+/[\w./]*)`", section("Where to change X") + section("Two walks"))
    assert len(named) > 30
    assert [path for path in named if not ((ROOT / path).exists() or (ROOT / "rbft_plugin" / path).exists())] == []


def test_where_to_change_something_is_a_dozen_rows_at_most() -> None:
    assert section("Where to change X").count("\n|") - 2 <= 12
