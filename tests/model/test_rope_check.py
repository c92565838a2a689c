"""The probe of the installed transformers, and what it says of one that misplaces text."""

from __future__ import annotations

from typing import Any

import pytest

from rbft_plugin.errors import RbftError
from rbft_plugin.model import rope_check

pytestmark = pytest.mark.torch

FAMILIES = sorted(rope_check.FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_installed_transformers_places_text_right_after_the_video(family: str) -> None:
    start, largest = rope_check.text_start(family)
    assert start == largest + 1
    rope_check.require_right_positions(family)


def test_the_video_of_the_probe_reaches_farther_than_its_sides() -> None:
    """Else a version that starts the text at start + max(height, width) would pass."""
    # Two tokens, then four steps: of 1 in Qwen2-VL, of 2 s x 4 positions in Qwen2.5-VL; sides of 2 merged patches.
    assert rope_check.text_start("qwen2_vl") == (6, 5)
    assert rope_check.text_start("qwen2_5_vl") == (27, 26)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_version_that_misplaces_text_is_refused(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    import transformers

    module, name = rope_check.FAMILIES[family]
    cls = getattr(importlib.import_module(module), name)
    right = cls.get_rope_index
    _, largest = rope_check.text_start(family)

    def get_rope_index(self: Any, input_ids: Any, *args: Any, **kwargs: Any) -> Any:
        shifted, deltas = right(self, input_ids, *args, **kwargs)
        shifted[:, :, -2:] += 4 - shifted[:, :, -2:].min()  # two tokens, and max(height, width) = 2
        return shifted, deltas

    get_rope_index.__signature__ = __import__("inspect").signature(right)  # type: ignore[attr-defined]
    monkeypatch.setattr(cls, "get_rope_index", get_rope_index)
    with pytest.raises(RbftError) as error:
        rope_check.require_right_positions(family)
    assert str(error.value) == (
        f"transformers {transformers.__version__} misplaces the text after a video for {family} models: at position 4, "
        f"where the video reaches {largest}. Install the version that rbft pins, 5.2.0."
    )


def test_other_families_are_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rope_check, "text_start", lambda family: pytest.fail("probed"))
    rope_check.require_right_positions("qwen3_vl")


def test_the_version_that_the_message_names_is_the_one_that_is_pinned() -> None:
    from importlib.metadata import requires

    assert "transformers==5.2.0" in (requires("rbft") or [])


def test_the_pinned_version_is_believed_and_any_other_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    probed: list[str] = []
    monkeypatch.setattr(rope_check, "text_start", lambda family: probed.append(family) or (4, 5))
    monkeypatch.setattr("importlib.metadata.version", lambda package: rope_check.TESTED)
    assert (rope_check.installed_misplaces(), probed) == ([], [])
    monkeypatch.setattr("importlib.metadata.version", lambda package: "5.5.4")
    assert rope_check.installed_misplaces() == list(rope_check.FAMILIES)
    assert set(probed) == set(rope_check.FAMILIES)
