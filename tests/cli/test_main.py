"""The command line: what it prints, where, and with which status."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from builders import prepared_sample, small_dataset, small_yaml, write_csv, write_prepared, write_yaml

from rbft_plugin.cli import main as cli
from rbft_plugin.cli import terminal
from rbft_plugin.run import plan
from rbft_plugin.spec import recipe
from rbft_plugin.spec.dataset import load

Outcome = tuple[int, str, str]
RBFT = Path(sys.executable).parent / "rbft"


@pytest.fixture
def rbft(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Outcome]]:
    """Call it with arguments: (exit status, standard output, standard error) of `rbft`, run in this process."""
    for console in (terminal.console, terminal.stderr):  # they took the width when they were imported
        monkeypatch.setattr(console, "width", 100)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def run(*args: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["rbft", *map(str, args)])
        capsys.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as exit:
            status = int(exit.code or 0)
        return (status, *capsys.readouterr())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def refused(outcome: Outcome) -> str:
    """The message of a user's error, without its 'rbft: '."""
    status, out, err = outcome
    assert (status, out) == (1, "")
    assert err.startswith("rbft: ") and err.endswith("\n") and "Traceback" not in err
    return err[len("rbft: ") : -1]


def cells(out: str) -> list[list[str]]:
    """The rows of the tables in what was printed."""
    rows = [re.split("[│┃]", line)[1:-1] for line in out.splitlines()]
    return [[cell.strip() for cell in row] for row in rows if row]


HEAVY = (
    "torch",
    "transformers",
    "numpy",
    "llamafactory",
    "lmms_eval",
    "av",
    "decord",
    "matplotlib",
    "yaml",
    "pydantic",
)


