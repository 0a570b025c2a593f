"""Which bags are meant: bags as they are given, folders of bags as the bags in them.

In: paths. Out: paths of bags in a fixed order, each under a name of its own. Opens none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from wm_ros.bag import metadata
from wm_ros.bag.types import BagError

FILES = ('.mcap', '.db3', '.bag')


def find_episodes(paths: Iterable[Path]) -> dict[str, Path]:
    """Return name -> bag, sorted by name.

    Args:
        paths: bag folders, bare files, or folders that hold such; one level is looked into,
            hidden folders are not.

    Raises:
        BagError: nothing there, a folder without bags, or two bags of one name.
    """
    found: list[Path] = []
    for path in paths:
        found += [path] if path.suffix in FILES or _is_bag(path) else _inside(path)
    return by_name(found)


def by_name(paths: Iterable[Path]) -> dict[str, Path]:
    """Return name -> bag, sorted by name.

    Raises:
        BagError: two bags of one name.
    """
    bags = list(dict.fromkeys(path.resolve() for path in paths))
    names = Counter(bag_name(path) for path in bags)
    if twice := [str(path) for path in bags if names[bag_name(path)] > 1]:
        raise BagError(f'bags of one name cannot be told apart: {", ".join(twice)}')
    return {bag_name(path): path for path in sorted(bags, key=bag_name)}


def bag_name(path: Path) -> str:
    """Return what a bag is called: its folder, or its file without the suffix."""
    return path.stem if path.suffix in FILES else path.name


def bytes_of(bags: Mapping[str, Path]) -> dict[str, int]:
    """Return name -> size of each bag: enough to notice that one has changed."""
    return {
        name: sum(f.stat().st_size for f in ([path] if path.is_file() else path.iterdir()))
        for name, path in bags.items()
    }


def _is_bag(folder: Path) -> bool:
    return (folder / metadata.NAME).exists()


def _inside(folder: Path) -> list[Path]:
    """Return the bags in a folder; each of its folders counts as one, whatever state it is in:
    what is left out unsaid is not missed.
    """
    if not folder.is_dir():
        word = 'not a bag' if folder.exists() else 'no bag there'
        raise BagError(f'{folder}: {word}; expected a folder or a {", ".join(FILES)} file')
    found = [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith('.') and (path.is_dir() or path.suffix in FILES)
    ]
    if not found:
        raise BagError(f'{folder}: no bags in it: neither folders nor {", ".join(FILES)} files')
    return found
