"""The runner on small plans of real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.run import runner
from rbft_plugin.run.environment import PACKAGES, versions
from rbft_plugin.run.layout import slug
from rbft_plugin.run.steps import Plan, Step
from rbft_plugin.spec.recipe import Recipe

RECIPE = Recipe.model_validate(
    {
        "run": "r",
        "dataset": "mine",
        "base_model": "base",
        "arms": {"zero_shot": []},
        "training": {"stages": {"label": {"rows": "label", "recipe": "stage2.yaml"}}},
    }
)
RUN = Path("runs/r")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(*steps: Step) -> Plan:
    return Plan(RECIPE, None, list(steps))  # type: ignore[arg-type]  # the runner does not look at the dataset


def python(code: str, *args: object) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]


def step(name: str, code: str, *args: object, **fields: Any) -> Step:
    kind = {"prepare": "prepare", "report": "report"}.get(name, "train")
    return Step(name, fields.pop("kind", kind), python(code, *args), **fields)


APPEND = """
    import sys
    from pathlib import Path
    with open("order.txt", "a") as f:
        f.write(sys.argv[1] + "\\n")
    for name in sys.argv[2:]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(sys.argv[1])
"""


def order() -> list[str]:
    return Path("order.txt").read_text().split() if Path("order.txt").is_file() else []


def execute(*steps: Step) -> list[tuple[str, str]]:
    """Run the steps; returns what was told of each, but for the lines of its output."""
    told: list[tuple[str, str]] = []
    runner.execute(plan(*steps), lambda kind, s, text: told.append((kind, s.name)) if kind != "line" else None)
    return told


def failure(*steps: Step) -> str:
    with pytest.raises(RbftError) as error:
        execute(*steps)
    return str(error.value)


def chain() -> list[Step]:
    """Step b reads what step a makes of input.txt; step c reads another file."""
    copy = """
        import shutil, sys
        from pathlib import Path
        with open("order.txt", "a") as f:
            f.write(sys.argv[1] + "\\n")
        Path(sys.argv[3]).mkdir(parents=True)
        shutil.copy(sys.argv[2], sys.argv[3] + "/result.txt")
    """
    a, b, c = RUN / "a", RUN / "b", RUN / "c"
    return [
        step("a", copy, "a", "input.txt", a, output=a, files=(Path("input.txt"),)),
        step("b", copy, "b", a / "result.txt", b, output=b, files=(a / "result.txt",)),
        step("c", copy, "c", "other.txt", c, output=c, files=(Path("other.txt"),)),
    ]


def write_inputs() -> None:
    Path("input.txt").write_text("one")
    Path("other.txt").write_text("other")


def test_steps_run_in_their_order_and_a_second_time_nothing_starts() -> None:
    write_inputs()
    assert execute(*chain()) == [
        *(("started", "a"), ("done", "a")),
        *(("started", "b"), ("done", "b")),
        *(("started", "c"), ("done", "c")),
    ]
    assert execute(*chain()) == [("skipped", "a"), ("skipped", "b"), ("skipped", "c")]
    assert order() == ["a", "b", "c"]
    assert not (RUN / "superseded").exists()


def test_a_record_names_inputs_versions_and_seconds() -> None:
    write_inputs()
    before = time.time()
    execute(*chain()[:1])
    record = json.loads((RUN / "steps/a.json").read_text())
    digest = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"  # of "one"
    assert record["name"] == "a"
    assert record["inputs"] == {"argv": chain()[0].argv, "files": {"input.txt": digest}, "models": {}}
    assert before <= record["began"] <= time.time()
    assert 0 <= record["seconds"] < 30
    assert record["versions"] == versions()
    assert record["versions"]["python"] == sys.version.split()[0]
    assert set(record["versions"]) == {"python", *PACKAGES}
    assert [p.name for p in (RUN / "steps").iterdir()] == ["a.json"]


def test_a_changed_input_runs_its_step_and_those_that_read_its_output_again() -> None:
    write_inputs()
    execute(*chain())
    Path("input.txt").write_text("two")
    assert [t for t in execute(*chain()) if t[0] != "done"] == [("started", "a"), ("started", "b"), ("skipped", "c")]
    assert (RUN / "b/result.txt").read_text() == "two"
    assert order() == ["a", "b", "c", "a", "b"]


def test_the_output_of_changed_inputs_is_moved_aside_and_kept() -> None:
    write_inputs()
    execute(*chain())
    Path("input.txt").write_text("two")
    execute(*chain())
    aside = sorted((RUN / "superseded").iterdir())
    assert [re.sub(r"\d", "0", p.name) for p in aside] == ["a-00000000-000000", "b-00000000-000000"]
    assert [(p / "result.txt").read_text() for p in aside] == ["one", "one"]
    assert runner.superseded(plan()) == (RUN / "superseded", 6)


def test_outputs_that_change_back_are_made_again_and_all_versions_kept() -> None:
    write_inputs()
    execute(*chain()[:1])
    for text in ("two", "one"):
        Path("input.txt").write_text(text)
        execute(*chain()[:1])
    assert (RUN / "a/result.txt").read_text() == "one"
    kept = sorted(p.read_text() for p in (RUN / "superseded").rglob("result.txt"))
    assert kept == ["one", "two"]


def test_a_changed_command_runs_its_step_again() -> None:
    execute(step("a", APPEND, "first"))
    assert [t[0] for t in execute(step("a", APPEND, "second"))] == ["started", "done"]
    assert order() == ["first", "second"]


def test_a_changed_model_runs_its_step_again() -> None:
    model = Path("model")
    model.mkdir()
    (model / "w.safetensors").write_bytes(b"old")
    scored = step("a", APPEND, "a", model=Checkpoint("model"))
    execute(scored)
    assert execute(scored) == [("skipped", "a")]
    (model / "w.safetensors").write_bytes(b"new")
    assert execute(scored) == [("started", "a"), ("done", "a")]


@pytest.mark.parametrize("lost", ["output", "leaves"])
def test_a_step_whose_result_was_deleted_runs_again(lost: str) -> None:
    result = RUN / "rows/rows.jsonl"
    fields: dict[str, Any] = {"output": RUN / "rows"} if lost == "output" else {"leaves": (result,)}
    made = step("a", APPEND, "a", result, **fields)
    execute(made)
    assert execute(made) == [("skipped", "a")]
    result.unlink()
    result.parent.rmdir()
    assert execute(made) == [("started", "a"), ("done", "a")]
    assert result.is_file()


def test_an_output_that_the_run_did_not_make_stops_it_and_stays() -> None:
    output = RUN / "a"
    output.mkdir(parents=True)
    (output / "checkpoint").write_text("precious")
    assert failure(step("a", APPEND, "a", output=output)) == (
        "a: runs/r/a is not empty, and this run did not make it. LLaMA-Factory would silently resume from a "
        "checkpoint in it. Move it away, or give the recipe another `run` name."
    )
    assert [(p.name, p.read_text()) for p in output.iterdir()] == [("checkpoint", "precious")]
    assert order() == []


def test_an_empty_output_folder_is_no_obstacle() -> None:
    (RUN / "a").mkdir(parents=True)
    assert execute(step("a", APPEND, "a", RUN / "a/x", output=RUN / "a"))[-1] == ("done", "a")


TWICE = """
    import sys
    from pathlib import Path
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    count = len(list(folder.iterdir()))
    (folder / f"checkpoint-{count}").touch()
    sys.exit(0 if Path("mended").exists() else 1)
