"""What a player offers a topic with: what the robot's publishers offered, as far as the bag tells;
and what a recorder has to keep for that.

In: profiles of `bag/offers.py`, or of ROS. Out: one profile of ROS, or one for a bag.
"""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)

DEPTH, MANY = 10, 1000  # messages kept: where the bag does not say; by those who keep all


def offered(offers: Sequence[Qos]) -> QoSProfile:
    """Return the profile for a topic that one node plays for all that published it.

    Every subscription that one of them would have matched is matched: the topic is best effort
    where all were, and latched where one was; whoever joins a latched topic late gets as many
    messages as all of them kept. Deadlines, lifespans and liveliness were of the robot's own pace
    and are not offered. A volatile topic keeps `DEPTH` messages or more until they are sent.

    Args:
        offers: of the publishers that the bag knows of; with none the topic is reliable, volatile.
    """
    best_effort = offers and all(one.reliability is QosReliability.BEST_EFFORT for one in offers)
    latching = [one for one in offers if one.durability is QosDurability.TRANSIENT_LOCAL]
    kept = sum(_depth(one) for one in latching or offers)
    return QoSProfile(
        depth=kept if latching else max(kept, DEPTH),
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latching else DurabilityPolicy.VOLATILE,
    )


def recorded(profile: QoSProfile) -> Qos:
    """Return what one publisher offers as a bag keeps it. Names and numbers of the policies are
    the same; history and depth are not announced over the network, so they are mostly unknown.
    """
    return Qos(
        history=QosHistory(profile.history.value),
        depth=profile.depth,
        reliability=QosReliability(profile.reliability.value),
        durability=QosDurability(profile.durability.value),
        deadline=_time(profile.deadline),
        lifespan=_time(profile.lifespan),
        liveliness=QosLiveliness(profile.liveliness.value),
        liveliness_lease_duration=_time(profile.liveliness_lease_duration),
        avoid_ros_namespace_conventions=profile.avoid_ros_namespace_conventions,
    )


def _time(duration: Duration) -> QosTime:
    return QosTime(*divmod(duration.nanoseconds, 10**9))


def _depth(offer: Qos) -> int:
    """Return how many messages a publisher kept; bags of many middlewares do not say."""
    if offer.history is QosHistory.KEEP_ALL:
        return MANY
    return offer.depth if offer.depth > 0 else DEPTH
