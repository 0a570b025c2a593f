"""`player_node`: a bag in, its messages out on real topics, at the recorded pace.

Messages go out as the CDR bytes that were recorded (of a ROS 1 bag: as they are in ROS 2). With
`restamp` (the default) the stamps in headers are shifted so that the first message played lies at
the start of the playback: a node that checks stamps against the clock then sees a live robot.
Without it the recorded stamps stay, for consumers that follow stamps only. Stamps of zero stay,
and so do those inside messages that do not begin with a header, such as transforms. Commands
recorded at the same instant as a camera frame are sent before it. Times, /clock and loops: see
playback.py. Topics are offered as they were on the robot, latched ones latched: see offered.py.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock

from wm_ros.bag import BagError, bag_info
from wm_ros.bag.raw import RawTopic, raw_topics
from wm_ros.config import PlayerConfig
from wm_ros.nodes import params, spin
from wm_ros.nodes.audience import Audience
from wm_ros.nodes.convert import message_class, ns_to_stamp
from wm_ros.nodes.logs import CsvLog
from wm_ros.nodes.offered import offered
from wm_ros.nodes.playback import Timeline, lap_length_ns, laps, stamped

LINGER_S = 0.5
WAIT_S = 0.02  # between looks at who listens


class PlayerNode(Node):
    """Publishes every message when its time has come. `step` is called between events."""

    def __init__(self) -> None:
        super().__init__('player')
        params.declare(self, PlayerConfig)
        self.config = config = params.read(self, PlayerConfig)
        bag = Path(config.bag)
        info, topics = bag_info(bag), raw_topics(bag, [name for name in config.topics if name])
        if config.camera not in topics:
            raise ValueError(f'{bag}: no camera topic {config.camera}; it has {", ".join(topics)}')
        from_ns = info.start_ns + round(config.start_offset_s * 1e9)
        self.queue = laps(bag, topics, config.camera, from_ns, config.loop)
        self.next = next(self.queue, None)
        if self.next is None:
            raise ValueError(
                f'bag {bag} has no message of {", ".join(topics)} to play from '
                f'{config.start_offset_s:g} s on; it is {info.duration_s:.3f} s long'
            )
        first_ns = self.next[1].log_ns
        self.timeline = Timeline(
            first_ns=first_ns,
            lap_ns=lap_length_ns(info, config.camera, first_ns),
            rate=config.rate,
            restamp=config.restamp,
            simulated=config.clock_hz > 0,
            start_ns=time.time_ns(),  # the node's own clock may follow the /clock that it sends
        )
        self.log = CsvLog(config.publish_log, ('stamp_ns', 'monotonic_ns'))
        self.clock_out: Publisher | None = None
        if self.timeline.simulated:
            self.clock_out = self.create_publisher(Clock, '/clock', QoSProfile(depth=10))
        self.outputs = self.create_outputs(topics)
        camera = self.outputs[config.camera]
        beside = [*self.outputs.values(), *([self.clock_out] if self.clock_out else [])]
        self.audience = Audience(
            camera,
            [publisher for publisher in beside if publisher is not camera],
            config.wait_subscribers,
            config.settle_s,
        )
        self.start_s = self.ended_s = -1.0
        self.lap = 0
        self.clock_ns = -1  # shown last
        self.tick_s = 0.0  # when it is to be shown again

    def create_outputs(self, topics: dict[str, RawTopic]) -> dict[str, Publisher]:
        """Make a publisher for each topic, with the service that it was recorded with."""
        return {
            topic: self.create_publisher(message_class(one.msgtype), topic, offered(one.offers))
            for topic, one in topics.items()
        }

    def step(self) -> float | None:
        """Publish what is due, one message at most; return the longest time to wait for the next
        event in s, None at the end.
        """
        now_s = time.monotonic()
        if self.start_s < 0 and not self.try_start(now_s):
            return self.show_clock(now_s, 0.0, WAIT_S)
        if self.next is None:
            self.ended_s = now_s if self.ended_s < 0 else self.ended_s
            return 0.05 if now_s - self.ended_s < LINGER_S else None
        lap, message = self.next
        wait_s = self.start_s + self.timeline.due_s(message.log_ns, lap) - now_s
        if wait_s > 0:
            return self.show_clock(now_s, now_s - self.start_s, wait_s)
        self.publish()
        self.next = next(self.queue, None)
        return 0.0

    def try_start(self, now_s: float) -> bool:
        """Start once the wanted subscribers have been there for a while."""
        if not self.audience.settled(now_s):
            return False
        self.start_s = now_s
        if not self.timeline.simulated:
            now_ns = self.get_clock().now().nanoseconds
            self.timeline = replace(self.timeline, start_ns=now_ns)
        self.get_logger().info(f'playing {self.config.bag} at {self.config.rate:g} times its pace')
        return True

    def show_clock(self, now_s: float, elapsed_s: float, wait_s: float) -> float:
        """Publish /clock if it is time to, never ahead of the next message; return how long to
        wait, `wait_s` at most.
        """
        if self.clock_out is None or self.next is None:
            return wait_s
        if now_s >= self.tick_s:
            self.tick_s = now_s + 1 / self.config.clock_hz
            lap, message = self.next
            if lap == self.lap or self.config.restamp:  # else it jumps back with the next message
                next_ns = self.timeline.clock_ns(message.log_ns, lap)
                self.publish_clock(min(self.timeline.clock_after_ns(elapsed_s), next_ns))
        return min(wait_s, self.tick_s - now_s)

    def publish_clock(self, clock_ns: int) -> None:
        """Publish /clock; within a lap it never goes back."""
        if self.clock_out is not None:
            self.clock_ns = max(self.clock_ns, clock_ns)
            self.clock_out.publish(Clock(clock=ns_to_stamp(self.clock_ns)))

    def publish(self) -> None:
        """Send the next message, re-stamped if asked for."""
        if self.next is None:
            return
        lap, message = self.next
        if lap != self.lap:
            self.lap = lap
            if not self.config.restamp:
                self.clock_ns = -1
        self.publish_clock(self.timeline.clock_ns(message.log_ns, lap))
        data, stamp_ns = stamped(message, self.timeline, lap)
        if message.topic == self.config.camera:
            self.log.write(stamp_ns, time.monotonic_ns())
        self.outputs[message.topic].publish(data)

    def destroy_node(self) -> None:
        """Close the log, then the node."""
        self.log.close()
        super().destroy_node()


def main(arguments: list[str] | None = None) -> int:
    """Play the bag and end, or end at SIGINT, at SIGTERM or where the bag is damaged.

    Args:
        arguments: ROS arguments; None takes those of the process.

    Returns:
        Exit status: 0; 1 where the bag cannot be played, or not to its end.
    """
    try:
        return spin.run(PlayerNode, PlayerNode.step, arguments)
    except BagError as error:  # damaged further on
        get_logger('wm_ros').fatal(str(error))
        return 1


if __name__ == '__main__':
    raise SystemExit(main())