"""


@pytest.mark.parametrize(("resumable", "left"), [(True, 2), (False, 1)])
def test_an_interrupted_step_keeps_its_output_only_where_the_harness_resumes(resumable: bool, left: int) -> None:
    cut = step("a", TWICE, RUN / "a", output=RUN / "a", resumable=resumable)
    failure(cut)
    Path("mended").touch()
    execute(cut)
    assert sorted(p.name for p in (RUN / "a").iterdir()) == ["checkpoint-0", "checkpoint-1"][:left]
    assert (RUN / "superseded").exists() is not resumable


def test_an_interrupted_step_without_a_checkpoint_starts_afresh() -> None:
    cut = step("a", APPEND + "    sys.exit(1)", "half", RUN / "a/trainer_log.jsonl", output=RUN / "a", resumable=True)
    failure(cut)
    failure(cut)
    assert [p.read_text() for p in (RUN / "superseded").rglob("trainer_log.jsonl")] == ["half"]


def test_an_interrupted_step_does_not_resume_after_its_inputs_changed() -> None:
    Path("input.txt").write_text("one")
    cut = step("a", TWICE, RUN / "a", output=RUN / "a", files=(Path("input.txt"),), resumable=True)
    failure(cut)
    Path("input.txt").write_text("two")
    Path("mended").touch()
    execute(cut)
    assert [p.name for p in (RUN / "a").iterdir()] == ["checkpoint-0"]
    assert [p.name for p in (RUN / "superseded").glob("*/*")] == ["checkpoint-0"]


COUNTING = """
    import sys
    from pathlib import Path
    cache = Path("cache")
    cache.mkdir(exist_ok=True)
    (cache / str(len(list(cache.iterdir())))).touch()
    print(len(list(cache.iterdir())))
    sys.exit(Path("dies").exists())
