"""Which bags a model's weights were ever trained on: no later training may hold one of them out.

In: bags. Out: `practice.json` beside the artefacts of a training, which goes on from whatever the
weights that it began with had practised. A bag is known by its content, so under another name,
too; weights of a simulator have practised no bag and say so; a folder that says nothing may have
practised any.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wm_ros.bag.episodes import FILES, bag_name

FILE = 'practice.json'
FORMAT = 1


@dataclass(frozen=True)
class Practised:
    """Bags that weights have learned from.

    Attributes:
        bags: fingerprint -> what the bag was called then.
        complete: no others; False where weights on the way had no record.
    """

    bags: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True

    def joined(self, other: Practised) -> Practised:
        """Return what both have practised."""
        return Practised({**other.bags, **self.bags}, self.complete and other.complete)

    def among(self, bags: Mapping[str, Path]) -> dict[str, str]:
        """Return name -> what it was called then, of those of some bags that were practised.

        Args:
            bags: name -> bag; each is read whole.
        """
        if not self.bags:
            return {}
        marks = {name: fingerprint(path) for name, path in bags.items()}
        return {name: self.bags[mark] for name, mark in marks.items() if mark in self.bags}

    def notes(self, origin: str, held_out: Collection[str]) -> list[str]:
        """Return what is to be said of held-out bags that judge what comes of these weights.

        Args:
            origin: what the weights are called.
            held_out: names of bags, none of which is known to be practised.
        """
        if not held_out:
            return []
        told = []
        if not self.complete:
            told.append(
                f'Unknown: {origin} does not say which bags it was trained on (no {FILE} beside '
                'it or what it came from); it may have practised the held-out ones, and the '
                'figures may be too good.'
            )
        elif self.bags:
            told.append(f'{origin} has practised {len(self.bags)} bag(s), none of those held out.')
        else:
            told.append(f'{origin} was trained on no recorded bags.')
        if alike := sorted(set(held_out) & set(self.bags.values())):
            told.append(
                f'{", ".join(alike)}: held out, and called as a bag that {origin} has practised; '
                'the content is another, so it is taken for another recording.'
            )
        return told


def fingerprint(bag: Path) -> str:
    """Return 32 hex digits that stand for the content of a bag, whatever its files are called.

    They are of the files' bytes: a bag that was degraded, converted or recovered is another.
    """
    files = [bag]
    if bag.is_dir():
        files = [path for path in bag.iterdir() if path.name.removesuffix('.zstd').endswith(FILES)]
    marks = sorted(map(_digest, files))
    return hashlib.sha256(' '.join(marks).encode()).hexdigest()[:32]


def practised_of(bags: Iterable[Path], origin: Path | None = None) -> Practised:
    """Return what a training on some bags has practised in the end.

    Args:
        bags: that it learns from; each is read whole.
        origin: folder of the artefacts that it goes on from; None from nothing.
    """
    own = Practised({fingerprint(bag): bag_name(bag) for bag in bags})
    return own if origin is None else own.joined(read(origin))


def read(folder: Path) -> Practised:
    """Return what the artefacts in a folder have practised; nothing known where they do not say.

    Raises:
        ValueError: a record that makes no sense.
    """
    path = folder / FILE
    if not path.exists():
        return Practised(complete=False)
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
        if values['format'] != FORMAT:
            raise ValueError(f'format {values["format"]}, expected {FORMAT}')
        bags = {str(bag['fingerprint']): str(bag['name']) for bag in values['bags']}
        return Practised(bags, bool(values['complete']))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path}: not a list of bags that were practised: {error!r}') from error


def keep(folder: Path, practised: Practised) -> None:
    """Write the record beside artefacts, whole or not at all; the folder is made if missing."""
    listed = sorted((name, mark) for mark, name in practised.bags.items())
    values = {
        'format': FORMAT,
        'complete': practised.complete,
        'bags': [{'name': name, 'fingerprint': mark} for name, mark in listed],
    }
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f'{FILE}.new'
    fresh.write_text(json.dumps(values, indent=1) + '\n', encoding='utf-8')
    fresh.replace(folder / FILE)


def _digest(file: Path) -> str:
    with file.open('rb') as stream:
        return hashlib.file_digest(stream, 'sha256').hexdigest()
