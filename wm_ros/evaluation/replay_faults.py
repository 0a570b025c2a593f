"""The faults that were put into a bag by `wm degrade`, as its `faults.json` lists them.

In: the path of a bag. Out: what was done how often, for `metrics.json`; which message it befell
stays in the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wm_ros.bag import BagError
from wm_ros.bag.degrade import NAME


def faults_of(bag: Path) -> dict[str, Any] | None:
    """Return the faults of a bag, None where its folder lists none.

    Returns:
        `bag` (the good one), `seed`, and `faults`: one entry each with its name, its settings and
        `done`, what was done -> topic -> how often.

    Raises:
        BagError: the file is there and cannot be read.
    """
    path = (bag if bag.is_dir() else bag.parent) / NAME
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
        faults = [_entry(fault) for fault in found['faults']]
        return {'bag': str(found['bag']), 'seed': int(found['seed']), 'faults': faults}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BagError(f'{path} is not a list of faults by `wm degrade`: {error!r}') from error


def settings_text(fault: Mapping[str, Any]) -> str:
    """Return a fault's settings in words, such as `share 0.05, length 8`."""
    named = ('fault', 'role', 'done')  # the fault's name says whom it befell
    plain = {name: value for name, value in fault.items() if name not in named}
    return ', '.join(f'{name} {value}' for name, value in plain.items())


def done_text(fault: Mapping[str, Any]) -> str:
    """Return what a fault did in words, such as `/camera: 12 dropped`."""
    words = [
        f'{topic}: {count} {what}'
        for what, topics in fault['done'].items()
        for topic, count in topics.items()
    ]
    return '; '.join(words) or 'nothing befell'


def _entry(fault: Mapping[str, Any]) -> dict[str, Any]:
    done = {
        what: {topic: int(one['count']) for topic, one in topics.items()}
        for what, topics in fault['done'].items()
    }
    return {'fault': str(fault['fault']), **fault, 'done': done}