"""


def test_a_cache_is_kept_for_the_same_inputs_and_removed_after_success() -> None:
    one = step("count", COUNTING, files=(Path("in.txt"),), cache=Path("cache"))
    log = RUN / "logs/count.log"
    Path("in.txt").write_text("1")
    Path("cache").mkdir()
    Path("cache/of-another-run").touch()
    Path("dies").touch()
    for started in (1, 2):  # the first start finds none but a strange one
        failure(one)
        assert log.read_text() == f"{started}\n"
    Path("in.txt").write_text("2")
    failure(one)
    assert log.read_text() == "1\n"
    Path("dies").unlink()
    execute(one)
    assert log.read_text() == "2\n" and not Path("cache").exists()


def test_a_failing_status_stops_with_reason_log_and_its_end() -> None:
    code = """
        import sys
        print("first line", flush=True)
        print("ValueError: no", file=sys.stderr)
        sys.exit(3)
    """
    message = failure(step("train x", code, kind="prepare"), step("b", APPEND, "b"))
    assert message == (
        "train x: failed: 1 problem\n  - it exited with status 3\n"
        "Its log is runs/r/logs/train-x.log, which ends:\n    first line\n    ValueError: no\n"
        "not run, since they need a failed step: b"
    )
    assert order() == []
    assert [p.name for p in (RUN / "steps").iterdir()] == ["train-x.started.json"]


def test_a_step_that_exits_0_but_did_not_do_its_work_has_failed() -> None:
    logs: list[str] = []

    def problems_after(log: str) -> list[str]:
        logs.append(log)
        return ["it made 3 of 5 steps", "its loss is not a finite number"]

    finished: list[bool] = []
    lazy = step("a", 'print("lazy")', problems_after=problems_after, finish=lambda: finished.append(True))
    assert failure(lazy) == (
        "a: failed: 2 problems\n  - it made 3 of 5 steps\n  - its loss is not a finite number\n"
        "Its log is runs/r/logs/a.log, which ends:\n    lazy"
    )
    assert (logs, finished) == (["lazy\n"], [])
    assert not (RUN / "steps/a.json").exists()


def test_a_step_that_left_a_file_out_has_failed() -> None:
    assert failure(step("a", "", leaves=(RUN / "rows/rows.jsonl",))) == (
        "a: failed: 1 problem\n  - it left no runs/r/rows/rows.jsonl\nIts log is runs/r/logs/a.log"
    )


def test_a_failed_rerun_leaves_no_record_of_its_earlier_success() -> None:
    Path("input.txt").write_text("one")
    Path("mended").touch()
    files = (Path("input.txt"),)
    execute(step("a", TWICE, RUN / "a", output=RUN / "a", files=files))
    Path("mended").unlink()
    Path("input.txt").write_text("two")
    failure(step("a", TWICE, RUN / "a", output=RUN / "a", files=files))
    Path("input.txt").write_text("one")
    Path("mended").touch()
    assert execute(step("a", TWICE, RUN / "a", output=RUN / "a", files=files))[0] == ("started", "a")
    assert len(list((RUN / "superseded").rglob("checkpoint-*"))) == 2


def test_problems_before_stop_a_step_before_anything_is_written() -> None:
    with pytest.raises(ProblemsError) as error:
        execute(step("a", APPEND, "a", problems_before=lambda: ["there are no rows"]))
    assert str(error.value) == "a: not started: 1 problem\n  - there are no rows"
    assert order() == [] and not (RUN / "steps").exists() and not (RUN / "logs").exists()


def test_problems_found_beside_a_step_end_it() -> None:
    def problems() -> list[str]:
        while not order():
            time.sleep(0.01)
        return ["clips would be resized"]

    slow = APPEND + "\n    import time\n    time.sleep(60)"
    begin = time.time()
    with pytest.raises(ProblemsError) as error:
        execute(step("a", slow, "a", problems_beside=problems))
    assert str(error.value) == "a: stopped: 1 problem\n  - clips would be resized"
    assert time.time() - begin < 30 and order() == ["a"]
    assert execute(step("a", APPEND, "a", problems_beside=lambda: [])) == [("started", "a"), ("done", "a")]


def test_an_error_of_what_is_asked_beside_a_step_ends_it() -> None:
    def problems() -> list[str]:
        raise RbftError("val.jsonl: line 3 is no JSON")

    begin = time.time()
    assert failure(step("a", "import time; time.sleep(60)", problems_beside=problems)) == "val.jsonl: line 3 is no JSON"
    assert time.time() - begin < 30 and not (RUN / "steps/a.json").exists()


def test_a_step_that_ends_first_is_judged_all_the_same() -> None:
    def problems() -> list[str]:
        time.sleep(0.5)
        return ["clips would be resized"]

    assert failure(step("a", "", problems_beside=problems)) == "a: stopped: 1 problem\n  - clips would be resized"


def test_finish_is_called_before_the_step_counts_as_done() -> None:
    seen: list[bool] = []
    execute(step("a", "", finish=lambda: seen.append((RUN / "steps/a.json").exists())))
    assert seen == [False]


def test_a_step_that_is_always_run_runs_always() -> None:
    always = step("a", APPEND, "a", kind="prepare")
    assert execute(always) == execute(always) == [("started", "a"), ("done", "a")]
    assert order() == ["a", "a"]


def test_a_command_that_does_not_exist_is_named() -> None:
    assert failure(Step("a", "train", ["no-such-harness", "train"])) == (
        "no-such-harness: no such command; is rbft installed with its dependencies?"
    )
    assert not (RUN / "steps/a.json").exists()


def test_commands_beside_our_python_are_found_first() -> None:
    which = step("a", "import shutil; print(shutil.which('lmms-eval'))")
    execute(which)
    assert (RUN / "logs/a.log").read_text().strip() == str(Path(sys.executable).parent / "lmms-eval")


def test_a_step_gets_no_input_so_that_it_cannot_wait_for_any() -> None:
    execute(step("a", "import sys; print(repr(sys.stdin.read()))"))
    assert (RUN / "logs/a.log").read_text() == "''\n"


def lines_of(code: str) -> list[str]:
    told: list[str] = []
    runner.execute(plan(step("a", code)), lambda kind, s, text: told.append(text) if kind == "line" else None)
    return told


def test_states_of_a_progress_bar_are_told_and_logged_as_they_are() -> None:
    code = """
        import sys, time
        for i in range(3):
            sys.stdout.write(f"\\r{i + 1} of 3")
            sys.stdout.flush()
            time.sleep(0.2)
        print()
    """
    assert lines_of(code) == ["1 of 3", "2 of 3", "3 of 3"]
    assert (RUN / "logs/a.log").read_bytes() == b"\r1 of 3\r2 of 3\r3 of 3\n"


def test_only_the_last_state_of_a_progress_bar_is_quoted_from_a_log() -> None:
    code = r"""
        import sys
        print("the reason")
        for i in range(100):
            sys.stdout.write(f"\r{i}%")
        print()
        print("windows line\r")
        sys.exit(1)
    """
    assert failure(step("a", code)).split("which ends:\n")[1] == "    the reason\n    99%\n    windows line"


def test_the_quoted_end_of_a_log_is_short() -> None:
    code = """
        for i in range(40):
            print(i, "x" * 500)
            print()
        raise SystemExit(1)
    """
    quoted = failure(step("a", code)).split("which ends:\n")[1].split("\n")
    assert quoted == [f"    {i} {'x' * 500}"[:204] for i in range(25, 40)]


def test_output_that_is_not_utf_8_is_logged_as_it_is_and_told_with_marks() -> None:
    code = r"""
        import sys
        sys.stdout.buffer.write(b"caf\xe9 \xff\n")
        sys.exit(1)
    """
    told: list[str] = []
    with pytest.raises(RbftError, match=r"\n    caf\ufffd \ufffd$"):
        runner.execute(plan(step("a", code)), lambda kind, s, text: told.append(text) if kind == "line" else None)
    assert told == ["caf\ufffd \ufffd"]
    assert (RUN / "logs/a.log").read_bytes() == b"caf\xe9 \xff\n"


def test_a_very_long_line_is_logged_whole_and_takes_no_longer_for_it() -> None:
    code = """
        import sys
        for _ in range(400):
            sys.stdout.write("x" * 100_000)
        print("end")
        print("next")
    """
    begin = time.monotonic()
    told = lines_of(code)
    assert time.monotonic() - begin < 10
    assert (RUN / "logs/a.log").stat().st_size == 40_000_009
    assert told[-1] == "next" and all(len(line) < 100_000 for line in told)


def test_output_without_a_last_line_end_is_logged() -> None:
    lines_of("import sys; sys.stdout.write('no line end')")
    assert (RUN / "logs/a.log").read_text() == "no line end"


def test_a_long_log_of_an_earlier_start_is_replaced() -> None:
    execute(step("a", "print('long ' * 100)"))
    execute(step("a", "print('short')"))
    assert (RUN / "logs/a.log").read_text() == "short\n"


HOLD = """
    import sys, time
    from filelock import FileLock
    with FileLock(sys.argv[1]):
        print("held", flush=True)
        time.sleep(60)
