"""The shipped datasets, on small made-up files with the columns of the real ones."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from builders import write_csv

from rbft_plugin import workspace
from rbft_plugin.clips.video import WHOLE, Part
from rbft_plugin.data import annotations, prompts, splits
from rbft_plugin.data.annotations import Sample
from rbft_plugin.spec import dataset

NAMES = sorted(path.stem for path in (workspace.shipped() / "dataset_info").glob("*.yaml"))
TAGS = ("Normal", "Abnormal", "Vague Abnormal")


def read(name: str) -> list[Sample]:
    shipped = dataset.load(name)
    return splits.assign(annotations.read_annotations(shipped).samples, shipped.splits)


@pytest.mark.parametrize("name", NAMES)
def test_each_loads_and_says_what_a_user_has_to_know(ws: Path, name: str) -> None:
    about = dataset.load(name).about
    assert about.title and about.licence and about.videos
    if name != "demo":
        assert about.homepage.startswith("https://") and "arXiv" in about.citation and about.missing
        assert dataset.load(name).max_missing > 0


def smarthome() -> list[str]:
    """Write 1,203 made-up rows, the 196 probable test videos among them; returns these."""
    listed = Path("dataset_info/smarthome_test_ids.txt").read_text().splitlines()
    test = [line for line in listed if not line.startswith("#")]
    numbers = [f"smartbench_{n:04}" for n in range(1, 1204)]
    folder = Path("data/smarthome/source")
    folder.mkdir(parents=True)
    columns = ["Category", "Anomaly Tag", "Video Description", "Reasoning behind Normality/Anomalies"]
    write_csv(
        folder / "Video_Annotation.csv",
        [{"\ufeffTitle": t} | dict(zip(columns, ("Security", TAGS[i % 3], "It shows.", "Because."), strict=True))
         for i, t in enumerate(numbers)],
    )  # fmt: skip
    trims = {"smartbench_0001": "20", "smartbench_0002": "-6", "smartbench_0003": "0"}
    write_csv(folder / "Trim_video_label.csv", [{"No.": "1", "Title": t, "Time": s} for t, s in trims.items()])
    return test


def test_smarthome_has_three_classes_the_probable_test_videos_and_trimmed_parts(ws: Path) -> None:
    test = smarthome()
    assert len(test) == len(set(test)) == 196 and test[0] == "smartbench_0003"
    found = read("smarthome")
    assert Counter(s.label for s in found) == dict.fromkeys(TAGS, 401)
    assert {s.id for s in found if s.split == "test"} == set(test)
    assert Counter(s.split for s in found if s.split != "test").most_common() == [("train", 957), ("val", 50)]
    assert [s.part for s in found[:4]] == [Part(cut=20.0), Part(start=6.0), WHOLE, WHOLE]
    assert found[0].video == Path("data/smarthome/source/videos/smartbench_0001.mp4")


def test_smarthome_binary_counts_vague_as_abnormal_in_the_same_videos_and_splits(ws: Path) -> None:
    test = smarthome()
    found = read("smarthome_binary")
    assert Counter(s.label for s in found) == {"Normal": 401, "Abnormal": 802}
    assert {s.id for s in found if s.split == "test"} == set(test)
    assert found[0].video == Path("data/smarthome/source/videos/smartbench_0001.mp4")


@pytest.mark.parametrize("name", ["smarthome", "smarthome_binary"])
def test_the_seeded_split_beside_it_loads_when_uncommented(ws: Path, name: str) -> None:
    smarthome()
    path = Path(f"dataset_info/{name}.yaml")
    text = path.read_text()
    named, seeded = re.search(r"splits: .*?\n(?=#)", text, re.S), re.search(r"(^# .*\n)+", text[200:], re.M)
    assert named and seeded
    uncommented = re.sub("^# ", "", seeded.group(), flags=re.M)
    path.write_text(text.replace(named.group(), "").replace(seeded.group(), uncommented))
    counts = Counter(s.split for s in read(name))
    assert [counts[s] for s in ("train", "val", "test")] == pytest.approx([962, 48, 193], abs=2)


@pytest.mark.parametrize("name", ["smarthome", "smarthome_binary"])
@pytest.mark.parametrize("column", ["Category", "Video Description", "Reasoning behind Normality/Anomalies"])
def test_what_annotators_wrote_of_smarthome_is_refused_in_prompts(ws: Path, name: str, column: str) -> None:
    path = Path(f"dataset_info/{name}.yaml")
    path.write_text(path.read_text().replace("prompts:\n", f"prompts:\n  context: {{Said: {column}}}\n"))
    with pytest.raises(Exception, match="a label leak"):
        dataset.load(name)


VICTIM = "Target_Victim\tComponent"
MISSPELT = "Target_Victimg\tComponentg"  # as in the English test.tsv


@pytest.mark.parametrize(("name", "last"), [("multihateclip_en", MISSPELT), ("multihateclip_zh", VICTIM)])
def test_multihateclip_has_three_classes_its_own_splits_and_texts(ws: Path, name: str, last: str) -> None:
    folder = Path(f"data/{name}/source")
    (folder / "annotation").mkdir(parents=True)
    texts = {}
    for split, columns in (("train", VICTIM), ("valid", VICTIM), ("test", last)):
        lines = [f"Video_ID\tMajority_Voting\tLabel\t{columns}\tDuration"]
        for i, label in enumerate(("Normal", "Offensive", "Hateful")):
            lines.append(f"-{split}{i}\t{label}\t['{label}', 'Normal']\t['Woman']\t['Audio']\t[(0, 10)]")
            texts[f"-{split}{i}"] = {"title": f"{split} 标题", "description": "d", "transcript": "", "label": "Normal"}
        (folder / f"annotation/{split}.tsv").write_text("\n".join(lines), encoding="utf-8")
    texts |= {"other": texts["-test0"]}
    texts["-test1"]["transcript"] = "Some\nwords."
    (folder / "text.json").write_text(json.dumps(texts), encoding="utf-8")
    found = read(name)
    assert Counter((s.split, s.label) for s in found) == {
        (split, label): 1 for split in ("train", "val", "test") for label in ("Normal", "Offensive", "Hateful")
    }
    offensive = found[7]
    assert (offensive.id, offensive.video) == ("-test1", folder / "videos/-test1.mp4")
    assert offensive.context == (("Title", "test 标题"), ("Transcript", "Some words."))
    assert found[0].context == (("Title", "train 标题"),)
    prompt = prompts.label(dataset.load(name), offensive.context)
    assert "\n\nTitle: test 标题\nTranscript: Some words.\n\nWhich of these classes" in prompt
