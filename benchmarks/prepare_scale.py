"""`rbft prepare` of many tiny videos: peak memory at 100 and at 10,000, and the time of a second run at 1,000.

Each video is a copy of one of a few files with a byte of its own at the end, so that each has a clip of its own.

python benchmarks/prepare_scale.py [--sizes 100 1000 10000] [--workers 2]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import timing
import yaml


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    results = []
    heads = ("videos", "seconds", "ms a video", "rbft MB", "worker MB", "second run s", "of processor s")
    print(" ".join(f"{head:>14}" for head in heads))
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            result = run(Path(folder), size, options.workers)
        results.append(result)
        figures = [
            size,
            result["seconds"],
            1000 * result["seconds"] / size,
            result["peak_mb"],
            result["worker_peak_mb"],
        ]
        figures += [result["second_run_seconds"], result["second_run_cpu"]]
        print(" ".join(f"{figure:14.2f}" for figure in figures), flush=True)
    timing.write("prepare_scale", {"workers": options.workers, "sizes": results})


def run(folder: Path, size: int, workers: int) -> dict[str, float]:
    from rbft_plugin import workspace

    workspace.init(folder)
    kinds = []
    for seed in range(4):
        timing.write_source(folder / f"kind{seed}.mp4", 1, (128, 96), seed, 100_000)
        kinds.append((folder / f"kind{seed}.mp4").read_bytes())
    (folder / "videos").mkdir()
    rows = ["id,split,label"]
    for i in range(size):
        (folder / f"videos/v{i}.mp4").write_bytes(kinds[i % 4] + i.to_bytes(4, "little"))
        rows.append(f"v{i},{'test' if i % 5 == 0 else 'train'},{('a', 'b')[i % 2]}")
    (folder / "many.csv").write_text("\n".join(rows) + "\n")
    content = {
        "name": "many",
        "annotations": {"file": "many.csv", "id": "id", "label": "label"},
        "videos": "videos/{id}.mp4",
        "labels": [{"name": n, "description": n} for n in "ab"],
        "splits": {"column": "split"},
        "clips": {"frames": 8, "max_pixels": 12544},
    }
    (folder / "dataset_info/many.yaml").write_text(yaml.safe_dump(content))
    code = "from rbft_plugin.cli.main import main; main()"
    command = [sys.executable, "-c", code, "prepare", "many", "--workers", str(workers)]
    seconds, own, worker = watched(command, folder)
    again, worked = [], []
    for _ in range(5):
        began, before = time.perf_counter(), timing.processor_seconds()
        said = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
        again.append(time.perf_counter() - began)
        worked.append(timing.processor_seconds() - before)
        assert "none made" in said, said
    times = {
        "second_run_seconds": sorted(again)[2],
        "second_run_least": min(again),
        "second_run_cpu": sorted(worked)[2],
    }
    return {"videos": size, "seconds": seconds, "peak_mb": own, "worker_peak_mb": worker} | times


def watched(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Seconds, and peak memory in MB of the process and of the largest process that it started."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    peaks: dict[int, float] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            for pid in below(process.pid):
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                peak = next((int(x.split()[1]) for x in status.splitlines() if x.startswith("VmHWM")), 0)
                peaks[pid] = peak / 1024

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    done.set()
    watcher.join()
    assert status == 0
    return time.perf_counter() - began, peaks.pop(process.pid), max(peaks.values())


def below(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for parent in found:
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        except OSError:
            continue
        found += map(int, children)
    return found


if __name__ == "__main__":
    main()