"""


def test_a_run_that_is_at_work_is_not_joined_and_a_dead_one_holds_nothing() -> None:
    RUN.mkdir(parents=True)
    holder = subprocess.Popen(python(HOLD, RUN / ".lock"), stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        assert failure(step("a", APPEND, "a")) == "runs/r: another `rbft run` is using it"
        assert order() == []
    finally:
        holder.kill()
        holder.communicate()
    assert execute(step("a", APPEND, "a"))[-1] == ("done", "a")


DRIVER = """
    import signal
    import sys
    import typer
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup, or in a shell's background
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path.insert(0, sys.argv.pop())
    sys.path.insert(0, sys.path[0] + '/run')
    import test_runner
    from rbft_plugin.cli import main as cli
    from rbft_plugin.run import runner
    child = test_runner.step("child", test_runner.CHILD, output=test_runner.RUN / "child", resumable=True)
    cli.app = typer.Typer()  # as the real one, which has its own way with Ctrl-C
    cli.app.command()(lambda: runner.execute(test_runner.plan(child), lambda *told: None))
    cli.main()
"""
CHILD = """
    import os, subprocess, sys, time
    from pathlib import Path
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path("pids.part").write_text(f"{os.getpid()} {grandchild.pid}")
    os.rename("pids.part", "pids")
    time.sleep(60)
