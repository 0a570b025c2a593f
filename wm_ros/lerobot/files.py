"""The files that a dataset v3.0 is made of, each begun anew when it has grown large.

In: rows and pictures of one episode after the other. Out: files below the root, and in which of
them, and where, an episode lies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wm_ros.datatypes import ImageArray
from wm_ros.lerobot.video import VideoWriter

CHUNK, DATA_MB, VIDEO_MB = 1000, 100, 200  # files per folder, size at which a new file begins
FILE = 'chunk-{chunk_index:03d}/file-{file_index:03d}'
DATA_PATH, VIDEO_PATH = f'data/{FILE}.parquet', f'videos/{{video_key}}/{FILE}.mp4'


def place_of(file: int) -> dict[str, int]:
    """Return chunk and file index of the n-th file."""
    return {'chunk_index': file // CHUNK, 'file_index': file % CHUNK}


class DataFiles:
    """The rows: one row group per episode."""

    def __init__(self, root: Path, schema: pa.Schema) -> None:
        self._root, self._schema = root, schema
        self._file = 0
        self._writer: pq.ParquetWriter | None = None

    def write(self, columns: Mapping[str, np.ndarray]) -> int:
        """Append one episode; return the number of the file it went into."""
        path = self._root / DATA_PATH.format(**place_of(self._file))
        if self._writer is not None and path.stat().st_size > DATA_MB * 2**20:
            self.close()
            self._file += 1
            path = self._root / DATA_PATH.format(**place_of(self._file))
        if self._writer is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(path, self._schema)
        arrays = [_array(columns[field.name], field.type) for field in self._schema]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        return self._file

    def close(self) -> None:
        """Finish the file that is open."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class VideoFiles:
    """The pictures of one camera: `size` is (height, width), px."""

    def __init__(self, root: Path, key: str, fps: float, size: tuple[int, int]) -> None:
        self.size, self._root, self._key, self._fps = size, root, key, fps
        self._file = 0
        self._writer: VideoWriter | None = None
        self._pix_fmt = ''

    def write(self, image_HWC: ImageArray) -> None:
        """Append one picture."""
        if self._writer is None:
            path = self._root / VIDEO_PATH.format(video_key=self._key, **place_of(self._file))
            self._writer = VideoWriter(path, self._fps, *self.size)
            self._pix_fmt = self._writer.pix_fmt
        self._writer.write(image_HWC)

    def end_episode(self, length: int) -> tuple[int, int]:
        """Return the file that the last `length` pictures are in, and the first one's number."""
        assert self._writer is not None
        found = self._file, self._writer.frames - length
        if self._writer.bytes > VIDEO_MB * 2**20:
            self.close()
            self._file += 1
        return found

    def close(self) -> None:
        """Finish the file that is open."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def feature(self, fps: float) -> dict[str, Any]:
        """Return the entry of info.json."""
        height, width = self.size
        info = {
            'video.height': height,
            'video.width': width,
            'video.codec': 'h264',
            'video.pix_fmt': self._pix_fmt,
            'video.is_depth_map': False,
            'video.fps': fps,
            'video.channels': 3,
            'has_audio': False,
        }
        names = ['height', 'width', 'channels']
        return {'dtype': 'video', 'shape': [height, width, 3], 'names': names, 'info': info}


def tasks_table(tasks: Mapping[str, int]) -> pa.Table:
    """Return task text -> number as pandas would write it: the text is the index."""
    text = {'pandas_type': 'unicode', 'numpy_type': 'object', 'metadata': None}
    number = {'pandas_type': 'int64', 'numpy_type': 'int64', 'metadata': None}
    pandas = {
        'index_columns': ['task'],
        'column_indexes': [{'name': None, 'field_name': None, **text}],
        'columns': [
            {'name': 'task_index', 'field_name': 'task_index', **number},
            {'name': 'task', 'field_name': 'task', **text},
        ],
        'pandas_version': '2.2.0',
    }
    table = pa.table(
        {
            'task_index': pa.array(list(tasks.values()), pa.int64()),
            'task': pa.array(list(tasks), pa.string()),
        }
    )
    return table.replace_schema_metadata({'pandas': json.dumps(pandas)})


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write values as indented JSON."""
    path.write_text(json.dumps(values, indent=4) + '\n', encoding='utf-8')


def _array(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(values.reshape(-1), kind.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
    return pa.array(values.reshape(-1), kind)
