"""What made a file, and whether that still holds: shards, running states and artefacts are reused
only when every number that they were made of is the same.

What counts are values (a recipe's fields, weights, what a world plays), not the code that reads
them. `made_of` dictionaries are plain JSON values and lie beside what they describe.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

MadeOf = Mapping[str, Any]


def digest(value: Any) -> str:
    """Return 16 hex digits that stand for plain JSON values, whatever the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def array_digest(*arrays: np.ndarray) -> str:
    """Return 16 hex digits that stand for arrays: shapes, types and bytes."""
    whole = hashlib.sha256()
    for array in arrays:
        whole.update(f'{array.shape}{array.dtype}'.encode())
        whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()[:16]


def weights_digest(module: nn.Module) -> str:
    """Return 16 hex digits that stand for a module's weights and buffers."""
    state = sorted(module.state_dict().items())
    return array_digest(*(value.detach().cpu().numpy() for _, value in state))


def stale(found: MadeOf | None, wanted: MadeOf) -> str:
    """Return '' when a file was made of what is wanted, else in words what differs."""
    if not found:
        return 'it does not say what made it'
    before, now = _flat(found), _flat(wanted)
    return ', '.join(
        f'{name} was {before.get(name, "not there")} and is {now.get(name, "gone")}'
        for name in (*now, *(name for name in before if name not in now))
        if before.get(name, _ABSENT) != now.get(name, _ABSENT)
    )


_ABSENT = object()


def _flat(values: MadeOf, prefix: str = '') -> dict[str, Any]:
    """Return nested dictionaries as one, names joined by dots; tuples as the lists of JSON."""
    flat: dict[str, Any] = {}
    for name, value in json.loads(json.dumps(values)).items():
        if isinstance(value, dict):
            flat.update(_flat(value, f'{prefix}{name}.'))
        else:
            flat[prefix + name] = value
    return flat
