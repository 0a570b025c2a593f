"""Between ROS messages and plain values, for what leaves a node. (What comes in:
wm_ros/messages.py.)

Image data is set as `array.array('B', ...)`: every other type costs milliseconds in rclpy.

Axes: H W pixels, C channels.
"""

from __future__ import annotations

import array
import importlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from wm_ros.datatypes import ImageArray
from wm_ros.preprocess import crop_intrinsics
from wm_ros.rejection import RejectedInput, RejectReason
from wm_ros.sources import CropBox


def message_class(type_name: str) -> Any:
    """Return the class of `package/msg/Name`.

    Raises:
        ValueError: the name has another form, or no such type is installed.
    """
    parts = type_name.split('/')
    if len(parts) != 3 or parts[1] != 'msg':
        raise ValueError(f'message type {type_name!r}: expected package/msg/Name')
    try:
        return getattr(importlib.import_module(f'{parts[0]}.msg'), parts[2])
    except (ImportError, AttributeError) as error:
        raise ValueError(f'message type {type_name} is not installed: {error}') from error


def ns_to_stamp(stamp_ns: int) -> Time:
    """Return nanoseconds as a builtin_interfaces/Time."""
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)


def header(stamp_ns: int, frame_id: str) -> Header:
    """Return a header."""
    return Header(stamp=ns_to_stamp(stamp_ns), frame_id=frame_id)


def image_message(image_HWC: ImageArray, head: Header) -> Image:
    """Return a uint8 RGB [H, W, 3] picture as an rgb8 Image."""
    height, width = image_HWC.shape[:2]
    message = Image(header=head, height=height, width=width, encoding='rgb8', step=3 * width)
    message.data = array.array('B', image_HWC.tobytes())
    return message


def compressed_message(image_HWC: ImageArray, head: Header, quality: int) -> CompressedImage:
    """Return a uint8 RGB [H, W, 3] picture as JPEG."""
    bgr_HWC = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode('.jpg', bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, quality])
    message = CompressedImage(header=head, format='rgb8; jpeg compressed bgr8')
    message.data = array.array('B', data.tobytes())
    return message


def float_array(values: npt.ArrayLike) -> array.array[float]:
    """Return numbers as the array type of a float32[] field."""
    return array.array('f', np.asarray(values, np.float32).tobytes())


def cropped_info(
    info: CameraInfo,
    image_size: tuple[int, int],
    crop: CropBox | None,
    size: int,
    aspect: int = 1,
) -> CameraInfo:
    """Return the intrinsics of what the model sees of the camera.

    K and P are moved and scaled by region of interest, binning and crop; the result has neither of
    the first two. Distortion and rectification stay as they are.

    Args:
        info: as the camera publishes it.
        image_size: (height, width) of the camera's images, px.
        crop: the contract's crop, None for the largest centred box.
        size: width of what the model sees, px.
        aspect: its width over its height.

    Raises:
        RejectedInput: SIZE, the info is not for images of this size.
    """
    height, width = image_size
    binning_x, binning_y = max(info.binning_x, 1), max(info.binning_y, 1)
    whole = (info.roi.height or info.height, info.roi.width or info.width)
    found = (whole[0] // binning_y, whole[1] // binning_x)
    if found != image_size:
        raise RejectedInput(
            RejectReason.SIZE,
            f'camera_info is for images of {found[1]} x {found[0]} px, '
            f'the images have {width} x {height} px',
        )
    to_image_33 = np.array(
        [
            [1 / binning_x, 0, (0.5 - info.roi.x_offset) / binning_x - 0.5],
            [0, 1 / binning_y, (0.5 - info.roi.y_offset) / binning_y - 0.5],
            [0, 0, 1],
        ]
    )
    to_view_33 = crop_intrinsics(to_image_33, height, width, crop, size, aspect)
    result = CameraInfo(height=size // aspect, width=size, distortion_model=info.distortion_model)
    result.d = array.array('d', info.d)
    result.k = (to_view_33 @ np.asarray(info.k, np.float64).reshape(3, 3)).reshape(-1)
    result.r = np.asarray(info.r, np.float64)
    result.p = (to_view_33 @ np.asarray(info.p, np.float64).reshape(3, 4)).reshape(-1)
    return result


def pinhole_info(size: int, fovy_deg: float) -> CameraInfo:
    """Return the intrinsics of an ideal square camera without distortion.

    Args:
        size: side of the image, px.
        fovy_deg: vertical field of view, degrees.
    """
    focal = 0.5 * size / np.tan(np.radians(fovy_deg) / 2)
    centre = (size - 1) / 2
    info = CameraInfo(height=size, width=size, distortion_model='plumb_bob')
    info.d = array.array('d', [0.0] * 5)
    info.k = np.array([focal, 0, centre, 0, focal, centre, 0, 0, 1], np.float64)
    info.r = np.eye(3).reshape(-1)
    info.p = np.array([focal, 0, centre, 0, 0, focal, centre, 0, 0, 0, 1, 0], np.float64)
    return info


def topic_beside(camera_topic: str, name: str) -> str:
    """Return a topic beside a camera's raw image.

    With `camera_info`, `/camera/image_raw` and `/camera/image_raw/compressed` both give
    `/camera/camera_info`.
    """
    raw = camera_topic.removesuffix('/compressed')
    return f'{raw.rpartition("/")[0]}/{name}'
