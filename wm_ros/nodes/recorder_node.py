"""`recorder_node`: topics in, a rosbag2 MCAP bag out that survives a kill.

Messages are taken as raw CDR bytes and never decoded, except predictions when `receive_log` asks
for the instant at which each one arrived here (one monotonic clock for the whole machine).

What has arrived is handed to the operating system twice a second, also when topics fall silent.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from wm_ros_msgs.msg import Prediction

from wm_ros.bag import BagError, BagRecorder
from wm_ros.bag.offers import offers_text
from wm_ros.config import RecorderConfig
from wm_ros.messages import stamp_to_ns
from wm_ros.nodes import params, spin
from wm_ros.nodes.convert import message_class
from wm_ros.nodes.logs import CsvLog
from wm_ros.nodes.offered import recorded

DISCOVERY_PERIOD_S = 0.1
FLUSH_PERIOD_S = 0.5
COMPLAINT_PERIOD_S = 10.0
DEPTH = 200


class RecorderNode(Node):
    """Subscribes to every topic as soon as somebody publishes it, and writes what arrives."""

    def __init__(self) -> None:
        super().__init__('recorder')
        params.declare(self, RecorderConfig)
        self.config = params.read(self, RecorderConfig)
        self.bag = BagRecorder(Path(self.config.out))
        self.log = CsvLog(
            self.config.receive_log, ('source_stamp_ns', 'horizon', 'monotonic_ns', 'latency_ms')
        )
        self.waiting = [self.resolve_topic_name(topic) for topic in self.config.topics]
        self.counts: dict[str, int] = {}
        self.search = self.create_timer(DISCOVERY_PERIOD_S, self.discover)
        self.flush = self.create_timer(FLUSH_PERIOD_S, self.bag.flush)

    def discover(self) -> None:
        """Subscribe to the topics that have appeared; all at once with `wait_for_all`."""
        found = {topic: self.get_publishers_info_by_topic(topic) for topic in self.waiting}
        ready = [topic for topic in self.waiting if found[topic]]
        if self.config.wait_for_all and len(ready) < len(self.waiting):
            return
        for topic in ready:
            self.subscribe(topic, found[topic])
            self.waiting.remove(topic)
        if not self.waiting:
            self.search.cancel()

    def subscribe(self, topic: str, publishers: list[Any]) -> None:
        """Start recording one topic, with the best service that all its publishers offer.

        A topic of no single known type is left out, which is said once.
        """
        names = sorted({info.topic_type for info in publishers})
        type_name = names[0]
        try:
            if len(names) > 1:
                raise BagError(f'published as {", ".join(names)}')
            kind = message_class(type_name)
            self.bag.add_topic(topic, type_name, qos=self.offers(topic, publishers))
        except ValueError as error:  # BagError is one
            self.get_logger().warning(f'{topic} is not recorded: {error}')
            return
        profiles = [info.qos_profile for info in publishers]
        reliable = all(p.reliability == ReliabilityPolicy.RELIABLE for p in profiles)
        latched = all(p.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in profiles)
        qos = QoSProfile(
            depth=DEPTH,
            history=HistoryPolicy.KEEP_LAST,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        self.create_subscription(kind, topic, partial(self.write, topic, type_name), qos, raw=True)
        self.get_logger().info(f'recording {topic} ({type_name})')

    def offers(self, topic: str, publishers: list[Any]) -> str:
        """Return what the publishers offer as text for the bag; empty, which is said, where that
        is of a kind unknown to bags. Of publishers that come later the bag does not tell.
        """
        try:
            return offers_text([recorded(info.qos_profile) for info in publishers])
        except ValueError as error:
            self.get_logger().warning(f'{topic}: how it is offered is not recorded: {error}')
            return ''

    def write(self, topic: str, type_name: str, data: bytes) -> None:
        """Append one message to the bag; one that cannot be written is lost, which is said."""
        received_ns = time.monotonic_ns()
        try:
            self.bag.write(topic, type_name, data, self.get_clock().now().nanoseconds)
        except (BagError, OSError) as error:
            self.get_logger().error(
                f'a message of {topic} is lost: {error}',
                throttle_duration_sec=COMPLAINT_PERIOD_S,
            )
            return
        self.counts[topic] = self.counts.get(topic, 0) + 1
        if self.log.enabled and type_name == 'wm_ros_msgs/msg/Prediction':
            prediction = deserialize_message(data, Prediction)
            self.log.write(
                stamp_to_ns(prediction.source_stamp),
                prediction.horizon,
                received_ns,
                round(prediction.latency_ms, 3),
            )

    def destroy_node(self) -> None:
        """Close the bag, then the node."""
        self.bag.close()
        self.log.close()
        super().destroy_node()


def main() -> int:
    """Run the node until SIGINT or SIGTERM."""
    return spin.run(RecorderNode)


if __name__ == '__main__':
    raise SystemExit(main())
