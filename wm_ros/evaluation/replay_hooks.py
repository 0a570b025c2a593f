"""Measures of a replay that are parts of their own: perceptual distance, reappearing cells.

Here is what a replay asks of them; an installation that lacks one leaves its columns out.

Axes: B batch, H W pixels, C channels.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from wm_ros.backends import EngineUnavailable
from wm_ros.datatypes import ImageArray


class PerceptualDistance(Protocol):
    """Distance of pictures by the features of a network."""

    def embed(self, images_BHWC: ImageArray) -> Any:
        """Return the features of uint8 RGB pictures."""

    def between(self, a: Any, b: Any) -> npt.NDArray[np.float64]:
        """Return float64 [B] distances of two equally long batches of features."""


class Reappearance(Protocol):
    """A cell that shows again what it last showed `lag` frames ago.

    Attributes:
        row, column: of the cell.
        lag: frames since it was last seen.
        common: it is what the cell shows most often, such as background behind a passing arm.
        distinct: nothing like it was to be seen nearby one frame earlier.
    """

    @property
    def row(self) -> int: ...

    @property
    def column(self) -> int: ...

    @property
    def lag(self) -> int: ...

    @property
    def common(self) -> bool: ...

    @property
    def distinct(self) -> bool: ...


class ReappearanceFinder(Protocol):
    """Looks at one frame after the other and remembers what the cells showed."""

    def look(self, index: int, image_HWC: ImageArray) -> Sequence[Reappearance]:
        """Take a frame; return the cells that reappear in it."""

    def reset(self) -> None:
        """Forget everything: the stream begins anew."""


@dataclass(frozen=True)
class Hooks:
    """The measures that there are; None: left out. `cell_px` is the side of a reappearing cell."""

    perceptual: PerceptualDistance | None = None
    reappearances: ReappearanceFinder | None = None
    cell_px: int = 8


def installed(image_size_px: int, cell_px: int = 8) -> Hooks:
    """Return the measures of this installation, for square frames of a size."""
    perceptual = reappearances = None
    if found := _attribute('perceptual', 'Perceptual'):
        with suppress(EngineUnavailable):
            perceptual = cast(PerceptualDistance, found())
    found = _attribute('reappearance', 'Reappearances')
    if found and image_size_px % cell_px == 0:
        reappearances = cast(ReappearanceFinder, found(image_size_px, cell_px=cell_px))
    return Hooks(perceptual, reappearances, cell_px)


def _attribute(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(f'wm_ros.evaluation.{module}'), name)
    except ModuleNotFoundError:
        return None
