"""The commands of whole plans, compared with files; see plans.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from plans import FOLDER, PLANS, printed


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_the_one_on_file(ws: Path, name: str) -> None:
    assert printed(name) == (FOLDER / f"{name}.txt").read_text()


def test_every_file_is_of_a_plan() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(PLANS)
