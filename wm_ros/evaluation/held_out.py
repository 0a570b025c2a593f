"""Which episodes are learned from and which are kept apart to judge the result by.

In: names of bags, what was asked for, and which of them the weights have practised that training
begins with. Out: a split, the same for the same names, kept as `split.json` beside the training
that it belongs to: a run that goes on has the split it began with. Reads no bag.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = 'split.json'
SHARE = 5  # one bag in so many is held out


@dataclass(frozen=True)
class Split:
    """Names of bags, sorted: learned from, and kept apart."""

    practice: tuple[str, ...]
    held_out: tuple[str, ...]

    def __str__(self) -> str:
        apart = ', '.join(self.held_out) or 'nothing'
        return f'{len(self.practice)} bags to learn from; held out: {apart}'


def choose(names: Sequence[str], asked: str | None, seen: Collection[str] = ()) -> Split:
    """Split bags.

    Args:
        names: of all bags.
        asked: how many to hold out, evenly spread over the sorted names, or which, comma
            separated; None for about a fifth of them, at least one of two or more.
        seen: those that were practised before, by the weights that training goes on from: never
            held out, and not counted for the fifth.

    Raises:
        ValueError: names that are not there or were practised before, or nothing left to learn
            from.
    """
    names = sorted(names)
    free = [name for name in names if name not in seen]
    wanted = {name.strip() for name in (asked or '').split(',')} - {''}
    if asked is None:
        count = 0 if len(names) < 2 else max(1, round(len(free) / SHARE))
        wanted = spread(free, count)
    elif asked.strip().isdecimal() and not wanted <= set(names):
        if seen and int(asked) > len(free):
            raise ValueError(
                f'--hold-out {asked}: of {len(names)} bags --from has not practised '
                f'{", ".join(free) or "any"}'
            )
        wanted = spread(free, int(asked))
    if unknown := sorted(wanted - set(names)):
        raise ValueError(
            f'--hold-out {", ".join(unknown)}: not among the bags, which are {", ".join(names)}'
        )
    _require_unseen(wanted, seen, '--hold-out')
    if len(wanted) >= len(names):
        raise ValueError(f'--hold-out {asked}: nothing is left of {len(names)} bags to learn from')
    practice = tuple(name for name in names if name not in wanted)
    return Split(practice, tuple(sorted(wanted)))


def _require_unseen(held_out: Collection[str], seen: Collection[str], where: str) -> None:
    if leaked := sorted(set(held_out) & set(seen)):
        raise ValueError(
            f'{where} {", ".join(leaked)}: practised already by what --from names, so no judge of '
            'what comes of it'
        )


def spread(names: Sequence[str], count: int) -> set[str]:
    """Return so many names, evenly spread; all where there are not more."""
    count = min(count, len(names))
    return {names[(2 * i + 1) * len(names) // (2 * count)] for i in range(count)}


def kept_split(
    folder: Path,
    names: Sequence[str],
    asked: str | None,
    fresh: bool,
    seen: Collection[str] = (),
) -> Split:
    """Return the split that a run in a folder has, and keep it there.

    Args:
        folder: of the run, made if missing.
        names, asked, seen: as for `choose`; where nothing is asked for and the bags are the same,
            what was kept holds.
        fresh: forget what was kept.

    Raises:
        ValueError: another split than the run was begun with, one that holds out what was
            practised before, or as `choose`.
    """
    path = folder / FILE
    before = _read(path) if path.exists() and not fresh else None
    if before and asked is None and sorted(names) == sorted(before.practice + before.held_out):
        _require_unseen(before.held_out, seen, f'{path}: this run was begun with held out')
        return before
    split = choose(names, asked, seen)
    if before and before != split:
        raise ValueError(
            f'{path}: this run was begun with {before}; asked for now: {split}. What it has '
            'learnt is of the first: --fresh starts from nothing, another --name or --out beside'
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(split), indent=1) + '\n', encoding='utf-8')
    return split


def _read(path: Path) -> Split:
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
        return Split(tuple(values['practice']), tuple(values['held_out']))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path}: not a split of bags ({error}): --fresh starts anew') from error
