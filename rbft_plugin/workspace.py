"""The folder in which commands run: dataset_info/, task_configs/ and recipes/, and later data/ and runs/."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

from rbft_plugin.errors import RbftError

FOLDERS = ("dataset_info", "recipes", "task_configs")


def shipped() -> Path:
    """The folder that holds the shipped FOLDERS: in an installed package, or at the top of a checkout."""
    package = Path(str(files("rbft_plugin")))
    inside = package / "workspace"
    return inside if inside.is_dir() else package.parent


def require() -> None:
    """Raise RbftError unless the current folder is a workspace."""
    if not Path("dataset_info").is_dir():
        raise RbftError(
            f"{Path.cwd()} is not an rbft workspace (it has no dataset_info/ folder). "
            "Change to one, or make one with `rbft init DIR`."
        )


def init(folder: Path) -> list[Path]:
    """Lay out a workspace in `folder`. Existing files stay as they are.

    Returns the written files, relative to the folder. Raises RbftError if one cannot be written.
    """
    origin, written = shipped(), []
    for top in FOLDERS:
        for source in sorted((origin / top).rglob("*")):
            target = folder / top / source.relative_to(origin / top)
            if source.is_file() and not target.exists():
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target)
                except OSError as error:
                    raise RbftError(f"{folder}: no workspace can be made there: {error.strerror} ({target})") from None
                written.append(target.relative_to(folder))
    return written
