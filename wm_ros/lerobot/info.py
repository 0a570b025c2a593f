"""meta/info.json of a LeRobot dataset: version, rate, features. Checked when it is read.

In: the folder of a dataset. Out: `DatasetInfo`, or an error that names file and field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INFO = 'meta/info.json'
VERSIONS = ('v2.1', 'v3.0')
PICTURES = ('video', 'image')
NUMBERS = (
    *('float16', 'float32', 'float64', 'bool', 'string'),
    *(f'{sign}int{bits}' for sign in ('', 'u') for bits in (8, 16, 32, 64)),
)
ACTIONS = ('action', 'actions')
STATES = ('observation.state', 'state')


class LeRobotError(ValueError):
    """A dataset that cannot be read or written; the message names file and field."""


@dataclass(frozen=True)
class Feature:
    """One feature: `names` one per entry of a vector, empty where there are none that fit."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...]
    is_depth: bool = False

    @property
    def width(self) -> int:
        """Entries of a vector; 1 for a number."""
        return self.shape[0] if self.shape else 1

    def entry_names(self, word: str) -> tuple[str, ...]:
        """Return the names of the entries, `word_0`, ... where there are none."""
        return self.names or tuple(f'{word}_{index}' for index in range(self.width))


@dataclass(frozen=True)
class DatasetInfo:
    """What info.json says.

    Attributes:
        root: folder of the dataset.
        version: one of `VERSIONS`.
        fps: frames per second.
        episodes, frames: how many.
        data_path, video_path: templates below the root; `video_path` None without videos.
        chunks_size: files per chunk folder.
        features: by key.
    """

    root: Path
    version: str
    fps: float
    episodes: int
    frames: int
    data_path: str
    video_path: str | None
    chunks_size: int
    features: Mapping[str, Feature]

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.root / INFO

    @property
    def cameras(self) -> tuple[str, ...]:
        """Keys of the features that are colour pictures."""
        return tuple(
            key
            for key, feature in self.features.items()
            if feature.dtype in PICTURES and not feature.is_depth
        )

    @property
    def action(self) -> Feature:
        """The action.

        Raises:
            LeRobotError: there is none, or it is no vector.
        """
        found = self._vector(ACTIONS)
        if found is None:
            raise LeRobotError(
                f'{self.path}: features: no action, found {", ".join(self.features)}'
            )
        return found

    @property
    def state(self) -> Feature | None:
        """The measured state, if there is one."""
        return self._vector(STATES)

    def _vector(self, keys: Sequence[str]) -> Feature | None:
        for key in keys:
            feature = self.features.get(key)
            if feature is None:
                continue
            if len(feature.shape) > 1 or feature.dtype in (*PICTURES, 'string'):
                raise LeRobotError(
                    f'{self.path}: features.{key} is {feature.dtype} of shape {feature.shape}, '
                    'expected a vector of numbers'
                )
            return feature
        return None


def read_info(root: Path) -> DatasetInfo:
    """Read and check info.json.

    Raises:
        LeRobotError: missing, no JSON, another version, fps 0, a feature of unknown dtype.
    """
    path = root / INFO
    if not path.is_file():
        raise LeRobotError(f'{path} is missing: {root} is no LeRobot dataset')
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise LeRobotError(f'{path}: no JSON: {error}') from error
    if not isinstance(values, dict):
        raise LeRobotError(f'{path}: found {type(values).__name__}, expected named fields')
    version = values.get('codebase_version')
    if version not in VERSIONS:
        raise LeRobotError(
            f'{path}: codebase_version is {version!r}, expected {" or ".join(VERSIONS)}'
        )
    fps = _number(path, values, 'fps')
    if not 0 < fps <= 1000:
        raise LeRobotError(f'{path}: fps is {fps:g}, expected above 0, at most 1000')
    features = values.get('features')
    if not isinstance(features, dict):
        raise LeRobotError(f'{path}: features is {features!r}, expected named features')
    video_path = values.get('video_path')
    return DatasetInfo(
        root,
        str(version),
        fps,
        int(_number(path, values, 'total_episodes')),
        int(_number(path, values, 'total_frames')),
        _template(path, values, 'data_path'),
        None if video_path is None else _template(path, values, 'video_path'),
        max(1, int(values.get('chunks_size') or 1000)),
        {key: _feature(path, key, value) for key, value in features.items()},
    )


def _number(path: Path, values: Mapping[str, Any], field: str) -> float:
    value = values.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LeRobotError(f'{path}: {field} is {value!r}, expected a number')
    return float(value)


def _template(path: Path, values: Mapping[str, Any], field: str) -> str:
    value = values.get(field)
    if not isinstance(value, str) or not value:
        raise LeRobotError(f'{path}: {field} is {value!r}, expected the path of a file')
    return value


def _feature(path: Path, key: str, values: Any) -> Feature:
    where = f'{path}: features.{key}'
    if not isinstance(values, dict):
        raise LeRobotError(f'{where} is {values!r}, expected dtype, shape and names')
    dtype, shape = values.get('dtype'), values.get('shape')
    if dtype not in (*PICTURES, *NUMBERS):
        raise LeRobotError(
            f'{where}.dtype is {dtype!r}, expected one of {", ".join((*PICTURES, *NUMBERS))}'
        )
    if not isinstance(shape, list) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise LeRobotError(f'{where}.shape is {shape!r}, expected positive numbers')
    info = {**(values.get('video_info') or {}), **(values.get('info') or {})}
    is_depth = bool(info.get('is_depth_map') or info.get('video.is_depth_map'))
    names = _names(values.get('names'))
    width = shape[0] if shape else 1
    fit = len(shape) == 1 and len(set(names)) == len(names) == width
    return Feature(key, dtype, tuple(shape), names if fit else (), is_depth)


def _names(found: Any) -> tuple[str, ...]:
    """Flatten names: a list, {"motors": [...]} or {"x": 0, "y": 1}."""
    if isinstance(found, dict):
        if all(isinstance(value, int) for value in found.values()):
            return tuple(sorted(found, key=lambda name: found[name]))
        return tuple(name for value in found.values() for name in _names(value))
    if isinstance(found, list | tuple):
        return tuple(str(name) for name in found)
    return ()
