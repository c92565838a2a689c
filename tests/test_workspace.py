"""Laying out a workspace, and telling one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rbft_plugin import workspace
from rbft_plugin.errors import RbftError
from rbft_plugin.spec.dataset import load

LEAST = {
    *("dataset_info/demo.yaml", "dataset_info/smarthome.yaml", "dataset_info/dataset_info.json"),
    *("recipes/demo.yaml", "recipes/rbft.yaml", "recipes/stage1.yaml", "recipes/stage2.yaml"),
    *("task_configs/_rbft_label_base.yaml", "task_configs/_rbft_rationale_base.yaml"),
    *("task_configs/rbft_demo.yaml", "task_configs/rbft_demo_rationale.yaml"),
}


def test_a_new_workspace_holds_what_is_shipped(tmp_path: Path) -> None:
    written = workspace.init(tmp_path / "a/new one")
    assert {p.as_posix() for p in written} >= LEAST
    for path in written:
        assert (tmp_path / "a/new one" / path).read_bytes() == (workspace.shipped() / path).read_bytes()
    made = {p.relative_to(tmp_path / "a/new one") for p in tmp_path.rglob("*") if p.is_file()}
    assert made == set(written)


def test_a_second_init_keeps_every_file_and_puts_back_what_is_missing(tmp_path: Path) -> None:
    workspace.init(tmp_path)
    (tmp_path / "recipes/demo.yaml").write_text("mine\n")
    (tmp_path / "recipes/rbft.yaml").unlink()
    assert workspace.init(tmp_path) == [Path("recipes/rbft.yaml")]
    assert (tmp_path / "recipes/demo.yaml").read_text() == "mine\n"
    assert workspace.init(tmp_path) == []


def test_the_shipped_datasets_can_be_read(ws: Path) -> None:
    assert load("demo").label_names == ("normal", "loitering", "patrol", "delivery", "theft")
    assert load("smarthome").label_names == ("Normal", "Abnormal", "Vague Abnormal")


def test_the_shipped_files_are_in_the_checkout_or_in_the_package(tmp_path: Path, monkeypatch) -> None:
    assert all((workspace.shipped() / folder).is_dir() for folder in workspace.FOLDERS)
    (tmp_path / "rbft_plugin/workspace").mkdir(parents=True)  # as in an installed package
    monkeypatch.setattr(workspace, "files", lambda name: tmp_path / name)
    assert workspace.shipped() == tmp_path / "rbft_plugin/workspace"


def test_a_file_in_the_way_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file\n")
    with pytest.raises(RbftError) as error:
        workspace.init(tmp_path / "taken")
    assert str(error.value).startswith(f"{tmp_path}/taken: no workspace can be made there: Not a directory (")
    assert (tmp_path / "taken").read_text() == "a file\n"


def test_a_folder_without_dataset_info_is_no_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = (
        f"{tmp_path} is not an rbft workspace (it has no dataset_info/ folder). "
        "Change to one, or make one with `rbft init DIR`."
    )
    with pytest.raises(RbftError, match=f"^{re.escape(message)}$"):
        workspace.require()
    (tmp_path / "dataset_info").mkdir()
    workspace.require()
