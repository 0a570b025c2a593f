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
from wm_ros_msgs.msg import MemoryStatus, ModelInfo, Prediction

from wm_ros.config import RuntimeConfig
from wm_ros.nodes import convert, diagnostics
from wm_ros.nodes.predicted import PredictedView
from wm_ros.tiles import untile

if TYPE_CHECKING:
    from wm_ros.nodes.diagnostics import Surroundings
    from wm_ros.nodes.inbox import Inbox
    from wm_ros.nodes.loading import Loaded
    from wm_ros.nodes.session import Outcome, Session

DEPTH = 10


class Outputs:
    """The managed publishers of the node: silent while it is not active.

    Attributes:
        views: what is published of each of the contract's cameras.
    """

    def __init__(self, node: LifecycleNode, loaded: Loaded, config: RuntimeConfig) -> None:
        self._node = node
        self._loaded = loaded
        self._config = config
        self.views = [
            PredictedView(loaded.contract, i, config.jpeg_quality)
            for i in range(len(loaded.contract.cameras))
        ]
        self._publishers: list[Any] = []

    def create(self) -> None:
        """Make the publishers; what an exception left half done is for `destroy`."""
        self.prediction = self._make(Prediction, '~/prediction')
        for view in self.views:
            view.create(self._make)
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

    @property
    def frame_id(self) -> str:
        """The tf frame of the newest message of the (first) camera."""
        return self.views[0].frame_id

    @property
    def image(self) -> Any:
        """The publisher of the (first) camera's predicted image."""
        return self.views[0].image

    def publish_model(self) -> None:
        """Publish the latched description of the model."""
        now_ns = self._node.get_clock().now().nanoseconds
        self.model.publish(diagnostics.model_info(self._loaded, convert.header(now_ns, '')))

    def publish_outcome(self, session: Session, outcome: Outcome) -> None:
        """Publish the predictions of one frame: the message of every horizon, the picture of the
        last, of several cameras each its own.
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
        if len(self.views) == 1:
            return self.views[0].publish(prediction.image_HWC, head, picture)
        parts = untile(prediction.image_HWC, len(self.views))
        for view, part_HWC in zip(self.views, parts, strict=True):
            view.publish(part_HWC, convert.header(prediction.stamp_ns, view.frame_id))
        return None

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
