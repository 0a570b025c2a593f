"""From the bytes of an image message to what the model sees, and back: live, bags and training.

Functions take plain fields, never a message. A bad image raises `RejectedInput` with a reason to
count.

Axes: B batch, C channels, H W pixels, S side of the model's square image. `aspect`: how many times
wider than high a camera's place in that image is (tiles.py), 1 where there is one camera.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import FloatArray, ImageArray
from wm_ros.rejection import RejectedInput, RejectReason
from wm_ros.sources import CropBox

# encoding -> channels, bytes per value, OpenCV's code to RGB (None: it is RGB already)
ENCODINGS: Final[dict[str, tuple[int, int, int | None]]] = {
    'rgb8': (3, 1, None),
    'bgr8': (3, 1, cv2.COLOR_BGR2RGB),
    '8UC3': (3, 1, cv2.COLOR_BGR2RGB),
    'rgba8': (4, 1, cv2.COLOR_RGBA2RGB),
    'bgra8': (4, 1, cv2.COLOR_BGRA2RGB),
    '8UC4': (4, 1, cv2.COLOR_BGRA2RGB),
    'mono8': (1, 1, cv2.COLOR_GRAY2RGB),
    '8UC1': (1, 1, cv2.COLOR_GRAY2RGB),
    'mono16': (1, 2, cv2.COLOR_GRAY2RGB),
    '16UC1': (1, 2, cv2.COLOR_GRAY2RGB),
    'rgb16': (3, 2, None),
    'bgr16': (3, 2, cv2.COLOR_BGR2RGB),
}
MAX_PIXELS: Final = 64 * 1024 * 1024
JPEG_START, JPEG_END = b'\xff\xd8', b'\xff\xd9'
PNG_START, PNG_END = b'\x89PNG', b'IEND'


def decode_raw(
    data: Any, height: int, width: int, step: int, encoding: str, is_bigendian: bool
) -> ImageArray:
    """Turn the fields of a sensor_msgs/msg/Image into RGB.

    Args:
        data: the image bytes (bytes, array or numpy), `height * step` of them.
        height: rows, px.
        width: columns, px.
        step: bytes from one row to the next; more than the row itself means padding.
        encoding: one of `ENCODINGS`. 16-bit values keep their high byte.
        is_bigendian: byte order of 16-bit values.

    Returns:
        uint8 RGB [height, width, 3].

    Raises:
        RejectedInput: encoding, size or padding.
    """
    if encoding not in ENCODINGS:
        raise RejectedInput(
            RejectReason.ENCODING, f'encoding {encoding!r}, expected one of {", ".join(ENCODINGS)}'
        )
    channels, value_bytes, to_rgb = ENCODINGS[encoding]
    _check_size(height, width)
    row_bytes = width * channels * value_bytes
    if step < row_bytes:
        raise RejectedInput(
            RejectReason.PADDING,
            f'step {step} B, expected at least {row_bytes} for {width} px of {encoding}',
        )
    values = np.frombuffer(data, np.uint8)
    if values.size != height * step:
        raise RejectedInput(
            RejectReason.SIZE,
            f'{values.size} B of data, expected {height} rows x {step} B = {height * step}',
        )
    rows = values.reshape(height, step)[:, :row_bytes].reshape(
        height, width, channels, value_bytes
    )
    image_HWC = np.ascontiguousarray(rows[..., 0 if value_bytes == 1 or is_bigendian else 1])
    return image_HWC if to_rgb is None else _as_image(cv2.cvtColor(image_HWC, to_rgb))


def decode_compressed(data: Any, image_format: str) -> ImageArray:
    """Decode the JPEG or PNG bytes of a sensor_msgs/msg/CompressedImage.

    Args:
        data: the compressed bytes (bytes, array or numpy).
        image_format: the message's `format`, such as `jpeg` or `bgr8; png compressed bgr8`.

    Returns:
        uint8 RGB [height, width, 3].

    Raises:
        RejectedInput: another format, or bytes that are cut short or cannot be decoded.
    """
    values = np.frombuffer(data, np.uint8)
    head, tail = values[:4].tobytes(), values[-1024:].tobytes()
    is_jpeg, is_png = head.startswith(JPEG_START), head.startswith(PNG_START)
    if 'compressedDepth' in image_format or not (is_jpeg or is_png):
        raise RejectedInput(
            RejectReason.ENCODING,
            f'compressed format {image_format!r} beginning with '
            f'{head.hex() or "nothing"}, expected JPEG or PNG',
        )
    if (JPEG_END if is_jpeg else PNG_END) not in tail:
        raise RejectedInput(
            RejectReason.DECODE, f'{image_format!r} image of {values.size} B is cut short'
        )
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image_HWC = cv2.imdecode(values, flags)
    except cv2.error as error:
        raise RejectedInput(RejectReason.DECODE, f'{image_format!r} image: {error}') from error
    if image_HWC is None:
        raise RejectedInput(
            RejectReason.DECODE, f'{image_format!r} image of {values.size} B: unreadable'
        )
    _check_size(*image_HWC.shape[:2])
    return _as_image(image_HWC)


def crop_box(height: int, width: int, crop: CropBox | None, aspect: int = 1) -> CropBox:
    """Return the box to cut from an image: the contract's, or the largest centred one.

    Args:
        height: rows of the image, px.
        width: columns of the image, px.
        crop: the contract's box, None for the largest centred one.
        aspect: width over height of that one.

    Raises:
        RejectedInput: the box does not lie inside the image.
    """
    if crop is None:
        rows = min(height, width // aspect)
        columns = aspect * rows
        if rows:
            return CropBox((width - columns) // 2, (height - rows) // 2, columns, rows)
        raise RejectedInput(
            RejectReason.SIZE, f'image of {width} x {height} px, expected {aspect} x 1 px or more'
        )
    if crop.left + crop.width > width or crop.top + crop.height > height:
        raise RejectedInput(
            RejectReason.SIZE, f'image of {width} x {height} px, expected to hold {crop}'
        )
    return crop


def crop_resize(
    image_HWC: ImageArray, crop: CropBox | None, size: int, aspect: int = 1
) -> ImageArray:
    """Cut the box and bring it to `size` px: area mean when shrinking, linear when enlarging.

    Args:
        image_HWC: uint8 RGB [H, W, 3].
        crop: the contract's box, None for the largest centred one.
        size: width of the result, px: S, or that of a tile.
        aspect: width over height of the result; `crop` has the same.

    Returns:
        uint8 RGB [size / aspect, size, 3], contiguous.
    """
    box = crop_box(image_HWC.shape[0], image_HWC.shape[1], crop, aspect)
    part_HWC = image_HWC[box.top : box.top + box.height, box.left : box.left + box.width]
    if box.width == size:
        return np.ascontiguousarray(part_HWC)
    how = cv2.INTER_AREA if box.width > size else cv2.INTER_LINEAR
    return _as_image(cv2.resize(part_HWC, (size, size // aspect), interpolation=how))


def crop_intrinsics(
    k_33: npt.ArrayLike,
    height: int,
    width: int,
    crop: CropBox | None,
    size: int,
    aspect: int = 1,
) -> npt.NDArray[np.float64]:
    """Scale a camera matrix to its view in the model's image, pixel centres at integers.

    A box has the shape of its view, so x and y have the same scale.

    Args:
        k_33: K of the camera image, [3, 3] (or its 9 numbers in rows), px.
        height: rows of the camera image.
        width: columns of the camera image.
        crop: as in `crop_resize`.
        size: as in `crop_resize`.
        aspect: as in `crop_resize`.

    Returns:
        float64 [3, 3], K of the view of `size` px in width, (0, 0) its own corner.
    """
    box = crop_box(height, width, crop, aspect)
    scale = size / box.width
    to_view_33 = np.array(
        [
            [scale, 0, (0.5 - box.left) * scale - 0.5],
            [0, scale, (0.5 - box.top) * scale - 0.5],
            [0, 0, 1],
        ]
    )
    return to_view_33 @ np.asarray(k_33, np.float64).reshape(3, 3)


def to_model(images_BHWC: ImageArray) -> FloatArray:
    """Scale uint8 RGB [B, S, S, 3] to float32 [B, 3, S, S] in [-1, 1] for the encoder."""
    scaled_BHWC = images_BHWC.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return np.ascontiguousarray(scaled_BHWC.transpose(0, 3, 1, 2))


def to_image(images_BCHW: FloatArray) -> ImageArray:
    """Scale the decoder's float [B, 3, S, S] to uint8 RGB [B, S, S, 3], clipped."""
    scaled_BCHW = np.clip(np.rint((images_BCHW + 1) * 127.5), 0, 255)
    return np.ascontiguousarray(scaled_BCHW.transpose(0, 2, 3, 1).astype(np.uint8))


def _check_size(height: int, width: int) -> None:
    if height <= 0 or width <= 0 or height * width > MAX_PIXELS:
        raise RejectedInput(
            RejectReason.SIZE,
            f'image of {width} x {height} px, expected 1 to {MAX_PIXELS} px in all',
        )


def _as_image(array: Any) -> ImageArray:
    return np.ascontiguousarray(array, dtype=np.uint8)
