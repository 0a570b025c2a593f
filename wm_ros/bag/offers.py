"""The quality of service that a topic was offered with, as its bag tells.

In: connections of `rosbags`. Out: profiles, one for each publisher that the bag knows of, and the
YAML text in which rosbag2 keeps them. Makes no profile of ROS: the player does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import yaml
from rosbags.interfaces import Connection, ConnectionExtRosbag1, Qos
from rosbags.rosbag2.metadata import dump_qos_v9, parse_qos

from wm_ros.bag.record import LATCHED

Offers = tuple[Qos, ...]


def offers_of(connections: Iterable[Connection]) -> Offers:
    """Return the profiles of a topic's publishers; none where the bag does not tell.

    A latching publisher of ROS 1 counts as one of ROS 2 that keeps its last message for everyone
    who joins later.
    """
    found: list[Qos] = []
    for connection in connections:
        if not isinstance(connection.ext, ConnectionExtRosbag1):
            found += connection.ext.offered_qos_profiles
        elif connection.ext.latching:
            found += parse_qos(LATCHED)
    return tuple(found)


def offers_text(offers: Sequence[Qos]) -> str:
    """Return profiles as the YAML text of an MCAP channel; empty for none."""
    if not offers:
        return ''
    return yaml.safe_dump(dump_qos_v9(list(offers)), sort_keys=False, default_flow_style=None)
