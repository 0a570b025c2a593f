"""The metadata.yaml of a rosbag2 directory: read in any version; written in version 9, or in that
of the one it replaces, so that a cut never leaves half a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

VERSION = 9
NAME = 'metadata.yaml'
ROOT = 'rosbag2_bagfile_information'
EMPTY: Mapping[str, Any] = {
    'version': VERSION,
    'storage_identifier': 'mcap',
    'duration': {},
    'starting_time': {},
    'message_count': 0,
    'topics_with_message_count': [],
    'compression_format': '',
    'compression_mode': '',
    'relative_file_paths': [],
    'files': [],
    'custom_data': None,
    'ros_distro': 'jazzy',
}


@dataclass(frozen=True)
class TopicRecord:
    """One recorded topic: name, message type, RIHS01 type hash, messages, and the QoS that it was
    offered with as the YAML text of its MCAP channel.
    """

    name: str
    msgtype: str
    type_hash: str
    messages: int
    qos: str = ''


@dataclass(frozen=True)
class FileRecord:
    """One file of a bag: its name in the folder, its messages, log times of the first and last."""

    name: str
    messages: int
    start_ns: int = 0
    end_ns: int = 0


def read_metadata(folder: Path) -> dict[str, Any] | None:
    """Return the content of `metadata.yaml`; None where there is none, or it makes no sense."""
    try:
        found = yaml.safe_load((folder / NAME).read_text(encoding='utf-8'))[ROOT]
        files_of(found)
        [entry['topic_metadata']['name'] for entry in found['topics_with_message_count']]
    except (OSError, yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError, AttributeError):
        return None
    return dict(found)


def files_of(content: Mapping[str, Any]) -> dict[str, FileRecord | None]:
    """Return the files that a metadata names, in order; None for one that it says no more of."""
    known = {entry['path']: entry for entry in content.get('files') or ()}
    files: dict[str, FileRecord | None] = {}
    for path in content['relative_file_paths']:
        entry, name = known.get(path), Path(path).name
        if entry is None:
            files[name] = None
            continue
        start_ns = entry['starting_time']['nanoseconds_since_epoch']
        end_ns = start_ns + entry['duration']['nanoseconds']
        files[name] = FileRecord(name, entry['message_count'], start_ns, end_ns)
    return files


def make_metadata(
    files: Sequence[FileRecord],
    topics: Iterable[TopicRecord],
    old: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the content for a bag.

    Args:
        files: of the bag, in order.
        topics: of all files; the same name twice is one topic.
        old: content to keep where files and topics say nothing else: version, QoS, custom data.
    """
    base = EMPTY if old is None else old
    listed = {
        entry['topic_metadata']['name']: {**entry, 'message_count': 0}
        for entry in base['topics_with_message_count']
    }
    for topic in topics:
        entry = listed.setdefault(topic.name, _topic_entry(topic, base['version']))
        entry['message_count'] += topic.messages
    full = [file for file in files if file.messages]
    start_ns = min((file.start_ns for file in full), default=0)
    end_ns = max((file.end_ns for file in full), default=0)
    return {
        **base,
        **_span(start_ns, end_ns, sum(file.messages for file in files)),
        'topics_with_message_count': list(listed.values()),
        'relative_file_paths': [file.name for file in files],
        'files': [
            {'path': file.name, **_span(file.start_ns, file.end_ns, file.messages)}
            for file in files
        ],
    }


def write_metadata(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `metadata.yaml` into the folder of a bag."""
    text = yaml.safe_dump({ROOT: dict(content)}, sort_keys=False)
    fresh = folder / f'{NAME}.new'
    fresh.write_text(text, encoding='utf-8')
    fresh.replace(folder / NAME)


def _span(start_ns: int, end_ns: int, messages: int) -> dict[str, Any]:
    return {
        'duration': {'nanoseconds': end_ns - start_ns},
        'starting_time': {'nanoseconds_since_epoch': start_ns},
        'message_count': messages,
    }


def _topic_entry(topic: TopicRecord, version: int) -> dict[str, Any]:
    """Return a topic as metadata lists it. Readers want the QoS of metadata and channel equal."""
    qos = (yaml.safe_load(topic.qos) or []) if version >= VERSION else topic.qos
    return {
        'topic_metadata': {
            'name': topic.name,
            'type': topic.msgtype,
            'serialization_format': 'cdr',
            'offered_qos_profiles': qos,
            'type_description_hash': topic.type_hash,
        },
        'message_count': 0,
    }
