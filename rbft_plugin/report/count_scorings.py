"""How often the test split was scored: the report's notes, and the lines of scorings that were not known yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rbft_plugin.data.prepared import DataFolder
from rbft_plugin.errors import shortened
from rbft_plugin.lmms_eval import scorings
from rbft_plugin.report import prose
from rbft_plugin.run import layout
from rbft_plugin.spec.names import parse_task


def notes(dataset: str, logs: Sequence[Path]) -> list[str]:
    """What a report on the test split says of its scorings. `logs` are those of the report.

    Scorings without a line get one, such as those of a machine without this plugin. A file that cannot be read or
    written is said in a note.
    """
    file = DataFolder(dataset).test_scorings
    try:
        version = scorings.version_of_split(dataset)
        shown = {one.scoring: one for one in (scorings.of_log(log, version) for log in logs)}
        scorings.add(dataset, list(shown.values()))
        known, damaged = scorings.read(dataset)
    except OSError as error:
        return [f"It is not known how often the test split was scored: {file}: {error.strerror or error}."]
    counted = [one for one in known if one.test == version]
    runs = [layout.run_named(Path(one.log)) if one.log else None for one in counted]
    of_folds = any(parse_task(one.task).fold is not None for one in counted if one.task.startswith("rbft_"))
    lines = [
        prose.scorings(dataset, runs, sum(one.scoring in shown for one in counted))
        + (" Each fold counts by itself." if of_folds else "")
    ]
    if others := len(known) - len(counted):
        lines.append(f"Scorings of other versions of this test split (other samples or labels), not counted: {others}.")
    if damaged:
        lines.append(f"Damaged lines of {file}, not counted: {shortened(damaged)}.")
    return lines