"""


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


def alive(pid: int) -> bool:
    """Whether a process is there and not a zombie that nobody has collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)],
    ids=["TERM", "HUP", "INT"],
)
def test_a_signal_to_rbft_ends_the_command_and_its_children(number: signal.Signals, status: int) -> None:
    process = subprocess.Popen(python(DRIVER, Path(__file__).parents[1]), stderr=subprocess.PIPE, text=True)
    pids: list[int] = []
    try:
        assert wait_for(Path("pids").is_file), process.stderr
        pids = [int(p) for p in Path("pids").read_text().split()]
        assert all(map(alive, pids))
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
        assert process.returncode == status
        assert err == ("rbft: stopped; the same command goes on from here\n" if status == 130 else "")
        assert wait_for(lambda: not any(map(alive, pids)), 5)
        assert [p.name for p in (RUN / "steps").iterdir()] == ["child.started.json"]
    finally:
        process.kill()
        process.wait()
        for pid in filter(alive, pids):
            os.kill(pid, signal.SIGKILL)


def test_under_nohup_a_hangup_is_ignored() -> None:
    code = """
        import os, signal
        from rbft_plugin.cli import main as cli
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        cli.app = lambda: (os.kill(os.getpid(), signal.SIGHUP), print("still here"))
        cli.main()
    """
    assert subprocess.run(python(code), capture_output=True, text=True).stdout == "still here\n"


def test_slugs_are_file_names() -> None:
    assert slug("train rbft seed 0 label") == "train-rbft-seed-0-label"
    assert slug("prepare a/b") == "prepare-a-b"


# --- steps beside one another ---


