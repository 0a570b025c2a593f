"""Message types without ROS: Jazzy's own, and wm_ros_msgs from its .msg files."""

from __future__ import annotations

import functools
from pathlib import Path

from rosbags.interfaces.typing import Typesdict
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from wm_ros import share

MESSAGE_PACKAGE = 'wm_ros_msgs'


class BagError(ValueError):
    """A bag that cannot be read or written; the message names file, topic and position where
    known.
    """


def message_folder() -> Path:
    """Find the .msg files of wm_ros_msgs: of the repository, else of an installed package.

    Raises:
        BagError: neither exists, naming where it looked.
    """
    places = share.folders('msg/msg', f'{MESSAGE_PACKAGE}/msg')
    for place in places:
        if (place / 'Action.msg').is_file():
            return place
    looked = ', '.join(str(place) for place in places)
    raise BagError(f'no message definitions of {MESSAGE_PACKAGE}; looked in {looked}')


@functools.cache
def ros_types() -> Typestore:
    """Return the types of ROS 2 Jazzy and wm_ros_msgs, for (de)serialising CDR without ROS."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types: Typesdict = {}
    for path in sorted(message_folder().glob('*.msg')):
        text = path.read_text(encoding='utf-8')
        types.update(get_types_from_msg(text, f'{MESSAGE_PACKAGE}/msg/{path.stem}'))
    store.register(types)
    return store


def definition_of(msgtype: str) -> str:
    """Return the full definition of a type, dependencies included, as rosbag2 embeds it.

    Raises:
        BagError: unknown type.
    """
    store = ros_types()
    if msgtype not in store.fielddefs:
        raise BagError(f'unknown message type {msgtype!r}: pass its definition')
    return store.generate_msgdef(msgtype, ros_version=2)[0]


def type_hash(msgtype: str, definition: str) -> str:
    """Return the RIHS01 hash of a type from its full definition text.

    Raises:
        BagError: the text is no definition of that type.
    """
    store = get_typestore(Stores.EMPTY)
    try:
        store.register(get_types_from_msg(definition, msgtype))
        return store.hash_rihs01(msgtype)
    except (TypesysError, KeyError) as error:
        raise BagError(f'no definition of {msgtype}: {error}') from error
