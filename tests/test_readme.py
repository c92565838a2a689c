"""The README against the code."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from rbft_plugin.cli import main as cli
from rbft_plugin.report.prose import arm_name, figure, percent
from rbft_plugin.report.view_model import Report
from rbft_plugin.run import plan
from rbft_plugin.spec import recipe
from rbft_plugin.spec.dataset import ClipSettings, Dataset, load

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found
    return found.group(1)


def test_the_example_of_a_dataset_is_one_and_shows_the_defaults() -> None:
    example = Dataset.model_validate(yaml.safe_load(block("yaml")))
    assert example.label_names == ("theft", "normal")
    assert example.labels[0].raw == ("THEFT", "theft?")
    assert example.clips == ClipSettings()


def test_every_command_that_it_names_is_one_and_none_is_left_out() -> None:
    known = {command.name or command.callback.__name__ for command in cli.app.registered_commands if command.callback}
    named = set(re.findall(r"(?:^|[`$] ?|\t| {4})rbft ([a-z]+)\b", README, re.MULTILINE))
    assert named == known


def test_the_table_of_the_full_demo_is_that_of_its_report() -> None:
    report = Report.model_validate_json((ROOT / "docs/results/demo_full.json").read_text(encoding="utf-8"))
    told = {
        tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in README.splitlines() if line.count("|") > 3
    }
    for arm, of in report.arms.items():
        shown = [figure(of.metrics[name]) for name in ("accuracy", "macro_f1")]
        assert (arm_name(arm, of), *shown, f"{percent(of.metrics['no_answer'].mean)} %") in told
    assert report.n_test == 400 and len(report.arms["rbft"].seeds) >= 8


def test_the_commands_by_hand_train_as_the_demo_does(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    typed = " ".join(block("bash").replace("\\\n", " ").split())
    tiny = re.search(r"TINY='(.*?)'", typed)
    assert tiny
    made = plan.make(recipe.load(Path("recipes/demo.yaml")), load("demo"))
    for stage in ("rationale", "label"):
        (step,) = [s for s in made.steps if s.name == f"train rbft seed 0 {stage}"]
        command = re.search(rf"llamafactory-cli train (recipes/stage[12].yaml dataset=demo_{stage} .*?) \$TINY", typed)
        assert command
        by_hand = {*command.group(1).split(), *tiny.group(1).split()}
        # The runner also says what stage1.yaml, stage2.yaml and their defaults hold already.
        implied = {"media_dir=.", "seed=0", "dataset_dir=dataset_info", "dataset_dir=runs/demo/rows"}
        implied.add("include_effective_tokens_per_second=true")  # for its own checks; trains nothing otherwise
        implied |= {"adapter_name_or_path=null", "create_new_adapter=false"} if stage == "rationale" else set()
        differ = {a for a in by_hand ^ set(step.argv[4:]) if not a.startswith(("output_dir=", "model_name_or_path="))}
        assert differ == implied & set(step.argv)
