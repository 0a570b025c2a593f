"""What `world_model_node` hears while it is active. A callback converts, puts and returns."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import String

from wm_ros.contract import StreamContract
from wm_ros.feed import ArrivedFrame, ArrivedView, Refusal, read
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
        outputs: told of each camera: its tf frame, size and intrinsics.
        inbox: where everything is left.
        statistics: told when cameras and commands were last heard.
    """

    def __init__(
        self, node: Node, loaded: Loaded, outputs: Outputs, inbox: Inbox, statistics: Statistics
    ) -> None:
        self._node = node
        self._loaded = loaded
        self._outputs = outputs
        self._inbox = inbox
        self._statistics = statistics
        self._cameras = {c.topic: i for i, c in enumerate(loaded.contract.cameras)}
        self._listening: Listening | None = None
        self._renderer_input: Any = None
        self._renderer = ''

    def open(self) -> None:
        """Subscribe; what an exception left half done is for `close`."""
        contract = self._loaded.contract
        self._listening = Listening(self._node)
        for topic, type_name in contract.topics.items():
            depth = CAMERA_DEPTH if topic in self._cameras else COMMAND_DEPTH
            self._listening.add(type_name, topic, partial(self.receive, topic), depth)
        for info_topic, index in info_topics(contract).items():
            take = partial(self.receive_info, index)
            self._listening.add('sensor_msgs/msg/CameraInfo', info_topic, take, CAMERA_DEPTH)
        # One simulator draws all its cameras: the first speaks for them.
        renderer = convert.topic_beside(contract.camera.topic, 'renderer')
        self._renderer_input = self._node.create_subscription(
            String, renderer, self.receive_renderer, LATCHED
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
        index = self._cameras.get(topic)
        if index == 0:
            self._statistics.camera_monotonic_ns = arrived_ns
        elif index is not None:
            self._statistics.view_monotonic_ns[topic] = arrived_ns
        elif topic != contract.reset.topic:
            self._statistics.action_monotonic_ns = arrived_ns
        arrival = read(contract, topic, message, self._node.get_clock().now().nanoseconds)
        if index is not None and isinstance(arrival, ArrivedFrame | ArrivedView):
            view = self._outputs.views[index]
            view.frame_id = arrival.frame.frame_id
            try:
                view.intrinsics.take_size(arrival.camera_size)
            except RejectedInput as error:
                self._inbox.put(Refusal('camera_info', error, arrival.frame.stamp_ns))
        self._inbox.put(arrival, arrived_ns)

    def receive_info(self, camera_index: int, message: CameraInfo) -> None:
        """Keep a camera's intrinsics, or refuse what is not for its images."""
        try:
            self._outputs.views[camera_index].intrinsics.take_info(message)
        except RejectedInput as error:
            stamp_ns = stamp_to_ns(message.header.stamp)
            self._inbox.put(Refusal('camera_info', error, stamp_ns))

    def receive_renderer(self, message: String) -> None:
        """Take what a simulator says about who draws its frames."""
        self._renderer = message.data
        if mismatch := renderer_mismatch(self._loaded, self._renderer):
            self._node.get_logger().warning(mismatch)


def info_topics(contract: StreamContract) -> dict[str, int]:
    """Return CameraInfo topic -> index of the camera that it is beside.

    Cameras side by side in one namespace would share a topic: nobody knows whose intrinsics come
    there, so it is left out.
    """
    topics = [convert.topic_beside(camera.topic, 'camera_info') for camera in contract.cameras]
    shared = Counter(topics)
    return {topic: index for index, topic in enumerate(topics) if shared[topic] == 1}
