"""Make a bag readable whose MCAP files were cut at any byte, and say what was lost.

Whole chunks of a cut file are copied message by message into a fresh one beside it, which takes
its place only when all of them are complete. Where anything was lost, the file as it was found
stays as `<file>.damaged`: another tool may read more. A file that was closed properly is left
alone. metadata.yaml is written anew where it says something else, the old one kept the same way.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcap.records import Message

from wm_ros.bag import metadata
from wm_ros.bag.metadata import FileRecord
from wm_ros.bag.record import McapFile
from wm_ros.bag.salvage import Contents, Salvage, read_contents
from wm_ros.bag.types import BagError

SUFFIX = '.mcap'


@dataclass(frozen=True)
class Recovery:
    """What `recover` did to one file.

    Attributes:
        path: the MCAP file.
        complete: the file had been closed properly; nothing was lost.
        messages: messages kept, by topic.
        file_bytes: size of the file as it was found.
        lost_bytes: bytes at its end, or in damaged chunks, that no message could be read from.
        damaged_chunks: whole chunks left out because their checksum or content is wrong.
        orphans: messages left out because the record that names their topic is damaged.
        start_ns: log time of the first kept message.
        end_ns: log time of the last kept message.
        damaged_path: the file as it was found, where bytes or messages of it were lost; else None.
    """

    path: Path
    complete: bool
    messages: dict[str, int]
    file_bytes: int
    lost_bytes: int
    damaged_chunks: int
    orphans: int
    start_ns: int
    end_ns: int
    damaged_path: Path | None = None


def recover(bag: str | Path) -> list[Recovery]:
    """Make a cut or unclosed bag readable.

    Args:
        bag: a bag folder, of which every damaged MCAP file is recovered; or one file of a bag, the
            only one that is then touched: the others keep their place in the metadata.

    Returns:
        What was kept and what was lost, by file in the bag's order. A damaged file without one
        readable message leaves the bag where other files have some.

    Raises:
        BagError: there is no MCAP file, not one message in them, or a file of the bag is missing;
            nothing has been changed.
    """
    bag = Path(bag)
    alone = bag.is_file()
    folder = bag.parent if alone else bag
    old = metadata.read_metadata(folder)
    names = _names(bag, old)
    read = {
        name: read_contents(folder / name)
        for name in names
        if name == bag.name or (name.endswith(SUFFIX) and (folder / name).is_file())
    }
    chosen = [read[name] for name in ([bag.name] if alone else names)]
    if not any(each.file.messages for each in chosen):
        size = sum(each.file_bytes for each in chosen)
        raise BagError(f'{bag}: not one message in {size} bytes; nothing to recover')
    damaged = [each for each in chosen if not each.complete]
    try:
        for each in damaged:
            _copy(each)
        kept = {each.path: _replace(each) for each in damaged}
    finally:
        for each in damaged:
            _fresh_path(each.path).unlink(missing_ok=True)
    _write_metadata(folder, old, names, read, chosen)
    return [_recovery(each, kept.get(each.path)) for each in chosen]


def _names(bag: Path, old: dict[str, Any] | None) -> list[str]:
    """Return the names of the bag's files: those listed in their order, then the others."""
    listed = [] if old is None else list(metadata.files_of(old))
    if bag.is_file() and old is not None:
        return listed if bag.name in listed else [*listed, bag.name]
    folder = bag.parent if bag.is_file() else bag
    there = sorted((path.name for path in folder.glob(f'*{SUFFIX}')), key=_in_order)
    if bag.is_file():
        return there if bag.name in there else [*there, bag.name]
    if not there:
        raise BagError(f'{bag} holds 0 {SUFFIX} files, expected one or more')
    if missing := [name for name in listed if name not in there]:
        raise BagError(
            f'{bag}: {metadata.NAME} names {", ".join(missing)}, which is no {SUFFIX} file there; '
            f'to go on without it move {metadata.NAME} away'
        )
    return [*listed, *(name for name in there if name not in listed)]


def _in_order(name: str) -> list[tuple[int, str]]:
    """Sort key by which bag_2 comes before bag_10."""
    return [(int(part or 0) if part.isdigit() else 0, part) for part in re.split(r'(\d+)', name)]


def _fresh_path(path: Path) -> Path:
    return path.with_name(f'{path.name}.recovering')


def _copy(contents: Contents) -> None:
    """Write what can be read of a file into a fresh one beside it."""
    fresh_path = _fresh_path(contents.path)
    fresh_path.unlink(missing_ok=True)
    fresh = McapFile(fresh_path)
    for channel_id, topic in contents.topics.items():
        text, encoding = contents.definitions[channel_id]
        fresh.add_topic(topic.name, topic.msgtype, text, encoding, topic.type_hash, topic.qos)
    for record in Salvage(contents.path).records():
        if isinstance(record, Message) and record.channel_id in contents.topics:
            topic = contents.topics[record.channel_id]
            fresh.write(topic.name, record.data, record.log_time, record.publish_time)
    fresh.close()


def _replace(contents: Contents) -> Path | None:
    """Put the fresh file into its place; return where the damaged one stays, if anything is lost.

    A fresh file without messages takes no place.
    """
    path, damaged_path = contents.path, None
    if contents.lost_bytes or contents.orphans or not contents.file.messages:
        damaged_path = _free_path(path)
        path.rename(damaged_path)
    if contents.file.messages:
        _fresh_path(path).replace(path)
    return damaged_path


def _free_path(path: Path) -> Path:
    """Return `<file>.damaged`, numbered where a recovery before this one has left its own."""
    damaged_path, number = path.with_name(path.name + '.damaged'), 2
    while damaged_path.exists():
        damaged_path = path.with_name(f'{path.name}.damaged{number}')
        number += 1
    return damaged_path


def _write_metadata(
    folder: Path,
    old: dict[str, Any] | None,
    names: Sequence[str],
    read: dict[str, Contents],
    chosen: Sequence[Contents],
) -> None:
    """Write the metadata of the bag if it changes; of files not chosen, as it lists them."""
    listed = {} if old is None else metadata.files_of(old)
    files = []
    for name in names:
        contents = read.get(name)
        if contents is None or contents not in chosen:
            known = listed.get(name) or (contents and contents.file)
            files.append(known or FileRecord(name, 0))
        elif contents.complete or contents.file.messages:
            files.append(contents.file)
    topics = [topic for contents in read.values() for topic in contents.topics.values()]
    content = metadata.make_metadata(files, topics, old)
    if content == old:
        return
    path = folder / metadata.NAME
    if path.exists():
        shutil.copy2(path, _free_path(path))
    metadata.write_metadata(folder, content)


def _recovery(contents: Contents, damaged_path: Path | None) -> Recovery:
    return Recovery(
        contents.path,
        contents.complete,
        contents.messages,
        contents.file_bytes,
        contents.lost_bytes,
        contents.damaged_chunks,
        contents.orphans,
        contents.start_ns,
        contents.end_ns,
        damaged_path,
    )
