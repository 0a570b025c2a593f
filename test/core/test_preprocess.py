"""Image bytes to model input: one picture from all encodings; bad images refused by reason."""

import cv2
import numpy as np
import pytest

from wm_ros.preprocess import (
    crop_intrinsics,
    crop_resize,
    decode_compressed,
    decode_raw,
    to_image,
    to_model,
)
from wm_ros.rejection import RejectedInput, RejectReason
from wm_ros.sources import CropBox

HEIGHT, WIDTH = 6, 10
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
GREY = RGB[..., :1]
ALPHA = np.full((HEIGHT, WIDTH, 1), 77, np.uint8)

COLOURS = {
    'rgb8': RGB,
    'bgr8': RGB[..., ::-1],
    '8UC3': RGB[..., ::-1],
    'rgba8': np.concatenate([RGB, ALPHA], -1),
    'bgra8': np.concatenate([RGB[..., ::-1], ALPHA], -1),
    '8UC4': np.concatenate([RGB[..., ::-1], ALPHA], -1),
}


def padded(rows: np.ndarray, pad: int) -> tuple[bytes, int]:
    flat = rows.reshape(HEIGHT, -1).view(np.uint8)
    junk = np.full((HEIGHT, pad), 201, np.uint8)
    return np.concatenate([flat, junk], 1).tobytes(), flat.shape[1] + pad


@pytest.mark.parametrize('pad', [0, 7])
@pytest.mark.parametrize('encoding', COLOURS)
def test_colour_encodings_give_the_same_rgb(encoding: str, pad: int) -> None:
    data, step = padded(np.ascontiguousarray(COLOURS[encoding]), pad)
    assert np.array_equal(decode_raw(data, HEIGHT, WIDTH, step, encoding, False), RGB)


@pytest.mark.parametrize('encoding', ['mono8', '8UC1'])
def test_grey_becomes_three_equal_channels(encoding: str) -> None:
    data, step = padded(np.ascontiguousarray(GREY), 3)
    image_HWC = decode_raw(data, HEIGHT, WIDTH, step, encoding, False)
    assert np.array_equal(image_HWC, np.repeat(GREY, 3, -1))


@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize('encoding', ['mono16', '16UC1'])
def test_sixteen_bits_keep_the_high_byte_in_either_order(encoding: str, big: bool) -> None:
    values = GREY.astype(np.uint16) * 256 + 19
    data, step = padded(values.astype('>u2' if big else '<u2'), 4)
    image_HWC = decode_raw(data, HEIGHT, WIDTH, step, encoding, big)
    assert np.array_equal(image_HWC, np.repeat(GREY, 3, -1))


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'encoding': 'yuv422'}, RejectReason.ENCODING),
        ({'encoding': ''}, RejectReason.ENCODING),
        ({'height': 0}, RejectReason.SIZE),
        ({'height': HEIGHT + 1}, RejectReason.SIZE),
        ({'data': b''}, RejectReason.SIZE),
        ({'width': 2**31, 'height': 2**31}, RejectReason.SIZE),
        ({'step': WIDTH * 3 - 1}, RejectReason.PADDING),
        ({'step': 0}, RejectReason.PADDING),
        ({'step': WIDTH * 3 + 1}, RejectReason.SIZE),
    ],
)
def test_bad_raw_images_are_refused(change: dict, reason: RejectReason) -> None:
    good = {
        'data': RGB.tobytes(),
        'height': HEIGHT,
        'width': WIDTH,
        'step': WIDTH * 3,
        'encoding': 'rgb8',
        'is_bigendian': False,
    }
    assert np.array_equal(decode_raw(**good), RGB)
    with pytest.raises(RejectedInput) as error:
        decode_raw(**good | change)
    assert error.value.reason is reason


def compressed(suffix: str) -> bytes:
    ramp = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    return cv2.imencode(suffix, ramp[..., ::-1])[1].tobytes()


def test_png_is_exact_and_jpeg_close() -> None:
    ramp = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    assert np.array_equal(decode_compressed(compressed('.png'), 'png'), ramp)
    close = decode_compressed(compressed('.jpg'), 'bgr8; jpeg compressed bgr8').astype(int)
    assert np.abs(close - ramp).mean() < 4


@pytest.mark.parametrize(
    ('data', 'image_format', 'reason'),
    [
        (b'', 'jpeg', RejectReason.ENCODING),
        (b'GIF89a', 'gif', RejectReason.ENCODING),
        (compressed('.png'), '16UC1; compressedDepth png', RejectReason.ENCODING),
        (compressed('.jpg')[:-2], 'jpeg', RejectReason.DECODE),
        (compressed('.jpg')[:40] + b'\xff\xd9', 'jpeg', RejectReason.DECODE),
        (compressed('.png')[:200], 'png', RejectReason.DECODE),
        (compressed('.png')[:40] + b'IEND', 'png', RejectReason.DECODE),
    ],
)
def test_bad_compressed_images_are_refused(
    data: bytes, image_format: str, reason: RejectReason
) -> None:
    with pytest.raises(RejectedInput) as error:
        decode_compressed(data, image_format)
    assert error.value.reason is reason


def test_crop_takes_the_centred_square_or_the_box() -> None:
    assert np.array_equal(crop_resize(RGB, None, 6), RGB[:, 2:8])
    box = CropBox(left=5, top=1, width=4, height=4)
    assert np.array_equal(crop_resize(RGB, box, 4), RGB[1:5, 5:9])
    with pytest.raises(RejectedInput) as error:
        crop_resize(RGB, CropBox(left=7, top=0, width=4, height=4), 4)
    assert error.value.reason is RejectReason.SIZE


def test_shrinking_averages_areas() -> None:
    image_HWC = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)
    mean = image_HWC.reshape(4, 2, 4, 2, 3).mean((1, 3))
    assert np.abs(crop_resize(image_HWC, None, 4) - mean).max() <= 0.5


@pytest.mark.parametrize('crop', [None, CropBox(left=30, top=10, width=20, height=20)])
def test_intrinsics_follow_the_pixels(crop: CropBox | None) -> None:
    """A point projected by the new K lands where its pixel lands in the resized crop."""
    k_33 = np.array([[80.0, 0, 40], [0, 82, 22], [0, 0, 1]])
    new_33 = crop_intrinsics(k_33.ravel(), 48, 80, crop, 64)
    left, top, side = (16, 0, 48) if crop is None else (30, 10, 20)
    point = np.array([0.04, -0.05, 1.0])
    u, v, _ = k_33 @ point
    new_u, new_v, _ = new_33 @ point
    assert np.isclose((u + 0.5 - left) * 64 / side, new_u + 0.5)
    assert np.isclose((v + 0.5 - top) * 64 / side, new_v + 0.5)


def test_model_scaling_is_exact_both_ways() -> None:
    images_BHWC = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    scaled_BCHW = to_model(images_BHWC)
    assert scaled_BCHW.shape == (1, 3, 16, 16)
    assert scaled_BCHW.dtype == np.float32
    assert (scaled_BCHW.min(), scaled_BCHW.max()) == (-1, 1)
    assert np.array_equal(to_image(scaled_BCHW), images_BHWC)
    assert to_image(np.float32([[[[-3.0]], [[3.0]], [[0.0]]]])).ravel().tolist() == [0, 255, 128]
