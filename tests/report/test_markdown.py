"""report_text: report.md holds against any text, and the terminal's table."""

from __future__ import annotations

import io
import re
from pathlib import Path

from builders import scored
from rich.console import Console

from rbft_plugin.report import markdown as report_text
from rbft_plugin.report.build import summarize, write
from rbft_plugin.report.markdown import table
from rbft_plugin.report.view_model import Origin

ZERO_SHOT = ("a", "b", None, "b", "b", "a")
RBFT = ("a", "a", None, "b", "b", "b")
FIRST = scored("zero_shot", ZERO_SHOT)


def test_markdown(tmp_path: Path) -> None:
    rude = "It is <b>a</b> |\r\n\u2028# so `there` \\ \x1b[31m" + "x" * 200
    second = scored("rb|ft", RBFT, answers=("a", rude, "hm", "b", "b", "b"))
    evaluations = [FIRST, second]
    extra = {
        "models": {"rb|ft": "runs/demo/rbft/label"},
        "versions": {"lmms-eval": "0.7.3"},
        "provenance": {
            "facts": {"report made": "2026-01-01 00:00 UTC"},
            "steps": [
                {
                    "name": "a | b",
                    "command": "rbft prepare demo",
                    "began": None,
                    "seconds": 61.0,
                    "tokens_in": 12345,
                    "tokens_out": None,
                },
                {
                    "name": "c",
                    "command": "lmms-eval --tasks 'a|b' ```",
                    "began": None,
                    "seconds": None,
                    "tokens_in": 0,
                    "tokens_out": 1,
                },
            ],
            "recipes": {},
            "missing": ["what <b> was"],
        },
    }
    result = summarize(evaluations, Origin.model_validate(extra))
    paths = write(result, evaluations, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == [
        *("report.json", "report.md", "index.html", "accuracy.png", "accuracy.svg"),
        *("classes.png", "classes.svg", "confusion.png", "confusion.svg"),
    ]
    lines = paths[1].read_text(encoding="utf-8").split("\n")
    assert lines[0] == "# Report: demo"
    assert "| zero_shot | 50.0 (18.8 to 81.2) | 53.3 (0.0 to 100.0) | 16.7 % |" in lines
    assert r"| rb\|ft | 83.3 (43.6 to 97.0) | 90.0 (50.0 to 100.0) | 16.7 % |" in lines
    assert "6 test clips; always naming their most frequent class would give 50.0 % accuracy." in lines
    assert "- " + result.comparisons[0].sentence.replace("|", r"\|") in lines
    assert r"| rb\|ft | zero_shot | +36.7 (+0.0 to +83.3) | 0 | 2 | 0 | 0.500 |" in lines
    assert "| 1 | a | 3 | 0.400 | 0.800 |" in lines
    assert "2 of 6 clips (first seed of each arm); the first 2:" in lines
    quoted = (
        r"It is \<b>a\</b> \| # so \`there\` \\ \[31m" + "x" * (99 - len("It is <b>a</b> | # so `there` + [31m")) + "…"
    )
    assert rf"| clip1 | a | wrong: The answer is b. | right: {quoted} |" in lines
    assert r"- rb\|ft: runs/demo/rbft/label" in lines
    assert "- lmms-eval 0.7.3" in lines
    power = lines.index("```sh")
    assert lines[power + 1 : power + 3] == [result.comparisons[0].power, "```"]
    fence = lines.index("````sh")
    assert lines[fence + 1 : fence + 4] == ["rbft prepare demo", "lmms-eval --tasks 'a|b' ```", "````"]
    assert r"| a \| b | 1 min 01 s | 12,345 | - |" in lines
    assert "| c | - | 0 | 1 |" in lines
    assert r"- what \<b> was" in lines
    assert "- report made: 2026-01-01 00:00 UTC" in lines
    assert f"- {result.notes[-1]}" in lines
    for paragraph in "\n".join(lines).split("\n\n"):
        if paragraph.startswith("|"):  # a bar that is not escaped would be one more cell
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in paragraph.split("\n")}) == 1


def test_markdown_quotes_the_first_seed_of_each_arm() -> None:
    evaluations = [scored("rbft", ("b",) * 6, seed=2), scored("rbft", RBFT, seed=1), FIRST]
    text = report_text.markdown(summarize(evaluations), evaluations)
    assert "| clip1 | a | right: The answer is a. | wrong: The answer is b. |" in text.split("\n")


def test_markdown_of_many_seeds_has_the_commands_of_the_first_and_says_so() -> None:
    steps = [("prepare demo", "a", None), ("prepare demo", "b of another run", None)]
    steps += [(f"train rbft seed {seed} label", f"{seed}" * 9000, seed) for seed in (3, 1, 2)]
    more = {"began": None, "seconds": None, "tokens_in": None, "tokens_out": None}
    known = {"steps": [{"name": name, "command": command, "seed": seed} | more for name, command, seed in steps]}
    given = {"provenance": {"facts": {}, "recipes": {}, "missing": []} | known}
    lines = report_text.markdown(summarize([FIRST], Origin.model_validate(given)), [FIRST]).split("\n")
    assert {"a", "b of another run", "1" * 9000, "2" * 9000, "3" * 9000} <= set(lines)
    known["steps"].append({"name": "report", "command": "r" * 4000, "seed": None} | more)
    lines = report_text.markdown(
        summarize([FIRST], Origin.model_validate({"provenance": given["provenance"] | known})), [FIRST]
    ).split("\n")
    assert {"a", "b of another run", "1" * 9000, "r" * 4000} <= set(lines) and not {"2" * 9000, "3" * 9000} & set(lines)
    assert "Commands of the other seeds: 2, in report.json and index.html." in lines


def test_markdown_of_one_arm_has_no_comparison() -> None:
    text = report_text.markdown(summarize([FIRST]), [FIRST])
    headings = [line for line in text.split("\n") if line.startswith("#")]
    assert headings == ["# Report: demo", "## All metrics", "## F1 by class", "## Notes"]


def test_a_class_without_test_clips_has_no_f1_in_markdown() -> None:
    evaluations = [scored("rbft", RBFT, labels=("a", "b", "c"))]
    assert "| 3 | c | 0 | - |" in report_text.markdown(summarize(evaluations), evaluations).split("\n")


def test_accuracy_without_the_video_is_a_line_below_the_table() -> None:
    evaluations = [FIRST, scored("r|ft", RBFT, without_video=("a", "b", "a", "b", None, "a"))]
    report = summarize(evaluations)
    line = "Accuracy without the video, % (95 % interval): r|ft 50.0 (18.8 to 81.2)."
    assert line.replace("|", r"\|") in report_text.markdown(report, evaluations).split("\n")
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(report))
    assert console.export_text().rstrip().endswith(line)
    assert "without the video" not in report_text.markdown(summarize([FIRST]), [FIRST])


def test_table_shows_intervals_and_the_majority_line() -> None:
    evaluations = [FIRST, scored("[b]rbft", RBFT, seed=1), scored("[b]rbft", RBFT, seed=2)]
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(summarize(evaluations)))
    text = console.export_text()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.split("\n") if line.startswith("│")]
    assert rows[0] == ["zero_shot", "50.0 (18.8 to 81.2)", "53.3 (0.0 to 100.0)", "16.7 %"]
    assert rows[1] == ["[b]rbft (mean of 2 seeds)", "83.3 (43.6 to 100.0)", "90.0 (59.6 to 100.0)", "16.7 %"]
    assert text.rstrip().endswith("6 test clips; always naming their most frequent class would give 50.0 % accuracy.")
