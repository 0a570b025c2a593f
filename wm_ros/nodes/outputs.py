"""What `world_model_node` publishes. `publish_outcome` runs in the inference thread, the rest in
the executor's.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from wm_ros_msgs.msg import MemoryStatus, ModelInfo, Prediction

from wm_ros.config import RuntimeConfig
from wm_ros.nodes import convert, diagnostics

if TYPE_CHECKING:
    from wm_ros.nodes.inbox import Inbox
    from wm_ros.nodes.loading import Loaded
    from wm_ros.nodes.session import Outcome, Session

OVERRIDES = QoSOverridingOptions.with_default_policies()
RELIABLE = QoSProfile(depth=10)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Outputs:
    """The managed publishers of the node: silent while it is not active.

    Attributes:
        source_info: newest intrinsics of the camera; without them no camera_info is published.
        frame_id: tf frame of the newest camera message.
    """

    def __init__(self, node: LifecycleNode, loaded: Loaded, config: RuntimeConfig) -> None:
        self._node = node
        self._loaded = loaded
        self._config = config
        self.source_info: CameraInfo | None = None
        self.frame_id = ''
        make = partial(node.create_lifecycle_publisher, qos_overriding_options=OVERRIDES)
        self.prediction = make(Prediction, '~/prediction', RELIABLE)
        self.image = make(Image, '~/predicted/image', RELIABLE)
        self.compressed = make(CompressedImage, '~/predicted/image/compressed', RELIABLE)
        self.info = make(CameraInfo, '~/predicted/camera_info', RELIABLE)
        self.status = make(MemoryStatus, '~/memory_status', RELIABLE)
        self.model = make(ModelInfo, '~/model_info', LATCHED)
        self.diagnostics = make(DiagnosticArray, '/diagnostics', RELIABLE)

    def destroy(self) -> None:
        """Take the publishers off the node."""
        for publisher in (
            self.prediction,
            self.image,
            self.compressed,
            self.info,
            self.status,
            self.model,
            self.diagnostics,
        ):
            self._node.destroy_lifecycle_publisher(publisher)

    def publish_model(self) -> None:
        """Publish the latched description of the model."""
        now_ns = self._node.get_clock().now().nanoseconds
        self.model.publish(diagnostics.model_info(self._loaded, convert.header(now_ns, '')))

    def publish_outcome(self, session: Session, outcome: Outcome) -> None:
        """Publish the predictions of one frame: the message of every horizon, the picture of the
        last.
        """
        latency_ms = (time.monotonic_ns() - outcome.received_monotonic_ns) / 1e6
        package = self._loaded.model.package.name
        for prediction in outcome.predictions:
            head = convert.header(prediction.stamp_ns, prediction.frame_id)
            picture = convert.image_message(prediction.image_HWC, head)
            self.prediction.publish(
                Prediction(
                    header=head,
                    source_stamp=convert.ns_to_stamp(prediction.source_stamp_ns),
                    horizon=prediction.horizon,
                    index=outcome.index,
                    image=picture,
                    latency_ms=latency_ms,
                    package=package,
                )
            )
        session.statistics.add_latency(latency_ms)
        self.image.publish(picture)
        if self.compressed.get_subscription_count():
            self.compressed.publish(
                convert.compressed_message(prediction.image_HWC, head, self._config.jpeg_quality)
            )
        if self.source_info is not None:
            contract = self._loaded.contract
            info = convert.cropped_info(
                self.source_info, contract.camera.crop, contract.image_size
            )
            info.header = head
            self.info.publish(info)

    def publish_status(self, session: Session, inbox: Inbox) -> None:
        """Publish memory status and diagnostics."""
        status = diagnostics.memory_status(session, inbox, self.frame_id)
        self.status.publish(status)
        head = convert.header(self._node.get_clock().now().nanoseconds, '')
        ages = diagnostics.Ages.at(session, time.monotonic_ns())
        name = self._node.get_fully_qualified_name()
        self.diagnostics.publish(
            diagnostics.diagnostics(
                self._loaded, session, status, ages, self._config.stale_s, head, name
            )
        )
