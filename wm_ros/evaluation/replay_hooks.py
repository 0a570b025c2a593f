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
from wm_ros.evaluation.metrics import BoolArray
from wm_ros.evaluation.perceptual import LARGEST_PX, SMALLEST_PX, Perceptual
from wm_ros.evaluation.reappearance import Reappearance, Reappearances
from wm_ros.evaluation.replay_pixels import MaskArray
from wm_ros.tiles import tile_size

CELL_PX = 8


class PerceptualDistance(Protocol):
    """Distance of pictures by the features of a network (`perceptual.Perceptual`)."""

    def embed(self, images_BHWC: ImageArray) -> Any:
        """Return the features of uint8 RGB pictures."""

    def between(
        self, a: Any, b: Any, masks_BHW: BoolArray | None = None
    ) -> npt.NDArray[np.float64]:
        """Return float64 [B] distances of two equally long batches of features, over the masks."""


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


def distances(
    perceptual: PerceptualDistance, a: Any, b: Any, mask_HW: MaskArray
) -> tuple[float | None, float]:
    """Return the distance of two pictures' features over the mask, None where it is empty, and
    over the whole frame.
    """
    (whole,) = perceptual.between(a, b)
    if not mask_HW.any():
        return None, float(whole)
    (masked,) = perceptual.between(a, b, mask_HW[None] > 0)
    return float(masked), float(whole)


def installed(image_size_px: int, cameras: int = 1) -> Hooks:
    """Return the measures of this installation, for square frames that so many cameras share."""
    perceptual, reappearances, left_out = None, None, list[str]()
    height_px, width_px = tile_size(cameras, image_size_px)
    found = f'pictures of {width_px} x {height_px} px'
    try:
        perceptual = Perceptual()
    except EngineUnavailable as error:
        left_out.append(f'perceptual distance: {error}')
    if not SMALLEST_PX <= height_px <= width_px <= LARGEST_PX:
        perceptual = None
        left_out.append(f'perceptual distance: {found}, expected {SMALLEST_PX} to {LARGEST_PX}')
    if height_px % CELL_PX or width_px % CELL_PX:
        left_out.append(f'lags: {found} are not whole cells of {CELL_PX} px')
    else:
        reappearances = Reappearances(image_size_px, cell_px=CELL_PX)
    return Hooks(perceptual, reappearances, CELL_PX, tuple(left_out))
