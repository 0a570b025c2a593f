"""Several cameras in one picture: where each lies, what a contract may say, what comes back."""

import numpy as np
import pytest

from wm_ros.contract import StreamContract
from wm_ros.contract_fields import ContractError
from wm_ros.preprocess import crop_intrinsics, crop_resize
from wm_ros.rejection import RejectedInput, RejectReason
from wm_ros.sources import CropBox
from wm_ros.tiles import tile, tile_aspect, tile_grid, tile_size, untile

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'


def contract_values(*topics: str, image_size: int = 64) -> dict:
    entry = {'name': 'x', 'unit': '1', 'low': -1.0, 'high': 1.0}
    return {
        'name': 'eyes',
        'rate_hz': 25.0,
        'image_size': image_size,
        'cameras': [{'topic': topic, 'type': IMAGE} for topic in topics],
        'actions': [{'topic': '/c', 'type': 'wm_ros_msgs/msg/Action', 'entries': [entry]}],
    }


def contract(*topics: str, **values: int) -> StreamContract:
    return StreamContract.from_dict(contract_values(*topics, **values))


@pytest.mark.parametrize(
    ('cameras', 'grid', 'size', 'aspect'),
    [(1, (1, 1), (64, 64), 1), (2, (2, 1), (32, 64), 2), (3, (2, 2), (32, 32), 1),
     (4, (2, 2), (32, 32), 1)],
)  # fmt: skip
def test_a_round_trip_through_the_picture(
    cameras: int, grid: tuple, size: tuple, aspect: int
) -> None:
    assert (tile_grid(cameras), tile_size(cameras, 64), tile_aspect(cameras)) == (
        grid,
        size,
        aspect,
    )
    rng = np.random.default_rng(cameras)
    views = [rng.integers(1, 256, (*size, 3), np.uint8) for _ in range(cameras)]
    picture_HWC = tile(views, 64)
    assert picture_HWC.shape == (64, 64, 3) and picture_HWC.dtype == np.uint8
    for back_HWC, view_HWC in zip(untile(picture_HWC, cameras), views, strict=True):
        assert np.array_equal(back_HWC, view_HWC)
    assert (picture_HWC == 0).all(2).sum() == 64 * 64 - cameras * size[0] * size[1]


def test_views_lie_row_by_row() -> None:
    views = [np.full((4, 4, 3), shade, np.uint8) for shade in (1, 2, 3)]
    assert tile(views, 8)[::4, ::4, 0].tolist() == [[1, 2], [3, 0]]


def test_a_view_of_two_is_the_widest_centred_half() -> None:
    """A 4:3 camera loses top and bottom, a very wide one its sides; nothing is squeezed."""
    y_HW, x_HW = np.mgrid[:48, :64]
    image_HWC = np.stack([y_HW, x_HW, 0 * x_HW], 2).astype(np.uint8)
    assert np.array_equal(crop_resize(image_HWC, None, 64, 2), image_HWC[8:40])
    wide_HWC = np.tile(image_HWC[:16], (1, 2, 1))
    assert np.array_equal(crop_resize(wide_HWC, None, 32, 2), wide_HWC[:, 48:80])
    box = CropBox(left=3, top=5, width=16, height=8)
    assert np.array_equal(crop_resize(image_HWC, box, 16, 2), image_HWC[5:13, 3:19])
    assert crop_resize(image_HWC, box, 64, 2).shape == (32, 64, 3)
    with pytest.raises(RejectedInput) as error:
        crop_resize(image_HWC[:, :1], None, 64, 2)
    assert error.value.reason is RejectReason.SIZE


@pytest.mark.parametrize('crop', [None, CropBox(left=30, top=10, width=40, height=20)])
def test_intrinsics_follow_the_pixels_of_a_wide_view(crop: CropBox | None) -> None:
    k_33 = np.array([[80.0, 0, 40], [0, 82, 22], [0, 0, 1]])
    new_33 = crop_intrinsics(k_33, 48, 80, crop, 64, 2)
    left, top, width = (0, 4, 80) if crop is None else (30, 10, 40)
    point = np.array([0.04, -0.05, 1.0])
    u, v, _ = k_33 @ point
    new_u, new_v, _ = new_33 @ point
    assert np.isclose((u + 0.5 - left) * 64 / width, new_u + 0.5)
    assert np.isclose((v + 0.5 - top) * 64 / width, new_v + 0.5)


@pytest.mark.parametrize(
    ('topics', 'names'),
    [
        (('/camera/image_raw',), ('image_raw',)),
        (('/head/image_raw', '/wrist/image_raw/compressed'), ('head', 'wrist')),
        (('/r/head/image_raw', '/r/wrist/image_raw'), ('head', 'wrist')),
        (('/cam_a', '/cam_b', '/cam_c'), ('cam_a', 'cam_b', 'cam_c')),
        (('/a/x', '/a/y', '/b/x', '/b/y'), ('camera_1', 'camera_2', 'camera_3', 'camera_4')),
    ],
)
def test_names_come_from_the_topics(topics: tuple, names: tuple) -> None:
    assert contract(*topics).camera_names == names


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        (contract_values(*['/a', '/b', '/c', '/d', '/e']), '5 cameras: expected 1 to 4'),
        (contract_values('/a', '/a'), 'topics named twice: /a'),
        (contract_values('/a', '/b', image_size=63), 'image_size is 63: 2 cameras.*multiple of 2'),
    ],
)
def test_cameras_that_do_not_share_a_picture_are_refused(values: dict, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        StreamContract.from_dict(values)


@pytest.mark.parametrize(
    ('cameras', 'expected'), [(2, '2 times wider than high, as its 64 x 32 px'), (3, 'a square')]
)
def test_a_crop_has_the_shape_of_its_tile(cameras: int, expected: str) -> None:
    values = contract_values(*[f'/cam_{i}' for i in range(cameras)])
    values['cameras'][1]['crop'] = {'left': 0, 'top': 0, 'width': 30, 'height': 20}
    with pytest.raises(ContractError, match=f'crop of /cam_1 is 30 x 20 px: expected {expected}'):
        StreamContract.from_dict(values)
    values['cameras'][1]['crop'] |= {'width': 40 if cameras == 2 else 20}
    assert StreamContract.from_dict(values).cameras[1].crop is not None


def test_number_order_and_crops_of_the_cameras_must_fit_a_model() -> None:
    model = contract('/head', '/wrist')
    model.require_fit(contract('/left', '/right'))
    compressed = contract_values('/head/compressed', '/wrist')
    compressed['cameras'][0]['type'] = COMPRESSED
    model.require_fit(StreamContract.from_dict(compressed))
    cropped = contract_values('/head', '/wrist')
    cropped['cameras'][1]['crop'] = {'left': 0, 'top': 0, 'width': 40, 'height': 20}
    for other, words in (
        (contract('/head'), 'cameras: 2 against 1'),
        (contract('/wrist', '/head'), 'order of the cameras: /head, /wrist against /wrist, /head'),
        (contract('/wrist', '/elbow'), 'order of the cameras'),
        (StreamContract.from_dict(cropped), 'crop of /wrist: None against CropBox'),
    ):
        (found,) = model.differences(other)
        assert found.startswith(words), found
        with pytest.raises(ContractError, match='does not fit'):
            model.require_fit(other)
