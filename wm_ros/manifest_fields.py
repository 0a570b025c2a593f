"""Reading the fields of a manifest: each has a type and a place, or the package is refused."""

from __future__ import annotations

import re
from typing import Any, TypeVar

T = TypeVar('T')


class PackageError(Exception):
    """A model package that cannot be used: the text says what was found and what was expected."""


def require_name(name: str, origin: str = '') -> None:
    """Refuse what cannot be the folder of a package beside others: an empty name is the folder of
    all of them, one with a slash lies elsewhere.

    Args:
        name: of a package that is to be made.
        origin: who gave it, for the text.

    Raises:
        PackageError: anything but letters, digits and _ . -, or a dot first.
    """
    if not re.fullmatch(r'[A-Za-z0-9_-][A-Za-z0-9_.-]*', name):
        given = f' ({origin})' if origin else ''
        raise PackageError(
            f'package name {name!r}{given}: expected letters, digits and _ . -, no dot first'
        )


def typed(value: Any, kind: type[T], where: str) -> T:
    """Return the value, or refuse it when it is not of this type."""
    if not isinstance(value, kind):
        raise PackageError(f'manifest {where}: found {value!r}, expected {kind.__name__}')
    return value


def same_names(values: Any, expected: tuple[str, ...], where: str) -> None:
    """Refuse what is no dictionary of exactly these names."""
    names = set(typed(values, dict, where))
    if unknown := sorted(names - set(expected)):
        raise PackageError(
            f'{where}: unknown fields {", ".join(unknown)}; expected {", ".join(expected)}'
        )
    if missing := sorted(set(expected) - names):
        raise PackageError(f'{where}: missing fields {", ".join(missing)}')


def texts(values: Any, names: tuple[str, ...], where: str) -> dict[str, str]:
    """Return a dictionary of exactly these names, all of them texts."""
    same_names(values, names, where)
    return {name: typed(values[name], str, f'{where}.{name}') for name in names}
