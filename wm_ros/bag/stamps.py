"""The header stamp inside the CDR bytes of a message: read it, put another in its place.

For those who pass messages on without decoding them: a player, a maker of faults. No ROS, no
files.
"""

from __future__ import annotations

import struct

from rosbags.typesys.store import Typestore

STAMP_AT = 4  # after the encapsulation header of the CDR bytes
LITTLE, BIG = struct.Struct('<iI'), struct.Struct('>iI')
STAMP_END = STAMP_AT + LITTLE.size  # a message that is shorter has none
LATEST_NS = (2**31 - 1) * 1_000_000_000  # of a builtin_interfaces/Time
HEADER = 'std_msgs/msg/Header'


def has_header(types: Typestore, msgtype: str) -> bool:
    """Return whether the first field of a type is a std_msgs/Header; False for unknown types."""
    if msgtype not in types.fielddefs:
        return False
    fields = types.fielddefs[msgtype][1]
    return bool(fields) and fields[0][1][1] == HEADER


def _layout(data: bytes) -> struct.Struct:
    return LITTLE if data[1] & 1 else BIG


def read_stamp_ns(data: bytes) -> int:
    """Return the header stamp of a message whose first field is a std_msgs/Header, of
    `STAMP_END` bytes or more.
    """
    sec, nanosec = _layout(data).unpack_from(data, STAMP_AT)
    return int(sec) * 1_000_000_000 + int(nanosec)


def with_stamp(data: bytes, stamp_ns: int) -> bytes:
    """Return the same message with another header stamp, at most `LATEST_NS`."""
    layout = _layout(data)
    stamp = layout.pack(*divmod(min(stamp_ns, LATEST_NS), 1_000_000_000))
    return data[:STAMP_AT] + stamp + data[STAMP_AT + layout.size :]
