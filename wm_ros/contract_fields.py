"""Strict reading of nested dataclasses from plain values, and back.

Unknown, missing and mistyped fields stop the reading.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import numpy as np


class ContractError(ValueError):
    """A contract that cannot be used; the message says what was found and what was expected."""


def build_value(kind: Any, value: Any, where: str) -> Any:
    """Build `kind` (dataclass, tuple, optional or scalar) from plain YAML or JSON values.

    Args:
        kind: the annotated type.
        value: what was read.
        where: path of the field, for the error message; empty at the top.

    Raises:
        ContractError: naming the field, what was found and what was expected.
    """
    if is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    if typing.get_origin(kind) is tuple:
        if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
            raise ContractError(f'{where} is {value!r}, expected a list')
        item_kind = typing.get_args(kind)[0]
        return tuple(build_value(item_kind, item, f'{where}[{i}]') for i, item in enumerate(value))
    if isinstance(kind, types.UnionType):
        if value is None:
            return None
        return build_value(typing.get_args(kind)[0], value, where)
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise ContractError(f'{where} is {value!r}, expected {kind.__name__}')
    return float(value) if kind is float else value


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    inside = f' in {where}' if where else ''
    if not isinstance(value, Mapping):
        raise ContractError(f'found {type(value).__name__}{inside}, expected named fields')
    known = {item.name: item for item in fields(kind)}
    if unknown := sorted(str(name) for name in value if name not in known):
        raise ContractError(
            f'unknown fields{inside}: {", ".join(unknown)} (known: {", ".join(known)})'
        )
    needed = [
        name
        for name, item in known.items()
        if item.default is MISSING and item.default_factory is MISSING
    ]
    if missing := [name for name in needed if name not in value]:
        raise ContractError(f'missing fields{inside}: {", ".join(missing)}')
    kinds = typing.get_type_hints(kind)
    prefix = f'{where}.' if where else ''
    return kind(
        **{name: build_value(kinds[name], item, prefix + name) for name, item in value.items()}
    )


def plain(value: Any) -> Any:
    """Turn nested dataclasses, arrays and tuples into what JSON and YAML know."""
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value
