"""The metadata.yaml of a rosbag2 directory, version 9, written so that a cut never leaves half a
file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

VERSION = 9


@dataclass(frozen=True)
class TopicRecord:
    """One recorded topic: name, message type, RIHS01 type hash and messages."""

    name: str
    msgtype: str
    type_hash: str
    messages: int


def write_metadata(
    folder: Path, file_name: str, topics: Sequence[TopicRecord], start_ns: int, end_ns: int
) -> None:
    """Write `metadata.yaml` for a bag of one MCAP file.

    Args:
        folder: the bag.
        file_name: the MCAP file in it.
        topics: what it holds.
        start_ns: log time of the first message, 0 when there is none.
        end_ns: log time of the last message.
    """

    def span() -> dict[str, Any]:  # made twice: YAML would write a shared value as an alias
        return {
            'duration': {'nanoseconds': end_ns - start_ns},
            'starting_time': {'nanoseconds_since_epoch': start_ns},
            'message_count': sum(topic.messages for topic in topics),
        }

    listed = [
        {
            'topic_metadata': {
                'name': topic.name,
                'type': topic.msgtype,
                'serialization_format': 'cdr',
                'offered_qos_profiles': [],
                'type_description_hash': topic.type_hash,
            },
            'message_count': topic.messages,
        }
        for topic in topics
    ]
    content = {
        'version': VERSION,
        'storage_identifier': 'mcap',
        **span(),
        'topics_with_message_count': listed,
        'compression_format': '',
        'compression_mode': '',
        'relative_file_paths': [file_name],
        'files': [{'path': file_name, **span()}],
        'custom_data': None,
        'ros_distro': 'jazzy',
    }
    text = yaml.safe_dump({'rosbag2_bagfile_information': content}, sort_keys=False)
    fresh = folder / 'metadata.yaml.new'
    fresh.write_text(text, encoding='utf-8')
    fresh.replace(folder / 'metadata.yaml')
