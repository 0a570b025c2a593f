"""Open any bag, or say which of its files is wrong and what can be done about it.

A path in, a reader of `rosbags` out. Where metadata.yaml and the files beside it disagree the bag
is refused: messages of a topic that they describe differently would otherwise be left out unsaid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
from rosbags.rosbag2.reader import DirectoryReader, Reader

from wm_ros.bag import metadata
from wm_ros.bag.types import BagError, ros_types

ROS1_SUFFIX = '.bag'


@contextmanager
def open_bag(path: str | Path) -> Iterator[AnyReader]:
    """Open a rosbag2 folder, a single .mcap or .db3 file, or a ROS 1 .bag.

    Raises:
        BagError: missing, empty, cut, unclosed or mistyped, naming the file; or metadata.yaml says
            something else than the files, naming the topic and both numbers.
    """
    path = Path(path)
    if not path.exists():
        raise BagError(f'no bag at {path}')
    _require_closed(path)
    try:
        reader = AnyReader([path], default_typestore=ros_types())
        reader.open()
    except BagError:
        raise
    except Exception as error:  # rosbags lets errors of any kind through for damaged files
        raise BagError(
            f'cannot read bag {path}: {error or type(error).__name__}{_advice(path)}'
        ) from error
    try:
        _require_agreement(reader, path)
        yield reader
    finally:
        reader.close()


def _advice(path: Path) -> str:
    """Say what may mend a bag that cannot be opened; empty where nothing is known."""
    listed = metadata.read_metadata(path) if path.is_dir() else None
    if path.suffix == ROS1_SUFFIX:
        return ' (cut short or not closed? ROS 1 mends it: rosbag reindex)'
    if path.suffix == '.zstd':
        return ' (a compressed file of a bag is read with its metadata.yaml: give the folder)'
    if path.is_file() and path.suffix != '.mcap':
        return ''
    if listed is not None and (fault := _fault(path, listed)):
        return f' ({metadata.NAME} {fault})'
    if path.is_file() or any(path.glob('*.mcap')):
        return f' (cut short or not closed? try: wm bag recover {path})'
    return '' if any(path.iterdir()) else ' (an empty folder)'


def _fault(folder: Path, listed: dict[str, object]) -> str:
    """Return in which way metadata does not fit the files in the folder, as far as names tell."""
    names = metadata.files_of(listed)
    storage, mode = str(listed.get('storage_identifier')), listed.get('compression_mode') or ''
    suffixes = {'mcap': '.mcap', 'sqlite3': '.db3'}
    version = listed.get('version')
    if isinstance(version, int) and version > metadata.VERSION:
        return f'is of version {version}, known are 1 to {metadata.VERSION}'
    for name in names:
        if not (folder / name).exists():
            there = ', '.join(sorted(path.name for path in folder.iterdir())) or 'nothing'
            return f'names {name}; the folder holds {there}'
        if storage not in suffixes:
            return f'says storage {storage!r}, known are {", ".join(suffixes)}'
        if str(mode).lower() == 'file' and not name.endswith('.zstd'):
            return f'says that files are compressed; {name} is not'
        if suffixes[storage] not in Path(name).suffixes:
            return f'says storage {storage}; {name} is none'
    return ''


def _require_closed(path: Path) -> None:
    """Raise BagError for a .db3 whose writer was killed: what it wrote last is not in it."""
    for file in path.glob('*.db3') if path.is_dir() else [path]:
        log = file.with_name(f'{file.name}-wal')
        if log.exists() and log.stat().st_size:
            raise BagError(
                f'bag {file} was not closed: its last messages are in {log.name} '
                f'(bring them in: sqlite3 {file} "PRAGMA wal_checkpoint")'
            )


def _require_agreement(reader: AnyReader, path: Path) -> None:
    """Raise BagError where metadata.yaml and the files of a folder disagree about a topic."""
    for one in reader.readers:
        if not isinstance(one, Reader) or not isinstance(one.storage, DirectoryReader):
            continue
        listed = one.storage.connections
        held = [each for storage in one.storage.storages for each in storage.connections]
        says, counts = _counted(listed), _counted(held)
        for topic in sorted(set(says) | set(counts)):
            if says[topic] != counts[topic]:
                raise BagError(
                    f'bag {path}: {metadata.NAME} says {says[topic]} messages of {topic}, its '
                    f'files hold {counts[topic]}{_recount(path)}'
                )
        total, said = sum(counts.values()), one.storage.metadata.message_count
        if said != total:
            raise BagError(
                f'bag {path}: {metadata.NAME} says {said} messages in all, its files hold {total}'
                f'{_recount(path)}'
            )
        for each in held:
            if each.msgcount and not any(_same(each, other) for other in listed):
                raise BagError(
                    f'bag {path}: {metadata.NAME} describes {each.topic} otherwise than its '
                    f'file: another type, type hash or quality of service than {each.msgtype} '
                    f'has there{_mend(path)}'
                )


def _recount(path: Path) -> str:
    return f' (try: wm bag recover {path})' if any(path.glob('*.mcap')) else _mend(path)


def _mend(path: Path) -> str:
    if any(path.glob('*.mcap')):
        return f' (move {metadata.NAME} away, then: wm bag recover {path})'
    return ' (the .db3 file given itself is read without it)'


def _counted(connections: list[Connection]) -> Counter[str]:
    found: Counter[str] = Counter()
    for connection in connections:
        found[connection.topic] += connection.msgcount
    return found


def _same(held: Connection, listed: Connection) -> bool:
    """Whether `rosbags` takes both for one topic; if not it leaves the messages out."""
    return (
        (held.topic, held.msgtype, held.ext) == (listed.topic, listed.msgtype, listed.ext)
        and not (held.digest and listed.digest and held.digest != listed.digest)
    )  # fmt: skip
