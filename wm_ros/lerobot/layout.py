"""Where the episodes of a LeRobot dataset lie: v2.1 (a file each) and v3.0 (many in a file).

In: a dataset's info. Out: per episode its length and files, and the tasks. Reads meta/ only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wm_ros.lerobot.info import DatasetInfo, LeRobotError

V21_EPISODES, V21_TASKS = 'meta/episodes.jsonl', 'meta/tasks.jsonl'
V30_EPISODES, V30_TASKS = 'meta/episodes', 'meta/tasks.parquet'


@dataclass(frozen=True)
class Place:
    """One episode: its number, its frames, the parquet file, and per video the file and the
    second in it at which the episode begins. `meta_path` is the file that says so.
    """

    index: int
    length: int
    data_path: Path
    videos: Mapping[str, tuple[Path, float]]
    meta_path: Path


def episode_places(info: DatasetInfo) -> tuple[Place, ...]:
    """List the episodes by number.

    Raises:
        LeRobotError: meta files are missing or damaged, or disagree with info.json.
    """
    places = _places_v30(info) if info.version == 'v3.0' else _places_v21(info)
    indices = [place.index for place in places]
    if indices != list(range(info.episodes)):
        raise LeRobotError(
            f'{info.path}: total_episodes is {info.episodes}, {places[0].meta_path} lists '
            f'{len(indices)}'
            if places
            else f'{info.path}: total_episodes is {info.episodes}, but no episode is listed'
        )
    frames = sum(place.length for place in places)
    if frames != info.frames:
        raise LeRobotError(
            f'{info.path}: total_frames is {info.frames}, the episodes have {frames}'
        )
    return places


def task_texts(info: DatasetInfo) -> dict[int, str]:
    """Return task number -> its text.

    Raises:
        LeRobotError: the file is missing or damaged.
    """
    if info.version == 'v3.0':
        path = info.root / V30_TASKS
        rows = read_table(path).to_pylist()
        # The text is the index of a pandas table, named or not.
        text_of = [key for key in (rows[0] if rows else {}) if key != 'task_index']
        key = 'task' if 'task' in text_of else next(iter(text_of), 'task')
    else:
        path, key = info.root / V21_TASKS, 'task'
        rows = _lines(path)
    return {int(_of(row, 'task_index', path)): str(_of(row, key, path)) for row in rows}


def read_table(path: Path, **options: Any) -> pa.Table:
    """Read a parquet file; `options` as of `pyarrow.parquet.read_table`.

    Raises:
        LeRobotError: missing or damaged.
    """
    return _parquet(pq.read_table, path, **options)


def column_names(path: Path) -> list[str]:
    """Return the columns of a parquet file.

    Raises:
        LeRobotError: missing or damaged.
    """
    return list(_parquet(pq.read_schema, path).names)


def _parquet(read: Callable[..., Any], path: Path, **options: Any) -> Any:
    if not path.is_file():
        raise LeRobotError(f'{path} is missing')
    try:
        return read(path, **options)
    except (pa.ArrowException, OSError) as error:
        raise LeRobotError(f'{path}: cannot be read: {error}') from error


def _places_v21(info: DatasetInfo) -> tuple[Place, ...]:
    path = info.root / V21_EPISODES
    places = []
    for row in _lines(path):
        index = int(_of(row, 'episode_index', path))
        chunk = index // info.chunks_size
        videos = {
            key: (
                _filled(info, 'video_path', episode_chunk=chunk, episode_index=index,
                        video_key=key),
                0.0,
            )
            for key in _videos(info)
        }  # fmt: skip
        data = _filled(info, 'data_path', episode_chunk=chunk, episode_index=index)
        places.append(Place(index, int(_of(row, 'length', path)), data, videos, path))
    return tuple(sorted(places, key=lambda place: place.index))


def _places_v30(info: DatasetInfo) -> tuple[Place, ...]:
    folder = info.root / V30_EPISODES
    paths = sorted(folder.glob('*/*.parquet'))
    if not paths:
        raise LeRobotError(f'{folder} holds no parquet file')
    places = []
    for path in paths:
        wanted = [name for name in column_names(path) if not name.startswith('stats/')]
        for row in read_table(path, columns=wanted).to_pylist():
            videos = {
                key: (
                    _filled(
                        info, 'video_path', video_key=key, **_file(row, f'videos/{key}', path)
                    ),
                    float(_of(row, f'videos/{key}/from_timestamp', path)),
                )
                for key in _videos(info)
            }
            data = _filled(info, 'data_path', **_file(row, 'data', path))
            index, length = _of(row, 'episode_index', path), _of(row, 'length', path)
            places.append(Place(int(index), int(length), data, videos, path))
    return tuple(sorted(places, key=lambda place: place.index))


def _file(row: Mapping[str, Any], kind: str, path: Path) -> dict[str, int]:
    return {name: int(_of(row, f'{kind}/{name}', path)) for name in ('chunk_index', 'file_index')}


def _videos(info: DatasetInfo) -> list[str]:
    return [key for key in info.cameras if info.features[key].dtype == 'video']


def _filled(info: DatasetInfo, field: str, **values: Any) -> Path:
    template = getattr(info, field)
    if template is None:
        raise LeRobotError(f'{info.path}: {field} is missing, but there are video features')
    try:
        return info.root / template.format(**values)
    except (KeyError, IndexError, ValueError) as error:
        raise LeRobotError(
            f'{info.path}: {field} is {template!r}, known are {", ".join(values)}: {error}'
        ) from error


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise LeRobotError(f'{path} is missing')
    rows = []
    for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise LeRobotError(f'{path}: line {number}: {error}') from error
    return rows


def _of(row: Mapping[str, Any], field: str, path: Path) -> Any:
    if row.get(field) is None:
        raise LeRobotError(f'{path}: no {field}, found {", ".join(row)}')
    return row[field]
