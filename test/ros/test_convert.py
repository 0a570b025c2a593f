"""What nodes put into messages, checked against plain values."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image
from wm_ros_msgs.msg import Prediction

from wm_ros.messages import stamp_to_ns
from wm_ros.nodes import convert
from wm_ros.preprocess import decode_compressed, decode_raw
from wm_ros.rejection import RejectedInput
from wm_ros.sources import CropBox


def test_pictures_come_back_from_messages() -> None:
    picture_HWC = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    head = convert.header(1_700_000_000_123_456_789, 'cam')
    message = convert.image_message(picture_HWC, head)
    assert stamp_to_ns(message.header.stamp) == 1_700_000_000_123_456_789
    back = decode_raw(message.data, message.height, message.width, message.step,
                      message.encoding, bool(message.is_bigendian))  # fmt: skip
    np.testing.assert_array_equal(back, picture_HWC)
    smooth_HWC = cv2.resize(picture_HWC[:4, :4], (64, 48))
    packed = convert.compressed_message(smooth_HWC, head, 95)
    lossy = decode_compressed(packed.data, packed.format)
    assert np.abs(lossy.astype(int) - smooth_HWC).mean() < 4


def test_message_types_are_found_or_named() -> None:
    assert convert.message_class('sensor_msgs/msg/Image') is Image
    assert convert.message_class('wm_ros_msgs/msg/Prediction') is Prediction
    with pytest.raises(ValueError, match='expected package/msg/Name'):
        convert.message_class('sensor_msgs/Image')
    with pytest.raises(ValueError, match='no_such_msgs/msg/Thing is not installed'):
        convert.message_class('no_such_msgs/msg/Thing')


@pytest.mark.parametrize(
    ('camera', 'info'),
    [('/camera/image_raw', '/camera/camera_info'), ('/a/b/image', '/a/b/camera_info'),
     ('/camera/image_raw/compressed', '/camera/camera_info')],
)  # fmt: skip
def test_intrinsics_are_looked_for_beside_the_camera(camera: str, info: str) -> None:
    assert convert.topic_beside(camera, 'camera_info') == info


def test_a_point_keeps_its_place_in_the_cropped_picture() -> None:
    info = CameraInfo(height=480, width=640)
    info.k = np.array([500, 0, 319.5, 0, 510, 239.5, 0, 0, 1], np.float64)
    info.p = np.array([500, 0, 319.5, 7, 0, 510, 239.5, 0, 0, 0, 1, 0], np.float64)
    crop = CropBox(left=100, top=40, width=320, height=320)
    cropped = convert.cropped_info(info, (480, 640), crop, 64)
    point = np.array([0.1, -0.05, 1.0])
    u, v, _ = np.asarray(info.k).reshape(3, 3) @ point
    u_small, v_small, _ = np.asarray(cropped.k).reshape(3, 3) @ point
    # pixel centres at integers: the crop shifts by its corner, the scale acts on pixel edges
    assert u_small == pytest.approx((u - 100 + 0.5) / 5 - 0.5)
    assert v_small == pytest.approx((v - 40 + 0.5) / 5 - 0.5)
    assert (cropped.width, cropped.height) == (64, 64)
    assert np.asarray(cropped.p).reshape(3, 4)[0, 3] == pytest.approx(7 / 5)


def test_region_of_interest_and_binning_are_folded_in() -> None:
    """A camera that reads out 800 x 600 px at (200, 100) and joins 2 x 2 px of them."""
    info = CameraInfo(height=1200, width=1600, binning_x=2, binning_y=2)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 200, 100, 800, 600
    info.k = np.array([1000, 0, 700.5, 0, 1000, 400.5, 0, 0, 1], np.float64)
    crop = CropBox(left=40, top=20, width=256, height=256)
    cropped = convert.cropped_info(info, (300, 400), crop, 64)
    k = np.asarray(cropped.k).reshape(3, 3)
    assert k[0, 0] == pytest.approx(1000 / 2 / 4)
    assert k[0, 2] + 0.5 == pytest.approx(((700.5 + 0.5 - 200) / 2 - 40) / 4)
    assert k[1, 2] + 0.5 == pytest.approx(((400.5 + 0.5 - 100) / 2 - 20) / 4)
    assert (cropped.binning_x, cropped.roi.width) == (0, 0)


def test_intrinsics_for_images_of_another_size_are_refused() -> None:
    info = CameraInfo(height=960, width=1280)
    with pytest.raises(RejectedInput, match='size: .* 1280 x 960 px, .* have 640 x 480 px'):
        convert.cropped_info(info, (480, 640), None, 64)


def test_pinhole_sees_its_field_of_view() -> None:
    info = convert.pinhole_info(64, 60.0)
    edge = np.asarray(info.k).reshape(3, 3) @ [0, np.tan(np.radians(30)), 1]
    assert edge[1] == pytest.approx(63.5), 'the lower edge of the last pixel'
