"""The cameras of a contract together: may they share one picture, what are they called, do two
robots' cameras mean the same?

In: the contract's camera sources. Nothing here reads a message or moves a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

from wm_ros.sources import CameraSource, require
from wm_ros.tiles import MOST_CAMERAS, tile_aspect, tile_grid, tile_size


def check_cameras(cameras: Sequence[CameraSource], size: int) -> None:
    """Check number, picture size and crops.

    Args:
        cameras: in the contract's order.
        size: S, px.

    Raises:
        ContractError: none or too many, a size that the tiles do not divide, a crop that has not
            the shape of its tile.
    """
    count = len(cameras)
    require(1 <= count <= MOST_CAMERAS, f'{count} cameras: expected 1 to {MOST_CAMERAS}')
    rows, columns = tile_grid(count)
    require(
        size % rows == size % columns == 0,
        f'image_size is {size}: {count} cameras share it in {rows} rows, expected a multiple '
        f'of {rows}',
    )
    (height, width), aspect = tile_size(count, size), tile_aspect(count)
    shape = 'a square' if aspect == 1 else f'{aspect} times wider than high'
    for camera in cameras:
        if camera.crop is not None:
            require(
                camera.crop.width == aspect * camera.crop.height,
                f'crop of {camera.topic} is {camera.crop.width} x {camera.crop.height} px: '
                f'expected {shape}, as its {width} x {height} px of the image',
            )


def camera_names(cameras: Sequence[CameraSource]) -> tuple[str, ...]:
    """Return a short name for each: the last part of its topic that no other camera's topic has;
    where one has none, they are `camera_1`, `camera_2` and so on.
    """
    parts = [_of_camera(camera).split('/') for camera in cameras]
    names = []
    for i, mine in enumerate(parts):
        others = {part for j, theirs in enumerate(parts) if j != i for part in theirs}
        own = [part for part in mine if part and part not in others]
        names.append(own[-1] if own else '')
    return tuple(names if all(names) else [f'camera_{i + 1}' for i in range(len(parts))])


def camera_differences(mine: Sequence[CameraSource], theirs: Sequence[CameraSource]) -> list[str]:
    """List what makes a picture mean something else: number, order, crops.

    Topics may be called otherwise; one that both robots have says which camera is meant.
    """
    if len(mine) != len(theirs):
        return [f'cameras: {len(mine)} against {len(theirs)}']
    left, right = [[_of_camera(camera) for camera in side] for side in (mine, theirs)]
    if any(topic in right and right.index(topic) != i for i, topic in enumerate(left)):
        return [f'order of the cameras: {", ".join(left)} against {", ".join(right)}']
    return [
        f'crop of {a.topic}: {a.crop} against {b.crop}'
        for a, b in zip(mine, theirs, strict=True)
        if a.crop != b.crop
    ]


def _of_camera(camera: CameraSource) -> str:
    """Return the camera's topic whichever way its pictures are sent."""
    return camera.topic.removesuffix('/compressed')
