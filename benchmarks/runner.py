"""`rbft run` against the same commands typed by hand, on the demo: the cost of the runner. Goal: 1.02 or less.

    python benchmarks/runner.py [--rounds 4]

Takes twice the time of the demo a round. By hand are the lines that `rbft run --dry-run` prints, in a shell, one after
the other. An even number of rounds, so that each goes first as often. For figures the machine has to be idle: the
difference is seconds in minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import timing

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def sh(command: str, folder: Path) -> str:
    env = os.environ | {"PATH": PATH}
    done = subprocess.run(["bash", "-e", "-c", command], cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}\nexited with status {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "fresh"
        sh(f"rbft init {fresh} && cd {fresh} && rbft demo --data-only", Path(folder))
        commands = sh("rbft run recipes/demo.yaml --dry-run", fresh)
        made: list[Path] = []

        def workspace() -> Path:
            made.append(Path(folder) / str(len(made)))
            return Path(shutil.copytree(fresh, made[-1]))

        cases = {
            "rbft run": lambda: sh("rbft run recipes/demo.yaml", workspace()),
            "by hand": lambda: sh(commands, workspace()),
        }
        spent = timing.rounds(cases, rounds, warm=False)
        reports = {(path / "runs/demo/report/accuracy.svg").is_file() for path in made}
        assert reports == {True}, "a run did not reach its report"
    timing.print_rounds(spent)
    figures = {kind: timing.ratio(spent, "rbft run", "by hand", kind) for kind in ("wall", "cpu")}
    print(f"rbft run / by hand: {figures['wall']:.3f} by the clock, {figures['cpu']:.3f} by processor time (goal 1.02)")
    timing.write("runner", {"rounds": spent, "ratio": figures})


if __name__ == "__main__":
    main()
