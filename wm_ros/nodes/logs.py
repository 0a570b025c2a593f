"""Small CSV logs of instants, one flushed line per event: a kill loses nothing already written."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TextIO


def open_lines(path: str) -> TextIO:
    """Open a text file for writing, its directory made, every line flushed."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return open(path, 'w', buffering=1)  # noqa: PTH123  the caller closes it


class CsvLog:
    """Append rows of numbers to a file; an empty path makes a log that writes nothing."""

    def __init__(self, path: str, columns: tuple[str, ...]) -> None:
        self._file: TextIO | None = None
        if path:
            self._file = open_lines(path)
            self._file.write(','.join(columns) + '\n')

    @property
    def enabled(self) -> bool:
        """Whether rows go anywhere."""
        return self._file is not None

    def write(self, *values: float) -> None:
        """Append one row."""
        if self._file is not None:
            self._file.write(','.join(str(value) for value in values) + '\n')

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_log(path: Path) -> list[dict[str, float]]:
    """Return the rows of a log, by column name; a last line cut by a kill is left out."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return [
        {name: float(value) if '.' in value else int(value) for name, value in row.items()}
        for row in rows
        if all(row.values())
    ]
