"""What a demo must reach: from its summary to gates. Judges only what the run is long enough for.

Where the bounds come from: the issue that asked for the demo; those of the resident memory are
explained at `measure.Growth`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wm_ros.evaluation.gate import Gate
from wm_ros.nodes.measure import MOST_OWN_BYTES, STRETCHES

LEAST_PREDICTIONS = 1500
LATENCY_MS = {'p50': 20.0, 'p99': 40.0}
LEAST_FOR_LATENCY = {'p50': 100, 'p99': 1000}  # predictions: half, and the worst ten
MOST_STATE_BYTES = 128 * 1024


def judge(summary: Mapping[str, Any], frames: int) -> list[Gate]:
    """Return every gate of a run.

    Args:
        summary: see `measure.summarise`.
        frames: that the source was to send; fewer than asked of the predictions judges no number.
    """
    return [_predictions(summary, frames), *_latency(summary), *_state(summary), *_memory(summary)]


def _predictions(summary: Mapping[str, Any], frames: int) -> Gate:
    name, count = f'predictions >= {LEAST_PREDICTIONS:,}', summary['predictions']
    if frames < LEAST_PREDICTIONS:
        return Gate(name, None, count, LEAST_PREDICTIONS, f'a run of {frames} frames')
    return Gate(name, count >= LEAST_PREDICTIONS, count, LEAST_PREDICTIONS)


def _latency(summary: Mapping[str, Any]) -> list[Gate]:
    """Judge latency; the load stands beside a miss, because a busy machine answers late."""
    gates, count = [], summary['predictions']
    load = f'load {summary["load"][0]:g} on {summary["cpus"]} cores'
    for part, bound_ms in LATENCY_MS.items():
        name, value_ms = f'latency {part} <= {bound_ms:g} ms', summary['latency_ms'][part]
        least = LEAST_FOR_LATENCY[part]
        if count < least:
            note = f'{count} predictions, expected {least:,} or more'
            gates.append(Gate(name, None, value_ms, bound_ms, note))
        else:
            passed = value_ms <= bound_ms
            gates.append(Gate(name, passed, value_ms, bound_ms, '' if passed else load))
    return gates


def _state(summary: Mapping[str, Any]) -> list[Gate]:
    first, last = summary['state_bytes']['first'], summary['state_bytes']['last']
    most = MOST_STATE_BYTES
    return [
        Gate('state bytes at the last frame as at the first', last == first, last, first),
        Gate(f'state bytes <= {most:,}', max(first, last) <= most, max(first, last), most),
    ]


def _memory(summary: Mapping[str, Any]) -> list[Gate]:
    flat = f'resident memory: no growth over 1/{STRETCHES} of the frames after warm-up, on end'
    own, most = f'resident memory: own pages <= {MOST_OWN_BYTES:,} bytes more', MOST_OWN_BYTES
    growth = summary.get('rss_growth')
    if growth is None:
        note = summary['rss_text'].partition(':')[0]
        return [Gate(flat, None, None, None, note), Gate(own, None, None, most, note)]
    frames, least = growth['flat_frames'], growth['frames'] / STRETCHES
    return [
        Gate(flat, frames >= least, frames, round(least, 1), 'frames'),
        Gate(own, growth['private_bytes'] <= most, growth['private_bytes'], most),
    ]
