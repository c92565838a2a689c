"""progress: what a log, which is no terminal, shows of a long command."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rbft_plugin.cli import progress


def test_progress_where_there_is_no_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("rbft_plugin.cli.progress.time.monotonic", lambda: clock[0])

    def clips() -> Iterator[int]:
        for number in range(1, 2001):
            clock[0] += 0.125
            yield number

    assert list(progress.progress(clips(), 4000, "clips of demo")) == list(range(1, 2001))
    assert capsys.readouterr().out.splitlines() == [
        "clips of demo: 480 of 4,000, 8.0/s, about 7 min 20 s left",
        "clips of demo: 960 of 4,000, 8.0/s, about 6 min 20 s left",
        "clips of demo: 1,440 of 4,000, 8.0/s, about 5 min 20 s left",
        "clips of demo: 1,920 of 4,000, 8.0/s, about 4 min 20 s left",
    ]
