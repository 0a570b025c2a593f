"""Intrinsics: the camera's CameraInfo, brought to the model's picture."""

from __future__ import annotations

from sensor_msgs.msg import CameraInfo

from wm_ros.contract import StreamContract
from wm_ros.nodes import convert


class Intrinsics:
    """Remembers the newest CameraInfo and the size of one camera's images.

    Args:
        contract: of the robot.
        camera_index: index into its cameras.

    Attributes:
        cropped: intrinsics of the camera's part of the model's picture; None before both are
            known, and while they do not fit each other.
    """

    def __init__(self, contract: StreamContract, camera_index: int) -> None:
        self.cropped: CameraInfo | None = None
        self._crop = contract.cameras[camera_index].crop
        self._width, self._aspect = contract.tile_size[1], contract.tile_aspect
        self._info: CameraInfo | None = None
        self._size: tuple[int, int] | None = None

    def take_size(self, size: tuple[int, int]) -> None:
        """Take (height, width) of the newest image, px; raises as `take_info`."""
        if size != self._size:
            self._size = size
            self._fit()

    def take_info(self, info: CameraInfo) -> None:
        """Take the newest CameraInfo; one without a size is a camera that is not calibrated.

        Raises:
            RejectedInput: SIZE, it is not for images of this size.
        """
        self._info = info if info.width and info.height else None
        self._fit()

    def _fit(self) -> None:
        cropped = None
        try:
            if self._info is not None and self._size is not None:
                cropped = convert.cropped_info(
                    self._info, self._size, self._crop, self._width, self._aspect
                )
        finally:
            self.cropped = cropped
