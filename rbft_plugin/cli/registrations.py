"""The registrations of a dataset with both harnesses: its entries in dataset_info.json, and its task YAMLs.

All paths in these files are relative, so that they can be committed and a workspace can be moved.
"""

from __future__ import annotations

from pathlib import Path

from rbft_plugin import files
from rbft_plugin.llamafactory.registry import dataset_info, locked
from rbft_plugin.lmms_eval.task_files import task_files, unneeded_files
from rbft_plugin.spec.dataset import Dataset


def register(dataset: Dataset) -> None:
    """Write the registrations of a dataset, and remove what it needs no more. Its data need not be prepared."""
    with locked():
        for path, text in registrations(dataset).items():
            files.write_text(path, text)
        for path in unneeded_files(dataset):
            path.unlink()


def registrations(dataset: Dataset) -> dict[Path, str]:
    """The files that `register` writes, and their content. Raises RbftError if dataset_info.json cannot be read."""
    return dataset_info(dataset) | task_files(dataset)
