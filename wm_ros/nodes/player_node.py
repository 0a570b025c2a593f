"""`player_node`: a bag in, its messages out on real topics, at the recorded pace.

Messages go out as the CDR bytes that were recorded. With `restamp` (the default) the stamps in
headers are shifted so that the first message of the bag lies at the start of the playback: a node
that checks stamps against the clock then sees a live robot. Without it the recorded stamps stay,
for consumers that follow stamps only. Commands recorded at the same instant as a camera frame are
sent before it.
"""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile

from wm_ros.bag.read import open_bag
from wm_ros.config import PlayerConfig
from wm_ros.nodes import params, spin
from wm_ros.nodes.audience import Audience
from wm_ros.nodes.convert import message_class
from wm_ros.nodes.logs import CsvLog

STAMP = struct.Struct('<iI')
STAMP_AT = 4  # after the encapsulation header of the CDR bytes
LINGER_S = 0.5


@dataclass(frozen=True)
class Recorded:
    """One message of the bag: `data` are its CDR bytes, `time_ns` when it was recorded."""

    topic: str
    type_name: str
    time_ns: int
    data: bytes


def types_of(bag: Path, topics: set[str]) -> dict[str, str]:
    """Return topic -> message type of a bag, for the chosen topics (all when empty).

    Raises:
        ValueError: no readable rosbag2 bag there, or a topic that it does not hold.
    """
    with open_bag(bag) as reader:
        if not reader.is2:
            raise ValueError(f'{bag}: expected a rosbag2 bag, found a ROS 1 bag')
        held = {c.topic: c.msgtype for c in reader.connections}
    if missing := sorted(topics - set(held)):
        raise ValueError(f'{bag} has no {", ".join(missing)}; it has {", ".join(sorted(held))}')
    return {topic: kind for topic, kind in held.items() if not topics or topic in topics}


def messages(bag: Path, topics: set[str], camera: str) -> Iterator[Recorded]:
    """Yield the messages of a rosbag2 bag by time; at equal times the camera comes last."""
    with open_bag(bag) as reader:
        chosen = [c for c in reader.connections if c.topic in topics]
        stream = (
            Recorded(c.topic, c.msgtype, time_ns, bytes(data))
            for c, time_ns, data in reader.messages(connections=chosen)
        )
        for _, group in itertools.groupby(stream, key=lambda item: item.time_ns):
            yield from sorted(group, key=lambda item: item.topic == camera)


def read_stamp_ns(data: bytes) -> int:
    """Return the header stamp of a message whose first field is a std_msgs/Header."""
    sec, nanosec = STAMP.unpack_from(data, STAMP_AT)
    return int(sec) * 1_000_000_000 + int(nanosec)


def with_stamp(data: bytes, stamp_ns: int) -> bytes:
    """Return the same little endian message with another header stamp."""
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return data[:STAMP_AT] + STAMP.pack(sec, nanosec) + data[STAMP_AT + STAMP.size :]


class PlayerNode(Node):
    """Publishes every message when its time has come. `step` is called between events."""

    def __init__(self) -> None:
        super().__init__('player')
        params.declare(self, PlayerConfig)
        self.config = params.read(self, PlayerConfig)
        bag = Path(self.config.bag)
        types = types_of(bag, {topic for topic in self.config.topics if topic})
        if self.config.camera not in types:
            raise ValueError(
                f'{bag}: no camera topic {self.config.camera}; it has {", ".join(types)}'
            )
        self.queue = messages(bag, set(types), self.config.camera)
        self.next: Recorded | None = next(self.queue, None)
        if self.next is None:
            raise ValueError(f'{bag} holds no message to play')
        self.first_ns = self.next.time_ns
        self.log = CsvLog(self.config.publish_log, ('stamp_ns', 'monotonic_ns'))
        self.outputs: dict[str, tuple[Publisher, bool]] = {}
        for topic, type_name in sorted(types.items()):
            kind = message_class(type_name)
            first_field = next(iter(kind.get_fields_and_field_types().values()), '')
            publisher = self.create_publisher(kind, topic, QoSProfile(depth=10))
            self.outputs[topic] = (publisher, first_field == 'std_msgs/Header')
        camera, _ = self.outputs[self.config.camera]
        self.audience = Audience(
            camera,
            [publisher for publisher, _ in self.outputs.values() if publisher is not camera],
            self.config.wait_subscribers,
            self.config.settle_s,
        )
        self.start_s = self.ended_s = -1.0
        self.start_stamp_ns = 0

    def step(self) -> float | None:
        """Publish what is due; return the time to the next message in s, None at the end."""
        now_s = time.monotonic()
        if self.start_s < 0 and not self.try_start(now_s):
            return 0.02
        while self.next is not None:
            elapsed_s = (self.next.time_ns - self.first_ns) / 1e9 / self.config.rate
            wait_s = self.start_s + elapsed_s - time.monotonic()
            if wait_s > 0:
                return wait_s
            self.publish(self.next)
            self.next = next(self.queue, None)
        if self.ended_s < 0:
            self.ended_s = now_s
        return 0.05 if now_s - self.ended_s < LINGER_S else None

    def try_start(self, now_s: float) -> bool:
        """Start once the wanted subscribers have been there for a while."""
        if not self.audience.settled(now_s):
            return False
        self.start_s = now_s
        self.start_stamp_ns = self.get_clock().now().nanoseconds
        return True

    def publish(self, message: Recorded) -> None:
        """Send one message, re-stamped if asked for."""
        publisher, has_header = self.outputs[message.topic]
        data, stamp_ns = message.data, message.time_ns
        if has_header:
            stamp_ns = read_stamp_ns(data)
            if self.config.restamp:
                since_first_ns = round((stamp_ns - self.first_ns) / self.config.rate)
                stamp_ns = self.start_stamp_ns + since_first_ns
                data = with_stamp(data, stamp_ns)
        if message.topic == self.config.camera:
            self.log.write(stamp_ns, time.monotonic_ns())
        publisher.publish(data)

    def destroy_node(self) -> None:
        """Close the log, then the node."""
        self.log.close()
        super().destroy_node()


def main() -> int:
    """Play the bag and end, or end at SIGINT or SIGTERM."""
    return spin.run(PlayerNode, PlayerNode.step)


if __name__ == '__main__':
    raise SystemExit(main())
