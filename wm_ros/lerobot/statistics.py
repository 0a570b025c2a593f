"""Running statistics of features, as meta/stats.json holds them.

In: arrays, piece by piece. Out: min, max, mean, std and count per entry. Keeps no data.

Axes: N rows of a piece, E entries (for pictures the three colours, scaled to 0 to 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import ImageArray


class Statistics:
    """Of one feature with E entries: `add` pieces, then `values`."""

    def __init__(self, width: int, is_picture: bool = False) -> None:
        self._is_picture = is_picture
        self._frames = 0
        self._rows = 0  # frames, or their pixels
        self._low_E = np.full(width, np.inf)
        self._high_E = np.full(width, -np.inf)
        self._mean_E = np.zeros(width)
        self._squares_E = np.zeros(width)  # sum of squared deviations from the mean

    def add(self, values_NE: npt.ArrayLike) -> None:
        """Add rows [N, E], or [N] for one entry."""
        rows_NE = np.asarray(values_NE, np.float64)
        self._add(rows_NE.reshape(len(rows_NE), -1), len(rows_NE))

    def add_picture(self, image_HWC: ImageArray) -> None:
        """Add one uint8 picture [H, W, 3]."""
        self._add(image_HWC.reshape(-1, 3) / 255.0, 1)

    def _add(self, rows_NE: npt.NDArray[np.float64], frames: int) -> None:
        """Join means and squared deviations of two sets (Chan et al. 1979)."""
        size, before = len(rows_NE), self._rows
        mean_E = rows_NE.mean(0)
        apart_E = mean_E - self._mean_E
        self._squares_E += ((rows_NE - mean_E) ** 2).sum(0)
        self._squares_E += apart_E**2 * before * size / (before + size)
        self._mean_E += apart_E * size / (before + size)
        self._low_E = np.minimum(self._low_E, rows_NE.min(0))
        self._high_E = np.maximum(self._high_E, rows_NE.max(0))
        self._rows += size
        self._frames += frames

    def values(self) -> dict[str, Any]:
        """Return plain lists, those of a picture of shape [3, 1, 1]; nothing before any data."""
        if not self._rows:
            return {}
        found = {
            'min': self._low_E,
            'max': self._high_E,
            'mean': self._mean_E,
            'std': np.sqrt(self._squares_E / self._rows),
        }
        shape = (-1, 1, 1) if self._is_picture else (-1,)
        listed = {name: value_E.reshape(shape).tolist() for name, value_E in found.items()}
        return {**listed, 'count': [self._frames]}
