"""Measures of a replay that an installation may lack: perceptual distance, reappearing cells.

Axes: B batch, H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from wm_ros.backends import EngineUnavailable
from wm_ros.datatypes import ImageArray
from wm_ros.evaluation.perceptual import Perceptual
from wm_ros.evaluation.reappearance import Reappearance, Reappearances

CELL_PX = 8


class PerceptualDistance(Protocol):
    """Distance of pictures by the features of a network (`perceptual.Perceptual`)."""

    def embed(self, images_BHWC: ImageArray) -> Any:
        """Return the features of uint8 RGB pictures."""

    def between(self, a: Any, b: Any) -> npt.NDArray[np.float64]:
        """Return float64 [B] distances of two equally long batches of features."""


class ReappearanceFinder(Protocol):
    """Looks at one frame after the other (`reappearance.Reappearances`)."""

    def look(self, index: int, image_HWC: ImageArray) -> Sequence[Reappearance]:
        """Take a frame; return the cells that reappear in it."""

    def reset(self) -> None:
        """Forget everything: the stream begins anew."""


@dataclass(frozen=True)
class Hooks:
    """The measures that there are; None: left out.

    Attributes:
        perceptual, reappearances: the measures.
        cell_px: side of a reappearing cell.
        left_out: what is left out, and why.
    """

    perceptual: PerceptualDistance | None = None
    reappearances: ReappearanceFinder | None = None
    cell_px: int = CELL_PX
    left_out: tuple[str, ...] = ()


def installed(image_size_px: int) -> Hooks:
    """Return the measures of this installation, for square frames of a size."""
    perceptual, reappearances, left_out = None, None, list[str]()
    try:
        perceptual = Perceptual()
    except EngineUnavailable as error:
        left_out.append(f'perceptual distance: {error}')
    if image_size_px % CELL_PX:
        left_out.append(f'lags: frames of {image_size_px} px are not whole cells of {CELL_PX} px')
    else:
        reappearances = Reappearances(image_size_px, cell_px=CELL_PX)
    return Hooks(perceptual, reappearances, CELL_PX, tuple(left_out))
