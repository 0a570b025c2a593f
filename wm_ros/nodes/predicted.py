"""PredictedView: what is published of one camera: its part of the predicted picture, as image and
JPEG, and its intrinsics.

`publish` runs in the inference thread, everything else in the executor's. Which part of the
picture is this camera's is for the caller to know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from wm_ros.contract import StreamContract
from wm_ros.datatypes import ImageArray
from wm_ros.nodes import convert
from wm_ros.nodes.intrinsics import Intrinsics


class PredictedView:
    """Publishers of one camera.

    Args:
        contract: of the robot.
        camera_index: index into its cameras.
        jpeg_quality: 1 to 100.

    Attributes:
        intrinsics: of the camera; without them no camera_info is published.
        frame_id: tf frame of the camera's newest message.
    """

    def __init__(self, contract: StreamContract, camera_index: int, jpeg_quality: int) -> None:
        self.intrinsics = Intrinsics(contract, camera_index)
        self.frame_id = ''
        several = len(contract.cameras) > 1
        name = f'/{contract.camera_names[camera_index]}' if several else ''
        self._prefix = f'~/predicted{name}'
        self._quality = jpeg_quality

    def create(self, make: Callable[[Any, str], Any]) -> None:
        """Make the publishers; `make` is told type and topic."""
        self.image = make(Image, f'{self._prefix}/image')
        self.compressed = make(CompressedImage, f'{self._prefix}/image/compressed')
        self.info = make(CameraInfo, f'{self._prefix}/camera_info')

    def publish(self, view_HWC: ImageArray, head: Header, picture: Image | None = None) -> None:
        """Publish what the camera is predicted to show.

        Args:
            view_HWC: uint8 RGB [H, W, 3], the camera's part of the picture.
            head: of all messages.
            picture: the view as a message where the caller has one.
        """
        if picture is None:
            picture = convert.image_message(view_HWC, head)
        self.image.publish(picture)
        if self.compressed.get_subscription_count():
            self.compressed.publish(convert.compressed_message(view_HWC, head, self._quality))
        info = self.intrinsics.cropped
        if info is not None:
            info.header = head
            self.info.publish(info)
