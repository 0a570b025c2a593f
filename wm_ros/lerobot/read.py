"""Dataset: a LeRobot dataset v2.1 or v3.0, read one episode at a time.

In: its folder. Out: actions, state, tasks and timestamps as arrays, pictures as iterators. Knows
nothing of bags and contracts.

Axes: T frames of an episode, A action, D state, H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wm_ros.datatypes import FloatArray, ImageArray
from wm_ros.lerobot.info import DatasetInfo, Feature, LeRobotError, read_info
from wm_ros.lerobot.layout import Place, column_names, episode_places, read_table, task_texts
from wm_ros.lerobot.video import read_frames
from wm_ros.preprocess import decode_compressed
from wm_ros.rejection import RejectedInput


@dataclass(frozen=True)
class Episode:
    """One episode without its pictures.

    Attributes:
        index: its number.
        action_TA: float32 [T, A]; row t was commanded at frame t.
        state_TD: float32 [T, D], or None where the dataset has no state.
        seconds_T: float64 [T], timestamps from the beginning of the episode.
        tasks_T: what was to be done, per frame.
    """

    index: int
    action_TA: FloatArray
    state_TD: FloatArray | None
    seconds_T: npt.NDArray[np.float64]
    tasks_T: tuple[str, ...]

    @property
    def length(self) -> int:
        """T."""
        return len(self.seconds_T)


class Dataset:
    """A LeRobot dataset; only meta/ is read when it is opened.

    Args:
        root: its folder.

    Raises:
        LeRobotError: see `read_info` and `episode_places`.
    """

    def __init__(self, root: str | Path) -> None:
        self.info: DatasetInfo = read_info(Path(root))
        self._places: tuple[Place, ...] = episode_places(self.info)
        self._tasks = task_texts(self.info)

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self._places)

    def __iter__(self) -> Iterator[Episode]:
        """Yield the episodes in order."""
        return (self.episode(index) for index in range(len(self)))

    def episode(self, index: int) -> Episode:
        """Read the numbers of one episode.

        Raises:
            LeRobotError: no such episode; its file is missing, shorter than listed, or lacks a
                feature; frames out of order.
        """
        place = self._place(index)
        action, state = self.info.action, self.info.state
        columns = ['frame_index', 'timestamp', 'task_index', action.key]
        table = self._table(place, [*columns, *([state.key] if state else [])])
        frames = _column(table, 'frame_index', place).to_numpy()
        if not np.array_equal(frames, np.arange(len(frames))):
            raise LeRobotError(
                f'{place.data_path}: frame_index of episode {index} is not 0 to {len(frames) - 1}'
            )
        seconds_T = _column(table, 'timestamp', place).to_numpy().astype(np.float64)
        if not (np.diff(seconds_T) > 0).all():
            at = int(np.argmin(np.diff(seconds_T) > 0)) + 1
            raise LeRobotError(
                f'{place.data_path}: timestamp of frame {at} of episode {index} does not grow'
            )
        return Episode(
            index,
            _vectors(table, action, place),
            None if state is None else _vectors(table, state, place),
            seconds_T,
            tuple(self._task(number, place) for number in self._task_numbers(table, place)),
        )

    def frames(self, episode: Episode, camera: str) -> Iterator[ImageArray]:
        """Yield the pictures of a camera, uint8 RGB [H, W, 3].

        Raises:
            LeRobotError: a file is missing, damaged or too short, naming it and the frame.
        """
        place = self._place(episode.index)
        if self._camera(camera).dtype == 'video':
            path, from_s = place.videos[camera]
            where = f'{camera}, episode {episode.index}'
            yield from read_frames(path, from_s, episode.seconds_T, self.info.fps, where)
            return
        for number, data in enumerate(self.encoded(episode, camera)):
            try:
                yield decode_compressed(data, 'image')
            except RejectedInput as error:
                raise LeRobotError(
                    f'{place.data_path}: frame {number} of {camera}, episode {episode.index}: '
                    f'{error}'
                ) from error

    def encoded(self, episode: Episode, camera: str) -> Iterator[bytes]:
        """Yield the stored PNG or JPEG bytes of an image feature.

        Raises:
            LeRobotError: the feature is a video, or a frame has no bytes, naming it.
        """
        if self._camera(camera).dtype != 'image':
            raise LeRobotError(f'{self.info.path}: features.{camera} is no image but a video')
        place = self._place(episode.index)
        column = _column(self._table(place, ['frame_index', camera]), camera, place)
        for number, value in enumerate(column):
            yield self._image_bytes(value.as_py(), f'frame {number} of {camera}', place)

    def _image_bytes(self, value: object, where: str, place: Place) -> bytes:
        if isinstance(value, bytes):
            return value
        found = value if isinstance(value, dict) else {}
        if found.get('bytes'):
            return bytes(found['bytes'])
        path = self.info.root / str(found.get('path') or '')
        if found.get('path') and path.is_file():
            return path.read_bytes()
        raise LeRobotError(
            f'{place.data_path}: {where}, episode {place.index}, has no bytes and no file '
            f'(path {found.get("path")!r})'
        )

    def _camera(self, key: str) -> Feature:
        if key not in self.info.cameras:
            raise LeRobotError(
                f'{self.info.path}: features.{key} is no camera; cameras: '
                f'{", ".join(self.info.cameras) or "none"}'
            )
        return self.info.features[key]

    def _place(self, index: int) -> Place:
        if not 0 <= index < len(self._places):
            raise LeRobotError(f'{self.info.path}: no episode {index} of {len(self._places)}')
        return self._places[index]

    def _table(self, place: Place, columns: list[str]) -> pa.Table:
        """Read an episode's rows; columns that the file lacks are found missing by `_column`."""
        filters = [('episode_index', '=', place.index)]
        names = column_names(place.data_path)
        if 'episode_index' not in names:
            raise LeRobotError(f'{place.data_path}: no column episode_index')
        known = [name for name in columns if name in names]
        table = read_table(place.data_path, columns=known, filters=filters)
        if len(table) != place.length:
            raise LeRobotError(
                f'{place.data_path}: {len(table)} rows of episode {place.index}, '
                f'{place.meta_path} gives its length as {place.length}'
            )
        return table

    def _task_numbers(self, table: pa.Table, place: Place) -> list[int]:
        if 'task_index' not in table.column_names:
            return []
        return [int(number) for number in _column(table, 'task_index', place).to_pylist()]

    def _task(self, number: int, place: Place) -> str:
        if number not in self._tasks:
            raise LeRobotError(
                f'{place.data_path}: task_index {number} of episode {place.index} has no text '
                f'in {self.info.root / "meta"}'
            )
        return self._tasks[number]


def _column(table: pa.Table, name: str, place: Place) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise LeRobotError(f'{place.data_path}: no column {name}')
    column = table.column(name)
    if column.null_count:
        raise LeRobotError(f'{place.data_path}: {name} of episode {place.index} has gaps')
    return column


def _vectors(table: pa.Table, feature: Feature, place: Place) -> FloatArray:
    """Return a feature as float32 [T, width]; width 1 may be stored as plain numbers."""
    rows = _column(table, feature.key, place).to_pylist()
    values = [row if isinstance(row, list) else [row] for row in rows]
    wrong = next((at for at, row in enumerate(values) if len(row) != feature.width), None)
    if wrong is not None:
        raise LeRobotError(
            f'{place.data_path}: {feature.key} of frame {wrong}, episode {place.index}, has '
            f'{len(values[wrong])} entries, expected {feature.width}'
        )
    return np.array(values, np.float32).reshape(len(values), feature.width)