def test_help_answers_without_loading_anything_heavy() -> None:
    code = (
        "import json, sys; sys.argv = ['rbft', '--help']\n"
        "from rbft_plugin.cli import main as cli\n"
        "try:\n    cli.main()\n"
        f"except SystemExit: print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *text, loaded = done.stdout.splitlines()
    assert json.loads(loaded) == []
    commands = ("init", "check", "prepare", "sync", "collect", "report", "predict", "run", "demo")
    assert [c for c in commands if re.search(rf"^│ {c} ", "\n".join(text), re.M)] == list(commands)


def test_the_installed_command_exits_1_with_the_message_on_standard_error(tmp_path: Path) -> None:
    done = subprocess.run([RBFT, "check", "mine"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"rbft: {tmp_path} is not an rbft workspace (it has no dataset_info/ folder). "
        "Change to one, or make one with `rbft init DIR`.\n"
    )


@pytest.mark.parametrize(
    "args",
    [
        *(["check", "mine"], ["prepare", "mine"], ["sync", "mine"], ["sync"], ["collect", "out"], ["report", "demo"]),
        *(["predict", "model", "a.mp4"], ["run", "recipes/demo.yaml"], ["demo"], ["demo", "--data-only"]),
    ],
    ids=" ".join,
)
def test_every_command_outside_a_workspace_says_so_and_writes_nothing(
    rbft: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(rbft(*args)).startswith(f"{tmp_path} is not an rbft workspace (it has no dataset_info/ folder). ")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_use_exits_2(rbft: Callable[..., Outcome], ws: Path) -> None:
    assert rbft("check")[0] == rbft("nope")[0] == rbft("run", "recipes/demo.yaml", "--dryrun")[0] == 2


@pytest.mark.parametrize("command", ["check", "prepare", "sync"])
def test_an_unknown_dataset_is_named_with_those_that_exist(
    rbft: Callable[..., Outcome], ws: Path, command: str
) -> None:
    assert refused(rbft(command, "nope")) == (
        "dataset_info/nope.yaml: no such dataset. There are: demo, multihateclip_en, multihateclip_zh, smarthome, "
        "smarthome_binary"
    )


@pytest.mark.parametrize("command", ["check", "prepare", "sync"])
def test_all_problems_of_a_yaml_are_said_at_once(rbft: Callable[..., Outcome], ws: Path, command: str) -> None:
    write_yaml(small_yaml(splits={"colunm": "split"}, videos=None))
    message = refused(rbft(command, "mine")).splitlines()
    assert message[0].startswith("dataset_info/mine.yaml: ") and len(message) > 2
    assert "  - videos: missing" in message and "  - splits.colunm: unknown key" in message


def test_a_file_that_is_no_yaml_is_named(rbft: Callable[..., Outcome], ws: Path) -> None:
    Path("dataset_info/mine.yaml").write_text("name: [mine\n")
    assert refused(rbft("check", "mine")).startswith("dataset_info/mine.yaml: 1 problem\n  - not valid YAML: ")
    Path("recipes/mine.yaml").write_text("run: [mine\n")
    assert refused(rbft("run", "recipes/mine.yaml")).startswith("recipes/mine.yaml: 1 problem\n  - not valid YAML: ")


def test_a_missing_recipe_is_named(rbft: Callable[..., Outcome], ws: Path) -> None:
    assert refused(rbft("run", "recipes/nope.yaml")).startswith("recipes/nope.yaml: no such recipe")
    assert refused(rbft("run", "recipes")).startswith("recipes: no such recipe")
    Path("recipes/stage1.yaml").unlink()
    assert refused(rbft("run", "recipes/demo.yaml", "--dry-run")) == (
        "training.stages.rationale.recipe: recipes/stage1.yaml: no such file"
    )


def test_missing_annotations_are_named(rbft: Callable[..., Outcome], ws: Path) -> None:
    write_yaml(small_yaml())
    for command in ("check", "prepare"):
        assert refused(rbft(command, "mine")).startswith("mine.csv: no such file")


def test_what_collect_report_and_predict_cannot_find_is_named(rbft: Callable[..., Outcome], ws: Path) -> None:
    assert refused(rbft("collect", "nowhere")).startswith("nowhere: ")
    assert "nowhere" in refused(rbft("report", "nowhere"))
    assert "nowhere" in refused(rbft("report", "zero_shot=nowhere"))
    assert refused(rbft("predict", "nowhere", "a.mp4")) == "nowhere: no such folder"


def test_collect_shows_what_it_dropped_and_takes_switches(rbft: Callable[..., Outcome], ws: Path) -> None:
    texts = [
        "A dog walks past.",
        "I cannot watch videos.",
        "I'm sorry, [bold]\x1b[31m no\n" + "x" * 99,
        "Sorry.",
        "No.",
    ]
    ids = "abcde"
    log = [{"sample_id": i, "resps": [[text]], "input": "Why?"} for i, text in zip(ids, texts, strict=True)]
    write_prepared(train=[prepared_sample(i, None) for i in ids])
    Path("out").mkdir()
    Path("out/1_samples_rbft_mine_rationale.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    shortened = ("I'm sorry, [bold]\\x1b[31m no\\n" + "x" * 99)[:97] + "..."
    assert rbft("collect", "out") == (
        0,
        "mine: 1 of 5 rationales kept\n"
        "  3 dropped as refusal: the model declines, or says that it sees no video\n"
        "    b: I cannot watch videos.\n"
        f"    c: {shortened}\n"
        "  1 dropped as short: it has too few words\n"
        "    e: No.\n"
        "  5 have no token count, so it is not known whether they were cut off\n"
        "written: data/mine/rationale.jsonl\n",
        "",
    )
    switches = ("--keep", "refusal", "--min-words", "1", "--max-words", "4", "--rows", "rows")
    status, out, _ = rbft("collect", "out", *switches)
    dropped = "  1 dropped as long: it has too many words"
    assert (status, out.splitlines()[:2]) == (0, ["mine: 4 of 5 rationales kept", dropped])
    assert refused(rbft("collect", "out", "--keep", "empty", "--max-share", "2")) == (
        "rbft collect: 2 problems\n"
        "  - keep[0]: Input should be 'truncated', 'refusal', 'leak', 'language', 'repetitive', 'short', 'long' or "
        "'generic'\n"
        "  - max_share: Input should be less than or equal to 1"
    )


def test_init_says_what_it_wrote_and_a_second_time_writes_nothing(rbft: Callable[..., Outcome], tmp_path: Path) -> None:
    folder = tmp_path / "a [b] c"  # rich would take [b] for bold
    status, out, err = rbft("init", folder)
    files = [p for p in folder.rglob("*") if p.is_file()]
    next_step = f"Next: cd {shlex.quote(str(folder))} && rbft demo\n"
    assert (status, out, err) == (0, f"{folder}: {len(files)} files written. {next_step}", "")
    assert len(files) >= 11
    assert rbft("init", folder) == (0, f"{folder}: 0 files written. {next_step}", "")


def test_init_where_a_file_is_in_the_way_is_a_users_error(rbft: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    assert refused(rbft("init", tmp_path / "taken")).startswith(
        f"{tmp_path}/taken: no workspace can be made there: Not a directory"
    )


TABLE = [
    ["label", "train", "val", "test"],
    ["calm", "2", "1", "2"],
    ["busy", "2", "1", "2"],
    ["all", "4", "2", "4"],
]


def test_check_and_prepare_count_samples_and_say_what_comes_of_them(rbft: Callable[..., Outcome], ws: Path) -> None:
    small_dataset()
    status, out, err = rbft("check", "mine")
    assert (status, err) == (0, "")
    assert cells(out)[:4] == TABLE
    assert out.splitlines()[0].strip() == "mine: samples"
    assert out.splitlines()[-1] == "mine: 10 samples, 4 warnings"  # of few samples
    assert not Path("data").exists()
    for _ in range(2):
        status, out, err = rbft("prepare", "mine")
        assert (status, err) == (0, "")
        assert cells(out) == TABLE
        assert out.splitlines()[-2:] == [
            "mine: prepared in data/mine; tasks rbft_mine, rbft_mine_ll, rbft_mine_novideo, rbft_mine_rationale, "
            "rbft_mine_rationale_hinted; LLaMA-Factory datasets mine_label, mine_rationale, mine_label_val",
            "tasks that score the other splits have the same names, with _train or _val at the end",
        ]
        assert len(list(Path("data/mine/clips").iterdir())) == 10
        assert Path("task_configs/rbft_mine.yaml").is_file()


def test_check_prints_the_counts_and_then_every_problem(rbft: Callable[..., Outcome], ws: Path) -> None:
    labels = [{"name": "[calm]", "description": "d"}, {"name": "[/busy]", "description": "d"}]  # markup to rich
    write_yaml(small_yaml(labels=labels, about={"licence": "MIT [1]"}))
    write_csv("mine.csv", [{"id": "a", "split": "train", "label": "[calm]"}])
    Path("mine_videos").mkdir()
    Path("mine_videos/a.mp4").touch()
    status, out, err = rbft("check", "mine")
    assert status == 1
    assert cells(out)[1:3] == [["[calm]", "1", "0", "0"], ["[/busy]", "0", "0", "0"]]
    assert "licence: MIT [1]" in out.splitlines()
    table = cells(out)[5:]
    assert [row[:3] for row in table if row[0]] == [
        ["error", "no-sample", "3"],
        ["error", "empty-video", "1"],
        ["warning", "few-samples", "1"],
        ["note", "not-deep", "1"],
        ["note", "no-recipe", "1"],
    ]
    assert [row[3] for row in table[:4]] == [
        "label '[/busy]': has no sample in split 'train'",
        "label '[calm]': has no sample in split 'test'",
        "label '[/busy]': has no sample in split 'test'",
        "row 1 (id 'a'): mine_videos/a.mp4 is empty",
    ]
    assert err == "rbft: mine: 1 samples, 4 errors, 1 warning\n"


def test_many_findings_of_a_kind_are_one_row_with_a_few_of_them(rbft: Callable[..., Outcome], ws: Path) -> None:
    write_yaml(small_yaml())
    write_csv("mine.csv", [{"id": f"v{i}", "split": "train", "label": "calm"} for i in range(1203)])
    status, out, err = rbft("check", "mine")
    assert (status, err) == (1, "rbft: mine: 1203 samples, 1206 errors\n")
    (start,) = [i for i, row in enumerate(cells(out)) if row[1:3] == ["missing-video", "1203"]]
    assert [row[3] for row in cells(out)[start : start + 4]] == [
        *(f"row {n} (id 'v{n - 1}'): mine_videos/v{n - 1}.mp4 does not exist" for n in (1, 2, 3)),
        "... and 1200 more (--json has all)",
    ]
    assert len(json.loads(rbft("check", "mine", "--json")[1])["findings"]) == 1208


def test_check_as_json_holds_everything(rbft: Callable[..., Outcome], ws: Path) -> None:
    small_dataset(per_split={"train": 2, "test": 2}, about={"licence": "MIT", "missing": "夜"})
    Path("mine_videos/test0.mp4").unlink()
    status, out, err = rbft("check", "mine", "--json")
    assert (status, err) == (1, "")
    said = json.loads(out)
    assert {k: v for k, v in said.items() if k != "findings"} == {
        "dataset": "mine",
        "about": {"licence": "MIT", "missing": "夜"},
        "samples": 4,
        "counts": {split: {"calm": n, "busy": n} for split, n in (("train", 1), ("val", 0), ("test", 1))},
        "errors": 1,
        "warnings": 4,
        "notes": 2,
    }
    assert said["findings"][0] == {
        "level": "error",
        "kind": "missing-video",
        "where": "row 3 (id 'test0')",
        "text": "mine_videos/test0.mp4 does not exist",
    }
    assert len(said["findings"]) == 7
    write_yaml(small_yaml(max_missing=1))
    assert rbft("check", "mine", "--json")[0] == 1  # no test sample of that class is left
    small_dataset(per_split={"train": 2, "test": 4}, max_missing=1)
    Path("mine_videos/test0.mp4").unlink()
    status, out, err = rbft("check", "mine", "--json")
    assert (status, err, json.loads(out)["errors"]) == (0, "", 0)


def test_what_makes_a_check_impossible_is_json_too(rbft: Callable[..., Outcome], ws: Path) -> None:
    write_yaml(small_yaml(splits={"colunm": "split"}, videos=None))
    status, out, err = rbft("check", "mine", "--json")
    said = json.loads(out)
    assert (status, err, said["samples"], said["counts"], said["about"]) == (1, "", 0, {}, {})
    assert {f["kind"] for f in said["findings"]} == {"dataset"}
    assert {f["where"] for f in said["findings"]} == {"dataset_info/mine.yaml"}
    assert "splits.colunm: unknown key" in [f["text"] for f in said["findings"]]
    assert said["errors"] == len(said["findings"]) > 1
    said = json.loads(rbft("check", "nope", "--json")[1])
    assert said["findings"][0]["where"] == "dataset_info/nope.yaml"
    said = json.loads(rbft("check", "demo", "--recipe", "recipes/nope.yaml", "--json")[1])
    assert said["findings"] == [
        {"level": "error", "kind": "dataset", "where": "recipes/nope.yaml", "text": "no such recipe"}
    ]


TASK_FILES = [
    f"task_configs/rbft_mine{ending}.yaml"
    for ending in (
        *("", "_ll", "_ll_train", "_ll_val", "_novideo", "_novideo_train", "_novideo_val"),
        *("_rationale", "_rationale_hinted", "_train", "_val"),
    )
]


def test_sync_writes_registrations_and_schemas_without_any_video(rbft: Callable[..., Outcome], ws: Path) -> None:
    assert rbft("sync") == (0, "all is up to date\n", "")
    write_yaml(small_yaml())
    Path("recipes/recipe.schema.json").unlink()
    status, out, err = rbft("sync", "mine", "demo")
    assert (status, err) == (0, "")
    assert "".join(out.split()) == (
        f"written:dataset_info/dataset_info.json,recipes/recipe.schema.json,{','.join(TASK_FILES)}"
    )
    assert {"mine_label", "mine_rationale"} <= set(json.loads(Path("dataset_info/dataset_info.json").read_text()))
    assert Path("task_configs/rbft_mine_rationale.yaml").is_file() and Path("recipes/recipe.schema.json").is_file()
    assert rbft("sync", "--check") == (0, "all is up to date\n", "")


def test_sync_removes_tasks_of_a_split_that_is_gone(rbft: Callable[..., Outcome], ws: Path) -> None:
    write_yaml(small_yaml())
    rbft("sync")
    write_yaml(small_yaml(splits={"ratio": {"train": 0.5, "test": 0.5}}))
    gone = [path for path in TASK_FILES if path.endswith("_val.yaml")]
    listed = "".join(f"  - {path}\n" for path in gone)
    assert f"stale files: 4 problems\n  - dataset_info/dataset_info.json\n{listed}" in refused(rbft("sync", "--check"))
    _, out, _ = rbft("sync")
    assert "".join(out.split()) == f"written:dataset_info/dataset_info.json;removed:{','.join(gone)}"
    assert rbft("sync", "--check") == (0, "all is up to date\n", "")


def test_sync_check_names_what_is_stale_and_writes_nothing(rbft: Callable[..., Outcome], ws: Path) -> None:
    write_yaml(small_yaml())
    Path("task_configs/rbft_demo.yaml").write_text("task: rbft_demo\n")
    Path("dataset_info/dataset.schema.json").write_text("{}\n")
    before = {path: path.read_bytes() for path in ws.rglob("*.*")}
    assert refused(rbft("sync", "--check")) == (
        "stale files: 14 problems\n"
        "  - dataset_info/dataset.schema.json\n"
        "  - dataset_info/dataset_info.json\n"
        "  - task_configs/rbft_demo.yaml\n" + "".join(f"  - {path}\n" for path in TASK_FILES) + "Run `rbft sync`."
    )
    assert {path: path.read_bytes() for path in ws.rglob("*.*")} == before
    assert "task_configs/rbft_mine.yaml" not in refused(rbft("sync", "demo", "--check"))


def test_a_dry_run_prints_the_commands_ready_to_paste_and_does_nothing(rbft: Callable[..., Outcome], ws: Path) -> None:
    path = Path("recipes/demo.yaml")
    content = yaml.safe_load(path.read_text())
    content["evaluation"]["args"] = {"gen_kwargs": "a b='[bold]' $HOME"}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    before = sorted(ws.rglob("*"))
    status, out, err = rbft("run", "recipes/demo.yaml", "--dry-run")
    assert (status, err) == (0, "")
    made = plan.make(recipe.load(path), load("demo"))
    lines = out.splitlines()
    assert lines[0::2] == [f"# {step.name}" for step in made.steps]
    assert [shlex.split(line) for line in lines[1::2]] == [step.argv for step in made.steps]
    assert sorted(ws.rglob("*")) == before


def test_a_printed_command_reaches_a_program_through_a_shell_as_it_was_meant(
    rbft: Callable[..., Outcome], ws: Path
) -> None:
    (line,) = [x for x in rbft("run", "recipes/demo.yaml", "--dry-run")[1].splitlines() if "seed-0/rationale seed" in x]
    shown = f"{shlex.quote(sys.executable)} -c 'import json, sys; print(json.dumps(sys.argv[1:]))'"
    done = subprocess.run(["bash", "-c", f"{shown} {line}"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == shlex.split(line)
    assert 'save_strategy="no"' in json.loads(done.stdout)  # so that YAML does not read a bare no as false


def test_a_failing_step_ends_the_run_with_its_reason_and_its_log(ws: Path) -> None:
    env = os.environ | {"COLUMNS": "100"}
    done = subprocess.run([RBFT, "run", "recipes/demo.yaml"], capture_output=True, text=True, env=env)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "rbft: prepare demo: failed: 1 problem\n"
        "  - it exited with status 1\n"
        "Its log is runs/demo/logs/prepare-demo.log, which ends:\n"
        "    rbft: data/demo/source/annotations.csv: no such file"
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "runs/demo: 12 of 12 steps to do"
    assert lines[1] == "  - prepare demo"
    assert lines[-2:] == [
        "[1/12] prepare demo: log in runs/demo/logs/prepare-demo.log",
        "[1/12] prepare demo: failed",
    ]


def test_demo_data_alone_is_written_and_kept(
    rbft: Callable[..., Outcome], ws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rbft_plugin.demo import data

    monkeypatch.setattr(data, "SIZES", {"train": 1, "test": 1})
    said = (0, "demo: 10 videos and annotations.csv in data/demo/source\n", "")
    assert rbft("demo", "--data-only") == said
    written = {p: p.stat().st_mtime_ns for p in Path("data").rglob("*")}
    assert rbft("demo", "--data-only") == said
    assert {p: p.stat().st_mtime_ns for p in Path("data").rglob("*")} == written
    assert not Path("runs").exists()


@pytest.mark.parametrize("refusal", [errno.EACCES, errno.ENOSPC, errno.EROFS])
def test_what_the_system_refuses_is_said_in_a_line(
    rbft: Callable[..., Outcome], ws: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    def refused(name: str) -> None:
        raise OSError(refusal, os.strerror(refusal), "data/demo")

    monkeypatch.setattr("rbft_plugin.spec.dataset.load", refused)
    assert rbft("check", "demo") == (1, "", f"rbft: data/demo: {os.strerror(refusal)}\n")


def test_an_interrupt_is_said_in_a_line(
    rbft: Callable[..., Outcome], ws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rbft_plugin.spec.dataset.load", interrupted)
    assert rbft("check", "demo") == (130, "", "rbft: stopped; the same command goes on from here\n")
