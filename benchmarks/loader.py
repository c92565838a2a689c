"""A training sample through LLaMA-Factory's template and collator: from its canonical clip, from the 1080p source, and
from frames that are in memory already.

All three give the model as many frames, of as many pixels: `video_maxlen` and `video_max_pixels` are the clip's.

python benchmarks/loader.py [--rounds 7] [--seconds 30]
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import cProfile
import json
import pstats
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import timing
import yaml

ROOT = Path(__file__).parents[1]
BASE = ROOT / "rbft_plugin/demo/base"
SOURCE, CLIP, MEMORY = "1080p source", "canonical clip", "frames in memory"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), options.rounds, options.seconds)


def run(folder: Path, count: int, seconds: float) -> None:
    from rbft_plugin.clips.canonical import make_clip
    from rbft_plugin.clips.video import load_clip
    from rbft_plugin.spec.dataset import ClipSettings

    settings = ClipSettings()
    timing.write_source(folder / "source.mp4", seconds, (1920, 1080))
    clip = make_clip(folder / "source.mp4", folder / "clip.mp4", settings)
    from PIL import Image

    frames = [Image.fromarray(frame) for frame in load_clip(folder / "clip.mp4")[0]]
    with contextlib.redirect_stdout(sys.stderr):  # LLaMA-Factory prints its first sample
        read = loader(folder, clip.frames, settings.max_pixels)
    cases = {
        SOURCE: lambda: read.batch(str(folder / "source.mp4")),
        CLIP: lambda: read.batch(str(folder / "clip.mp4")),
        MEMORY: lambda: read.batch(frames),
    }
    grids = {name: case()["video_grid_thw"].tolist() for name, case in cases.items()}
    assert len({str(grid) for grid in grids.values()}) == 1, grids
    spent = timing.rounds(cases, count)
    profile = cProfile.Profile()
    profile.runcall(cases[CLIP])
    where = sorted(pstats.Stats(profile).stats.items(), key=lambda item: -item[1][2])[:8]  # type: ignore[attr-defined]
    timing.print_rounds(spent)
    print()
    wanted = {
        "source to clip": (SOURCE, CLIP, "40 or more"),
        "clip to frames in memory": (CLIP, MEMORY, "2 or less"),
    }
    ratios = {k: {kind: timing.ratio(spent, a, b, kind) for kind in ("wall", "cpu")} for k, (a, b, _) in wanted.items()}
    for name, (_, _, goal) in wanted.items():
        print(
            f"{name}: {ratios[name]['wall']:.1f} by the clock, {ratios[name]['cpu']:.1f} by processor time; goal {goal}"
        )
    print("\nwhere a sample's time goes, from its clip:")
    profiled = [{"ms": round(times[2] * 1000, 1), "in": f"{key[2]}"} for key, times in where]
    for line in profiled:
        print(f"{line['ms']:8.1f} ms  {line['in']}")
    sizes = {"clip_bytes": (folder / "clip.mp4").stat().st_size, "source_bytes": (folder / "source.mp4").stat().st_size}
    what = {"frames": clip.frames, "width": clip.width, "height": clip.height, "source_seconds": seconds} | sizes
    timing.write("loader", {"ratios": ratios, "rounds": spent, "profile_of_clip": profiled, "sample": what})


class Loader(NamedTuple):
    batch: Callable[[Any], Any]  # a video (path or frames) -> what the model gets
    tokenize: Callable[[], Any]  # the clip's row once more, as before every training


def loader(folder: Path, frames: int, pixels: int) -> Loader:
    """LLaMA-Factory under recipes/stage2.yaml, for a sample with folder/clip.mp4."""
    from llamafactory.data import SFTDataCollatorWith4DAttentionMask, get_dataset, get_template_and_fix_tokenizer
    from llamafactory.data.processor import SupervisedDatasetProcessor
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_model, load_tokenizer

    from rbft_plugin.llamafactory.registry import dataset_entry

    shutil.copytree(BASE, folder / "model")
    config = json.loads((BASE / "processor_config.json").read_text())
    for part in ("image_processor", "video_processor"):
        config[part]["size"] = {"shortest_edge": 3136, "longest_edge": frames * pixels}
    (folder / "model/processor_config.json").write_text(json.dumps(config))
    answer = [{"role": "user", "content": "<video>What is it?"}, {"role": "assistant", "content": "calm"}]
    (folder / "rows.jsonl").write_text(json.dumps({"messages": answer, "videos": [str(folder / "clip.mp4")]}) + "\n")
    (folder / "dataset_info.json").write_text(json.dumps({"rows": dataset_entry("rows.jsonl")}))
    recipe = yaml.safe_load((ROOT / "recipes/stage2.yaml").read_text())
    recipe |= {"model_name_or_path": str(folder / "model"), "adapter_name_or_path": None, "create_new_adapter": False}
    recipe |= {
        "dataset": "rows",
        "dataset_dir": str(folder),
        "media_dir": str(folder),
        "output_dir": str(folder / "out"),
    }
    recipe |= {"bf16": False, "use_cpu": True, "preprocessing_num_workers": 1}
    recipe |= {"video_maxlen": frames, "video_max_pixels": pixels}
    model_args, data_args, training_args, finetuning_args, _ = get_train_args(recipe)
    tokens = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(tokens["tokenizer"], data_args)
    data = get_dataset(template, model_args, data_args, training_args, stage="sft", **tokens)["train_dataset"]
    model = load_model(tokens["tokenizer"], model_args, finetuning_args)
    collate = SFTDataCollatorWith4DAttentionMask(
        template=template, model=model, label_pad_token_id=-100, pad_to_multiple_of=8, **tokens
    )
    rows = {"_prompt": [answer[:1]], "_response": [answer[1:]], "_videos": [[str(folder / "clip.mp4")]]}
    rows |= {key: [None] for key in ("_system", "_tools", "_images", "_audios")}
    processor = SupervisedDatasetProcessor(template=template, data_args=data_args, **tokens)
    assert processor.preprocess_dataset(rows)["input_ids"] == [data[0]["input_ids"]]
    return Loader(
        lambda video: collate([copy.deepcopy(data[0]) | {"videos": [video]}]),
        lambda: processor.preprocess_dataset(rows),
    )


if __name__ == "__main__":
    main()
