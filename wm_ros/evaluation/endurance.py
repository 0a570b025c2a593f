"""The long session: does a frame cost as much after 2,000 frames as after the first?

In: one runner per arm. Out: cost, memory bytes and resident memory of the process against the
frame index.

Axes: R rounds (one frame of every arm), L laps of one round, W wall time and process CPU time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wm_ros.datatypes import MemoryState
from wm_ros.evaluation import machine
from wm_ros.evaluation.runners import FRAME, Runner, Stream
from wm_ros.evaluation.stopwatch import (
    COLUMNS,
    Clock,
    Contender,
    DoubleArray,
    relative_time,
    round_robin,
    summarise,
)

CURVE_POINTS = 40


def run_long(
    runners: Sequence[Runner],
    frames: int,
    edge_frames: int,
    clock: Clock,
    rss_bytes: Callable[[], int],
    limits_s: tuple[float, float],
    after_round: Callable[[int], None],
) -> dict[str, Any]:
    """Feed every runner `frames` frames, by turns, and compare the end with the beginning.

    Between the first frames and the last the load may change. So the last memory and an empty one
    then take in `edge_frames` more by turns: `old_to_young` is the ratio of their times.

    Args:
        runners: one per package.
        frames: how many, unless the limit ends it.
        edge_frames: length of beginning and end; resident memory is judged after the beginning.
        clock: of the limits.
        rss_bytes: resident memory of this process.
        limits_s: seconds for the frames, and for the turns of old and young after them.
        after_round: told how many frames are done.

    Returns:
        `frames` done, `edge_frames`, `rss` of the process that runs all arms, and `arms` by
        package.
    """
    for runner in runners:
        Stream(runner).warm_up()
    streams = [Stream(runner) for runner in runners]
    contenders = [
        Contender(stream.frame, runner.watch, rounds=frames)
        for runner, stream in zip(runners, streams, strict=True)
    ]
    rss_R = np.full(frames, np.nan)
    state_bytes_RA = np.full((frames, len(runners)), -1, np.int64)

    def sample(done: int) -> None:
        rss_R[done - 1] = rss_bytes()
        state_bytes_RA[done - 1] = [stream.memory.nbytes for stream in streams]
        after_round(done)

    done = round_robin(contenders, frames, clock, limits_s[0], sample)
    edge = min(edge_frames, max(1, done // 2))
    old_to_young = _old_to_young(runners, [s.memory for s in streams], edge, clock, limits_s[1])
    arms = {}
    for arm, (runner, contender) in enumerate(zip(runners, contenders, strict=True)):
        times_RLW, state_bytes_R = contender.times_ms()[FRAME], state_bytes_RA[:done, arm]
        first, last = summarise(times_RLW[:edge]), summarise(times_RLW[-edge:])
        arms[runner.package.name] = {
            'engine': runner.engine,
            'first': first,
            'last': last,
            'last_to_first': {
                name: round(last[f'{name}_p50_ms'] / first[f'{name}_p50_ms'], 4)
                for name in COLUMNS
            },
            'old_to_young': old_to_young[arm],
            'state_bytes': {
                'first': int(state_bytes_R[0]),
                'last': int(state_bytes_R[-1]),
                'largest': int(state_bytes_R.max()),
            },
            'curve': _curve(times_RLW, state_bytes_R),
        }
    return {
        'frames': done,
        'edge_frames': edge,
        'rss': _rss(rss_R[:done], edge, len(runners)),
        'arms': arms,
    }


def _old_to_young(
    runners: Sequence[Runner],
    memories: Sequence[MemoryState],
    frames: int,
    clock: Clock,
    limit_s: float,
) -> list[dict[str, float]]:
    """Go on with a long session and begin a new one, frame by frame in turn."""
    contenders = [
        Contender(Stream(runner, memory).frame, runner.watch, rounds=frames)
        for runner, old in zip(runners, memories, strict=True)
        for memory in (old, runner.world.reset())
    ]
    round_robin(contenders, frames, clock, limit_s)
    times = [contender.times_ms()[FRAME] for contender in contenders]
    return [
        relative_time(old_RLW, young_RLW)
        for old_RLW, young_RLW in zip(times[::2], times[1::2], strict=True)
    ]


def _rss(rss_R: DoubleArray, edge: int, arms: int) -> dict[str, Any]:
    """Return resident memory after the beginning and at the end, and its growth per frame of one
    arm.
    """
    after_R = rss_R[edge:]
    enough = len(after_R) > 2
    slope = machine.bytes_per_frame(np.arange(len(after_R)), after_R) if enough else None
    return {
        'warm_bytes': int(rss_R[edge - 1]),
        'last_bytes': int(rss_R[-1]),
        'slope_bytes_per_frame': None if slope is None else round(slope / arms, 2),
        'curve_bytes': [int(rss_R[part[-1]]) for part in _parts(len(rss_R))],
    }


def _curve(
    times_RLW: DoubleArray, state_bytes_R: np.ndarray[Any, np.dtype[np.int64]]
) -> dict[str, list[float]]:
    """Return medians over equal stretches of the session, and the last frame of each stretch."""
    parts = _parts(len(times_RLW))
    return {
        'frame': [int(part[-1]) + 1 for part in parts],
        'state_bytes': [int(state_bytes_R[part[-1]]) for part in parts],
        **{
            f'{name}_p50_ms': [
                round(float(np.median(times_RLW[part][..., column])), 4) for part in parts
            ]
            for column, name in enumerate(COLUMNS)
        },
    }


def _parts(frames: int) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    return np.array_split(np.arange(frames), min(CURVE_POINTS, frames))
