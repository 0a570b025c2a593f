"""What a planning run has finished, on disk: a run that was cut goes on from here.

One file per episode, one per load measurement, and `made_of.json`: what they were made with. A run
that is made of anything else has a folder of its own. Knows nothing of who plans, or how.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wm_ros.evaluation.plan_results import Episode

MADE_OF = 'made_of.json'
HEADER = 'header'
PICTURES = ('before_HWC', 'after_HWC', 'goals_GHWC')


@dataclass(frozen=True)
class Kept:
    """The folder of what is finished. Several processes may add to it at a time."""

    folder: Path

    @classmethod
    def open(cls, folder: Path, made_of: Mapping[str, Any], fresh: bool = False) -> Kept:
        """Return what was kept under the same conditions; what was kept under others stays.

        Args:
            folder: of all runs; made where it is missing.
            made_of: whatever an episode's outcome depends on, as JSON can hold it.
            fresh: forget what was kept under these conditions.
        """
        text = json.dumps(made_of, indent=1, sort_keys=True) + '\n'
        own = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
        if fresh:
            shutil.rmtree(own, ignore_errors=True)
        own.mkdir(parents=True, exist_ok=True)
        if not (own / MADE_OF).exists():
            _write(own / MADE_OF, text.encode())
        return cls(own)

    def find(self, task: str, number: int, planner: str) -> Episode | None:
        """Return an episode that is finished; None where it is not, or its file is damaged."""
        try:
            with np.load(self._episode(task, number, planner)) as held:
                header = json.loads(held[HEADER].tobytes())
                return Episode(**header, **{name: held[name] for name in PICTURES})
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            return None

    def add(self, episode: Episode) -> None:
        """Keep an episode, whole or not at all."""
        arrays: dict[str, Any] = {name: getattr(episode, name) for name in PICTURES}
        arrays[HEADER] = np.frombuffer(json.dumps(episode.to_dict()).encode(), np.uint8)
        written = io.BytesIO()
        np.savez_compressed(written, **arrays)
        path = self._episode(episode.task, episode.number, episode.planner)
        _write(path, written.getvalue())

    def load(self, seconds: float) -> dict[str, Any] | None:
        """Return the load measurement of that length; None where there is none."""
        try:
            found = json.loads(self._load(seconds).read_text())
        except (OSError, ValueError):
            return None
        return dict(found)

    def add_load(self, seconds: float, load: Mapping[str, Any]) -> None:
        """Keep a load measurement."""
        _write(self._load(seconds), json.dumps(load).encode())

    def _episode(self, task: str, number: int, planner: str) -> Path:
        return self.folder / f'{task}_{number}_{planner}.npz'

    def _load(self, seconds: float) -> Path:
        return self.folder / f'load_{seconds:g}.json'


def _write(path: Path, content: bytes) -> None:
    """Write beside and rename, so that a cut leaves the whole file or none."""
    beside = path.with_name(f'{path.name}.{os.getpid()}.part')
    with beside.open('wb') as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
