"""The figures of an earlier replay beside those of a new one: a faulty bag beside the good one, a
new version of a model beside the last.

In: two contents of `metrics.json`. Out: one, in which the earlier run's model is one more
contender, `baseline`. Refuses what was measured otherwise. Knows no pictures.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wm_ros.evaluation.replay_figures import AHEAD, LATER, tables
from wm_ros.evaluation.replay_tally import BASELINE, MODEL

PARTS = ('one_step', 'by_horizon', 'free_running')
NEEDED = ('format', 'rate_hz', 'complete', 'bag', 'steps', 'counts', 'packages', 'by_lag', *PARTS)
PACKAGE = ('name', 'sha256', 'not_finite')


class BaselineError(ValueError):
    """An earlier run that cannot stand beside this one; the text names file and reason."""


def load_baseline(path: Path, form: int, rate_hz: float) -> dict[str, Any]:
    """Read the `metrics.json` of an earlier run.

    Args:
        path: the file, or the folder of that run.
        form: the format that the new run will have.
        rate_hz: steps per second of the new run.

    Raises:
        BaselineError: no such file, not a replay's, another format, rate or other horizons, or
            something is missing in it that the new run will need.
    """
    path = path / 'metrics.json' if path.is_dir() else path
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise BaselineError(f'baseline {path}: {error}') from error
    if not isinstance(found, dict) or 'format' not in found:
        raise BaselineError(f'baseline {path} is not the metrics.json of a replay')
    if found['format'] != form:
        raise BaselineError(f'baseline {path} has format {found["format"]}, expected {form}')
    if missing := [name for name in NEEDED if name not in found]:
        raise BaselineError(f'baseline {path} has no {", ".join(missing)}')
    if found['rate_hz'] != round(rate_hz, 4):
        raise BaselineError(
            f'baseline {path} has {found["rate_hz"]:g} steps per second, expected {rate_hz:g}: '
            'horizons are counted in steps'
        )
    for part, expected in (('by_horizon', AHEAD), ('free_running', LATER)):
        horizons = found[part].get('counts', ())
        if set(horizons) != set(expected):
            raise BaselineError(
                f'baseline {path}: {part} has the horizons {", ".join(horizons)}, '
                f'expected {", ".join(expected)}'
            )
    try:
        _require_whole(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BaselineError(
            f'baseline {path} is not the whole metrics.json of a replay: {error!r}'
        ) from error
    return found


def _require_whole(found: Mapping[str, Any]) -> None:
    """Look at everything that is taken from an earlier run; raises where it is not there.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: something is missing or of another kind.
    """
    if missing := [name for name in PACKAGE if name not in found['packages'][MODEL]]:
        raise KeyError(', '.join(missing))
    anchors_of(found)
    rows = [row for rows in tables(with_baseline(found, found)).values() for row in rows]
    values = [value for row in rows for value in row.values.values()]
    for value in (*values, *found['counts'].values()):
        float(0 if value is None else value)


def anchors_of(earlier: Mapping[str, Any]) -> list[int]:
    """Return the steps at which an earlier run began free-running futures."""
    return [int(number) for number in earlier['free_running']['anchors']]


def with_baseline(metrics: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics in which the earlier run's model stands as `baseline` in every table."""
    both = copy.deepcopy(dict(metrics))
    both['packages'][BASELINE] = earlier['packages'][MODEL]
    for part in PARTS:
        for metric, rows in both[part].items():
            before = earlier[part].get(metric)
            if isinstance(rows, dict) and isinstance(before, Mapping) and MODEL in before:
                rows[BASELINE] = before[MODEL]
    for kind, buckets in (both['by_lag'] or {}).items():
        for bucket, row in buckets.items():
            row[BASELINE] = ((earlier['by_lag'] or {}).get(kind, {}).get(bucket) or {}).get(MODEL)
    return both
