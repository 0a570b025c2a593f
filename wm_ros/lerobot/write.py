"""DatasetWriter: frames, actions and states into a LeRobot dataset v3.0.

In: one frame after the other, told where an episode ends. Out: the folder. Pictures go into MP4
files that many episodes share; only the rows of the running episode are kept.

Axes: A action, D state, H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wm_ros.datatypes import ImageArray
from wm_ros.lerobot.files import (
    CHUNK,
    DATA_MB,
    DATA_PATH,
    FILE,
    VIDEO_MB,
    VIDEO_PATH,
    DataFiles,
    VideoFiles,
    place_of,
    tasks_table,
    write_json,
    write_parquet,
)
from wm_ros.lerobot.info import INFO, LeRobotError
from wm_ros.lerobot.layout import V30_EPISODES, V30_TASKS
from wm_ros.lerobot.statistics import Statistics

ACTION, STATE = 'action', 'observation.state'
COUNTERS = {'timestamp': 'float32'} | dict.fromkeys(
    ('frame_index', 'episode_index', 'index', 'task_index'), 'int64'
)


class DatasetWriter:
    """Writes one dataset. Use it as a context manager, or call `close`.

    Args:
        root: its folder; must not exist.
        fps: frames per second.
        cameras: feature key -> (height, width) of its pictures, px.
        action_names: one per entry of the action.
        state_names: one per entry of the state; empty for no state.
        robot: what `robot_type` says.

    Raises:
        LeRobotError: the folder exists.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        fps: float,
        cameras: Mapping[str, tuple[int, int]],
        action_names: Sequence[str],
        state_names: Sequence[str] = (),
        robot: str | None = None,
    ) -> None:
        self.root, self.fps, self._robot = Path(root), fps, robot
        if self.root.exists():
            raise LeRobotError(f'{self.root} exists: give another folder')
        (self.root / 'meta').mkdir(parents=True)
        self._cameras = {
            key: VideoFiles(self.root, key, fps, size) for key, size in cameras.items()
        }
        names = {ACTION: tuple(action_names), STATE: tuple(state_names)}
        self._vectors = {key: found for key, found in names.items() if found}
        self._statistics = {key: Statistics(len(found)) for key, found in self._vectors.items()}
        self._statistics |= {key: Statistics(1) for key in COUNTERS}
        self._statistics |= {key: Statistics(3, is_picture=True) for key in cameras}
        self._data = DataFiles(self.root, self._schema())
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._rows: dict[str, list[Any]] = {key: [] for key in (*self._vectors, 'task_index')}
        self.frames = 0  # of finished episodes
        self.is_open = True

    def add_frame(
        self,
        images: Mapping[str, ImageArray],
        action_A: npt.ArrayLike,
        state_D: npt.ArrayLike | None = None,
        task: str = '',
    ) -> None:
        """Append one frame to the running episode.

        Args:
            images: camera key -> uint8 RGB [H, W, 3].
            action_A: commanded at this frame, stored as float32.
            state_D: measured at it.
            task: what is to be done.

        Raises:
            LeRobotError: a picture is missing or of another size, a vector of another width.
        """
        where = f'{self.root}: episode {len(self._episodes)}, frame {len(self._rows[ACTION])}'
        for key, camera in self._cameras.items():
            image_HWC = images.get(key)
            if image_HWC is None or image_HWC.shape != (*camera.size, 3):
                found = 'no picture' if image_HWC is None else f'shape {image_HWC.shape}'
                raise LeRobotError(f'{where}: {key}: {found}, expected {(*camera.size, 3)}')
        for key, value in ((ACTION, action_A), (STATE, state_D)):
            width = len(self._vectors.get(key, ()))
            row = np.zeros(0, np.float32) if value is None else np.asarray(value, np.float32)
            if row.shape != (width,):
                raise LeRobotError(f'{where}: {key} of shape {row.shape}, expected {(width,)}')
            if width:
                self._rows[key].append(row)
        for key, camera in self._cameras.items():
            camera.write(images[key])
            self._statistics[key].add_picture(images[key])
        self._rows['task_index'].append(self._tasks.setdefault(task, len(self._tasks)))

    def end_episode(self) -> None:
        """Finish the running episode; without a frame since the last one nothing happens."""
        length, index = len(self._rows['task_index']), len(self._episodes)
        if not length:
            return
        texts = {number: text for text, number in self._tasks.items()}
        columns = {
            **{key: np.stack(self._rows[key]) for key in self._vectors},
            'timestamp': (np.arange(length) / self.fps).astype(np.float32),
            'frame_index': np.arange(length),
            'episode_index': np.full(length, index),
            'index': np.arange(self.frames, self.frames + length),
            'task_index': np.array(self._rows['task_index']),
        }
        for key, values in columns.items():
            self._statistics[key].add(values)
        entry: dict[str, Any] = {
            'episode_index': index,
            'tasks': [texts[number] for number in dict.fromkeys(self._rows['task_index'])],
            'length': length,
            'dataset_from_index': self.frames,
            'dataset_to_index': self.frames + length,
            **_numbered('data', self._data.write(columns)),
            **_numbered('meta/episodes', 0),
        }
        for key, camera in self._cameras.items():
            file, from_frame = camera.end_episode(length)
            entry |= _numbered(f'videos/{key}', file)
            entry[f'videos/{key}/from_timestamp'] = from_frame / self.fps
            entry[f'videos/{key}/to_timestamp'] = (from_frame + length) / self.fps
        self._episodes.append(entry)
        self.frames += length
        for rows in self._rows.values():
            rows.clear()

    def close(self) -> None:
        """Write meta/; a running episode that was not ended is left out. Twice does nothing."""
        if not self.is_open:
            return
        self.is_open = False
        self._data.close()
        for camera in self._cameras.values():
            camera.close()
        write_parquet(self.root / V30_TASKS, tasks_table(self._tasks))
        if self._episodes:
            path = self.root / V30_EPISODES / f'{FILE.format(chunk_index=0, file_index=0)}.parquet'
            write_parquet(path, pa.Table.from_pylist(self._episodes))
        values = {key: found.values() for key, found in self._statistics.items()}
        write_json(self.root / 'meta/stats.json', values)
        write_json(self.root / INFO, self._info())

    @property
    def episodes(self) -> int:
        """Finished episodes."""
        return len(self._episodes)

    def __enter__(self) -> DatasetWriter:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it, also after an error."""
        self.close()

    def _schema(self) -> pa.Schema:
        # One entry is a plain number, as the `datasets` library has it for shape (1,).
        one = pa.float32()
        fields = [
            (key, one if len(names) == 1 else pa.list_(one, len(names)))
            for key, names in self._vectors.items()
        ]
        return pa.schema([*fields, *((key, pa.type_for_alias(t)) for key, t in COUNTERS.items())])

    def _info(self) -> dict[str, Any]:
        fps = int(self.fps) if self.fps == int(self.fps) else self.fps
        features: dict[str, Any] = {
            key: {'dtype': 'float32', 'shape': [len(names)], 'names': list(names)}
            for key, names in self._vectors.items()
        }
        features |= {key: camera.feature(fps) for key, camera in self._cameras.items()}
        features |= {
            key: {'dtype': dtype, 'shape': [1], 'names': None} for key, dtype in COUNTERS.items()
        }
        return {
            'codebase_version': 'v3.0',
            'robot_type': self._robot,
            'total_episodes': len(self._episodes),
            'total_frames': self.frames,
            'total_tasks': len(self._tasks),
            'chunks_size': CHUNK,
            'data_files_size_in_mb': DATA_MB,
            'video_files_size_in_mb': VIDEO_MB,
            'fps': fps,
            'splits': {'train': f'0:{len(self._episodes)}'},
            'data_path': DATA_PATH,
            'video_path': VIDEO_PATH if self._cameras else None,
            'features': features,
        }


def _numbered(kind: str, file: int) -> dict[str, int]:
    return {f'{kind}/{name}': number for name, number in place_of(file).items()}