def test_what_does_not_need_a_failed_step_goes_on_and_all_failures_are_said() -> None:
    made = Path("made")
    steps = [
        step("prepare", APPEND, "prepare"),
        step("train a", "raise SystemExit(1)", leaves=(made / "a",)),
        step("score a", APPEND, "score-a", files=(made / "a",), leaves=(made / "sa",)),
        step("train b", APPEND, "train-b", made / "b", leaves=(made / "b",)),
        step("score b", APPEND, "score-b", made / "sb", files=(made / "b",), leaves=(made / "sb",)),
        step("train c", "print(*range(9), sep='\\n', flush=True); raise SystemExit(2)"),
        step("report", APPEND, "report", files=(made / "sa", made / "sb")),
    ]
    message = failure(*steps)
    assert message.splitlines() == [
        *("train a: failed: 2 problems", "  - it exited with status 1", "  - it left no made/a"),
        "Its log is runs/r/logs/train-a.log",
        *(
            "train c: failed: 1 problem",
            "  - it exited with status 2",
            "Its log is runs/r/logs/train-c.log, which ends:",
        ),
        *("    6", "    7", "    8"),  # of each only a little, where there are several
        "failed, 2 of 7 steps: train a, train c",
        "not run, since they need a failed step: score a",
    ]
    assert order() == ["prepare", "train-b", "score-b", "report"]


def test_jobs_run_side_by_side_but_never_before_what_they_need() -> None:
    """Each of the two trainings waits for the other to have started: one after the other they would never end."""
    meet = """
        import sys, time
        from pathlib import Path
        mine, other, made = map(Path, sys.argv[1:])
        mine.touch()
        deadline = time.time() + 20
        while not other.exists() and time.time() < deadline:
            time.sleep(0.01)
        assert other.exists() and not Path("scored").exists()
        made.touch()
    """
    plan_of = plan(
        step("prepare", APPEND, "prepare"),
        step("train a", meet, "a", "b", "made-a", leaves=(Path("made-a"),)),
        step("score a", APPEND, "score", "scored", files=(Path("made-a"), Path("made-b"))),
        step("train b", meet, "b", "a", "made-b", leaves=(Path("made-b"),)),
    )
    runner.execute(plan_of, lambda *_: None, jobs=2)
    assert order() == ["prepare", "score"]


def test_each_job_has_devices_of_its_own() -> None:
    launch = {"launch": {"devices": ["0,1", "2,3"]}}
    recipe = Recipe.model_validate(RECIPE.model_dump() | launch)
    code = """
        import os, sys, time
        from pathlib import Path
        Path(sys.argv[1]).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
        while not all(Path(name).exists() for name in ("a", "b")):
            time.sleep(0.01)
    """
    steps = [step("prepare", "pass"), step("a", code, "a"), step("b", code, "b")]
    runner.execute(Plan(recipe, None, steps), lambda *_: None, jobs=2)  # type: ignore[arg-type]
    assert {Path("a").read_text(), Path("b").read_text()} == {"0,1", "2,3"}
    with pytest.raises(RbftError, match=r"^--jobs 3: the recipe's launch\.devices has devices for 2 jobs$"):
        runner.execute(Plan(recipe, None, steps), lambda *_: None, jobs=3)  # type: ignore[arg-type]


def test_another_node_joins_the_trainings_that_the_first_one_starts() -> None:
    """It waits for the first node to start a training, runs its own part of it, and touches no record."""
    training = Step("train a", "train", python(APPEND, "joined"), torchrun=True)
    done = Step("train b", "train", python(APPEND, "again"), torchrun=True)
    first = plan(step("prepare", APPEND, "prepare"), done)
    runner.execute(first, lambda *_: None)
    told: list[tuple[str, str]] = []
    started = RUN / "steps" / "train-a.started.json"

    def start() -> None:
        time.sleep(0.5)
        assert order() == ["prepare", "again"]  # nothing has been joined yet
        started.write_text("{}")

    first_node = threading.Thread(target=start)
    first_node.start()
    follower = plan(step("prepare", APPEND, "prepare"), done, training)
    runner.follow(follower, lambda kind, s, text: told.append((kind, s.name)), follower.steps)
    first_node.join()
    assert told == [("skipped", "train b"), ("started", "train a"), ("done", "train a")]
    assert order() == ["prepare", "again", "joined"]
    assert started.exists() and not (RUN / "steps" / "train-a.json").exists()
