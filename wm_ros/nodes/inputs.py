"""What `world_model_node` hears while it is active. A callback converts, puts and returns."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import String

from wm_ros.feed import ArrivedFrame, Refusal, read
from wm_ros.messages import stamp_to_ns
from wm_ros.nodes import convert
from wm_ros.nodes.diagnostics import Surroundings, renderer_mismatch
from wm_ros.nodes.listening import Listening
from wm_ros.rejection import RejectedInput

if TYPE_CHECKING:
    from rclpy.node import Node

    from wm_ros.nodes.inbox import Inbox
    from wm_ros.nodes.loading import Loaded
    from wm_ros.nodes.outputs import Outputs
    from wm_ros.nodes.statistics import Statistics

CAMERA_DEPTH, COMMAND_DEPTH = 5, 10
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Inputs:
    """The subscriptions of a running session.

    Args:
        node: who subscribes, and whose clock dates what arrives.
        loaded: the model and the contract that names the topics.
        outputs: told of the camera: its tf frame, size and intrinsics.
        inbox: where everything is left.
        statistics: told when camera and commands were last heard.
    """

    def __init__(
        self, node: Node, loaded: Loaded, outputs: Outputs, inbox: Inbox, statistics: Statistics
    ) -> None:
        self._node = node
        self._loaded = loaded
        self._outputs = outputs
        self._inbox = inbox
        self._statistics = statistics
        self._listening: Listening | None = None
        self._renderer_input: Any = None
        self._renderer = ''

    def open(self) -> None:
        """Subscribe; what an exception left half done is for `close`."""
        contract = self._loaded.contract
        self._listening = Listening(self._node)
        camera = contract.camera.topic
        for topic, type_name in contract.topics.items():
            depth = CAMERA_DEPTH if topic == camera else COMMAND_DEPTH
            self._listening.add(type_name, topic, partial(self.receive, topic), depth)
        info_topic = convert.topic_beside(camera, 'camera_info')
        self._listening.add(
            'sensor_msgs/msg/CameraInfo', info_topic, self.receive_info, CAMERA_DEPTH
        )
        self._renderer_input = self._node.create_subscription(
            String, convert.topic_beside(camera, 'renderer'), self.receive_renderer, LATCHED
        )

    def close(self) -> None:
        """End all subscriptions."""
        if self._listening is not None:
            self._listening.close()
        if self._renderer_input is not None:
            self._node.destroy_subscription(self._renderer_input)
        self._listening = self._renderer_input = None

    @property
    def surroundings(self) -> Surroundings:
        """What has been found out about the robot so far."""
        heard = self._listening.reliability if self._listening is not None else {}
        return Surroundings(heard, self._renderer)

    def receive(self, topic: str, message: Any) -> None:
        """Read a message of the contract and leave what it became in the inbox."""
        arrived_ns = time.monotonic_ns()
        contract = self._loaded.contract
        if topic == contract.camera.topic:
            self._statistics.camera_monotonic_ns = arrived_ns
        elif topic != contract.reset.topic:
            self._statistics.action_monotonic_ns = arrived_ns
        arrival = read(contract, topic, message, self._node.get_clock().now().nanoseconds)
        if isinstance(arrival, ArrivedFrame):
            self._outputs.frame_id = arrival.frame.frame_id
            try:
                self._outputs.intrinsics.take_size(arrival.camera_size)
            except RejectedInput as error:
                self._inbox.put(Refusal('camera_info', error, arrival.frame.stamp_ns))
        self._inbox.put(arrival, arrived_ns)

    def receive_info(self, message: CameraInfo) -> None:
        """Keep the camera's intrinsics, or refuse what is not for its images."""
        try:
            self._outputs.intrinsics.take_info(message)
        except RejectedInput as error:
            stamp_ns = stamp_to_ns(message.header.stamp)
            self._inbox.put(Refusal('camera_info', error, stamp_ns))

    def receive_renderer(self, message: String) -> None:
        """Take what a simulator says about who draws its frames."""
        self._renderer = message.data
        if mismatch := renderer_mismatch(self._loaded, self._renderer):
            self._node.get_logger().warning(mismatch)
