"""What `world_model_node` publishes. `publish_outcome` runs in the inference thread, the rest in
the executor's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from wm_ros_msgs.msg import MemoryStatus, ModelInfo, Prediction

from wm_ros.config import RuntimeConfig
from wm_ros.nodes import convert, diagnostics
from wm_ros.nodes.intrinsics import Intrinsics

if TYPE_CHECKING:
    from wm_ros.nodes.diagnostics import Surroundings
    from wm_ros.nodes.inbox import Inbox
    from wm_ros.nodes.loading import Loaded
    from wm_ros.nodes.session import Outcome, Session

DEPTH = 10


class Outputs:
    """The managed publishers of the node: silent while it is not active.

    Attributes:
        intrinsics: of the camera; without them no camera_info is published.
        frame_id: tf frame of the newest camera message.
    """

    def __init__(self, node: LifecycleNode, loaded: Loaded, config: RuntimeConfig) -> None:
        self._node = node
        self._loaded = loaded
        self._config = config
        self.intrinsics = Intrinsics(loaded.contract)
        self.frame_id = ''
        self._publishers: list[Any] = []

    def create(self) -> None:
        """Make the publishers; what an exception left half done is for `destroy`."""
        self.prediction = self._make(Prediction, '~/prediction')
        self.image = self._make(Image, '~/predicted/image')
        self.compressed = self._make(CompressedImage, '~/predicted/image/compressed')
        self.info = self._make(CameraInfo, '~/predicted/camera_info')
        self.status = self._make(MemoryStatus, '~/memory_status')
        self.model = self._make(ModelInfo, '~/model_info', latched=True)
        self.diagnostics = self._make(DiagnosticArray, '/diagnostics')

    def destroy(self) -> None:
        """Take the publishers off the node."""
        while self._publishers:
            self._node.destroy_lifecycle_publisher(self._publishers.pop())

    def _make(self, kind: Any, topic: str, latched: bool = False) -> Any:
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        publisher = self._node.create_lifecycle_publisher(
            kind,
            topic,
            QoSProfile(depth=1 if latched else DEPTH, durability=durability),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._publishers.append(publisher)
        return publisher

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
        info = self.intrinsics.cropped
        if info is not None:
            info.header = head
            self.info.publish(info)

    def publish_status(
        self,
        session: Session,
        inbox: Inbox,
        around: Surroundings,
        queries: Mapping[str, object],
    ) -> None:
        """Publish memory status and diagnostics; `queries` is what planners' queries add."""
        status = diagnostics.memory_status(session, inbox, self.frame_id)
        self.status.publish(status)
        head = convert.header(self._node.get_clock().now().nanoseconds, '')
        ages = diagnostics.Ages.at(session, time.monotonic_ns())
        name = self._node.get_fully_qualified_name()
        self.diagnostics.publish(
            diagnostics.diagnostics(
                self._loaded,
                session,
                status,
                ages,
                around,
                queries,
                self._config.stale_s,
                head,
                name,
            )
        )
