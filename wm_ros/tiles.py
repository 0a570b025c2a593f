"""Where the views of several cameras lie in the one square picture that a model sees.

Rows = ceil(sqrt(n)) and columns = ceil(n / rows): one camera fills the picture, two lie one above
the other (each twice as wide as high, a natural cut for 4:3 and 16:9 cameras), three and four take
a quarter each, row by row, and what no camera takes stays black. Plain arrays: nothing here knows
a camera, a contract or a message.

Axes: N cameras, S side of the square picture, H W pixels, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from wm_ros.datatypes import ImageArray

MOST_CAMERAS: Final = 4


def tile_grid(cameras: int) -> tuple[int, int]:
    """Return rows and columns of the tiles for N cameras."""
    rows = math.ceil(math.sqrt(cameras))
    return rows, math.ceil(cameras / rows)


def tile_aspect(cameras: int) -> int:
    """Return how many times wider than high a tile is: 2 for two cameras, else 1."""
    rows, columns = tile_grid(cameras)
    return rows // columns


def tile_size(cameras: int, size: int) -> tuple[int, int]:
    """Return (height, width) of a tile, px; `size` is S, which the grid must divide."""
    rows, columns = tile_grid(cameras)
    return size // rows, size // columns


def tile(views: Sequence[ImageArray], size: int) -> ImageArray:
    """Lay N views into one picture.

    Args:
        views: uint8 RGB [H, W, 3] of `tile_size`, in the order of the contract's cameras.
        size: S, px.

    Returns:
        uint8 RGB [S, S, 3].
    """
    picture_HWC = np.zeros((size, size, 3), np.uint8)
    for place_HWC, view_HWC in zip(untile(picture_HWC, len(views)), views, strict=True):
        place_HWC[:] = view_HWC
    return picture_HWC


def untile(picture_HWC: ImageArray, cameras: int) -> tuple[ImageArray, ...]:
    """Cut a picture, seen or predicted, into the views of N cameras.

    Args:
        picture_HWC: [S, S, C].
        cameras: N.

    Returns:
        N arrays [H, W, C] of `tile_size`, windows into `picture_HWC`; with one camera itself.
    """
    return tuple([picture_HWC[place] for place in tile_places(cameras, picture_HWC.shape[0])])


def tile_places(cameras: int, size: int) -> list[tuple[slice, slice]]:
    """Return rows and columns of each camera's tile in a picture of `size` px."""
    _, columns = tile_grid(cameras)
    height, width = tile_size(cameras, size)
    places = []
    for camera in range(cameras):
        top, left = camera // columns * height, camera % columns * width
        places.append((slice(top, top + height), slice(left, left + width)))
    return places
