"""Subscriptions whose reliability follows what the publishers offer, for as long as they are open.

Best effort loses every message larger than the middleware's shared-memory segment (512 KiB on Fast
DDS: a raw 640x480 image), and reliable hears nothing of a publisher that offers best effort. So a
topic is heard reliably unless one of its publishers offers less; where that changes, the
subscription is made anew. `qos_overrides.<topic>.subscription.reliability` fixes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from wm_ros.nodes.convert import message_class

if TYPE_CHECKING:
    from rclpy.node import Node

LOOK_S = 0.25  # a publisher that the subscription does not fit is heard after this
FOLLOW = 'best_available'
CHOICES = (FOLLOW, 'reliable', 'best_effort')
OTHER_POLICIES = QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH))


@dataclass
class _Open:
    """One topic, its subscription, and the reliability that it was made with."""

    topic: str
    kind: Any
    callback: Callable[[Any], None]
    depth: int
    fixed: bool
    reliability: ReliabilityPolicy
    subscription: Any = None


class Listening:
    """The subscriptions of a node. Not for several threads: the executor's only."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._open: list[_Open] = []
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(LOOK_S, self.adapt, clock=steady)

    def add(self, type_name: str, topic: str, callback: Callable[[Any], None], depth: int) -> None:
        """Subscribe.

        Args:
            type_name: `package/msg/Name`.
            topic: before remapping.
            callback: takes the message.
            depth: newest messages that are kept for a busy executor.

        Raises:
            ValueError: the type is not installed, or the parameter holds another word.
        """
        kind = message_class(type_name)
        wanted = self._parameter(topic)
        reliability = ReliabilityPolicy.RELIABLE
        if wanted == 'best_effort':
            reliability = ReliabilityPolicy.BEST_EFFORT
        entry = _Open(topic, kind, callback, depth, wanted != FOLLOW, reliability)
        if not entry.fixed:
            entry.reliability = self._offered(topic) or reliability
        self._open.append(entry)
        self._subscribe(entry)

    def adapt(self) -> None:
        """Make those subscriptions anew whose publishers now offer something else."""
        for entry in self._open:
            offered = None if entry.fixed else self._offered(entry.topic)
            if offered is not None and offered != entry.reliability:
                self._node.get_logger().info(
                    f'{entry.topic}: publishers offer {offered.name.lower()}, '
                    f'heard {entry.reliability.name.lower()} until now'
                )
                entry.reliability = offered
                self._subscribe(entry)

    @property
    def reliability(self) -> dict[str, str]:
        """Topic -> `reliable` or `best_effort`, as it is heard now."""
        return {entry.topic: entry.reliability.name.lower() for entry in self._open}

    def close(self) -> None:
        """End all subscriptions."""
        self._node.destroy_timer(self._timer)
        for entry in self._open:
            self._node.destroy_subscription(entry.subscription)
        self._open = []

    def _subscribe(self, entry: _Open) -> None:
        if entry.subscription is not None:
            self._node.destroy_subscription(entry.subscription)
        # Its warning of publishers that do not fit is for those who cannot adapt.
        events = SubscriptionEventCallbacks(use_default_callbacks=entry.fixed)
        entry.subscription = self._node.create_subscription(
            entry.kind,
            entry.topic,
            entry.callback,
            QoSProfile(depth=entry.depth, reliability=entry.reliability),
            event_callbacks=events,
            qos_overriding_options=OTHER_POLICIES,
        )

    def _offered(self, topic: str) -> ReliabilityPolicy | None:
        """Return what all publishers of a topic offer; None while there are none."""
        found = self._node.get_publishers_info_by_topic(topic)
        if not found:
            return None
        reliable = ReliabilityPolicy.RELIABLE
        all_reliable = all(info.qos_profile.reliability == reliable for info in found)
        return reliable if all_reliable else ReliabilityPolicy.BEST_EFFORT

    def _parameter(self, topic: str) -> str:
        """Declare, once, and read the parameter that fixes the reliability of a topic."""
        resolved = self._node.resolve_topic_name(topic)
        name = f'qos_overrides.{resolved}.subscription.reliability'
        if not self._node.has_parameter(name):
            text = f'how {resolved} is heard; {FOLLOW}: as its publishers offer'
            self._node.declare_parameter(
                name,
                FOLLOW,
                ParameterDescriptor(
                    description=text,
                    additional_constraints=f'one of {", ".join(CHOICES)}',
                    read_only=True,
                ),
            )
        value = str(self._node.get_parameter(name).value)
        if value not in CHOICES:
            raise ValueError(f'{name} is {value!r}: expected one of {", ".join(CHOICES)}')
        return value
