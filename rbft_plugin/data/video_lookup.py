"""Finds the videos of samples."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".3gp", ".ts")


class VideoLookup:
    """Finds videos, also where their extension differs from the path. It lists each folder once."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, list[str]]] = {}

    def find(self, path: str) -> Path | str:
        """The video at a path, or why there is none that could be meant.

        If the path does not exist, the video is the one file there with the same name and another extension, or with
        an extension where the path has none. If there is no such file, the result is the path.
        """
        path = os.path.expanduser(path)
        folder, name = os.path.split(path)
        if not name:
            return "its row names no video"
        try:
            os.stat(path)
            return Path(path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:  # such as a name that is too long, or a folder that may not be read
            return f"{path:.100}: {error.strerror}"
        stem, suffix = os.path.splitext(name)
        videos = self._videos(folder or ".")
        fitting = videos.get(name, []) + (videos.get(stem, []) if suffix.lower() in VIDEO_SUFFIXES else [])
        if len(fitting) > 1:
            return f"several videos fit {path}: {', '.join(fitting)}; keep one of them"
        return Path(folder, fitting[0]) if fitting else Path(path)

    def _videos(self, folder: str) -> dict[str, list[str]]:
        """The names of a folder's videos by their stem."""
        if folder not in self._folders:
            by_stem = defaultdict(list)
            for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in VIDEO_SUFFIXES:
                    by_stem[stem].append(name)
            self._folders[folder] = by_stem
        return self._folders[folder]
