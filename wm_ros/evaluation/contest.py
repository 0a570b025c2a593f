"""Engines and arms against each other: a frame, a batch of candidates, a fork, a long session.

In: runners and a plan. Out: the measured part of `bench.json`. Contenders take turns in one
process, so that ratios hold on a loaded machine.

Axes: R rounds, L laps of one round, W wall time and process CPU time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from wm_ros import memory as memories
from wm_ros.datatypes import MemoryState
from wm_ros.evaluation.endurance import run_long
from wm_ros.evaluation.runners import FORK, FRAME, IMAGINE, Candidates, Runner, Stream
from wm_ros.evaluation.stopwatch import (
    Clock,
    Contender,
    DoubleArray,
    Stopwatch,
    relative_time,
    round_robin,
    summarise,
)
from wm_ros.manifest import GRAPHS

REST = 'rest'
Advance = Callable[[str, int, int], None]  # part, rounds done, rounds
Times = dict[str, DoubleArray]  # stage -> [R, L, W] in ms


@dataclass(frozen=True)
class Plan:
    """How much is measured. A part ends early, after a whole round, when its seconds are over."""

    frame_rounds: int = 120
    frame_laps: int = 4
    frame_limit_s: float = 50.0
    candidates: int = 64
    batch_rounds: int = 40
    batch_limit_s: float = 40.0
    fork_rounds: int = 50
    fork_laps: int = 10
    fork_limit_s: float = 5.0
    long_frames: int = 2000
    edge_frames: int = 200
    long_limit_s: float = 65.0
    pair_limit_s: float = 15.0


QUICK = Plan(
    frame_rounds=20,
    frame_limit_s=10.0,
    batch_rounds=6,
    batch_limit_s=10.0,
    fork_rounds=10,
    long_frames=400,
    edge_frames=100,
    long_limit_s=15.0,
    pair_limit_s=5.0,
)


def measure(
    runners: Sequence[Runner],
    plan: Plan,
    clock: Clock,
    rss_bytes: Callable[[], int],
    advance: Advance = lambda part, done, rounds: None,
) -> dict[str, Any]:
    """Time everything that `plan` asks for.

    Args:
        runners: every package on every engine; the first package and the first engine are the
            reference of the ratios, the last engine runs the long session.
        plan: how much.
        clock: the one that the runners' stopwatches read.
        rss_bytes: resident memory of this process.
        advance: told of every round done.

    Returns:
        The keys `frame`, `batch`, `fork`, `long` and `relative_time` of `bench.json`.
    """

    def told(part: str, rounds: int) -> Callable[[int], None]:
        return lambda done: advance(part, done, rounds)

    streams = [Stream(runner) for runner in runners]
    frames = _frames(runners, streams, plan, clock, told('frames', plan.frame_rounds))
    batches = _batches(runners, streams, plan, clock, told('candidates', plan.batch_rounds))
    last = [runner for runner in runners if runner.engine == runners[-1].engine]
    return {
        'frame': _by_package(runners, [_frame_figures(times) for times in frames]),
        'batch': _by_package(runners, [_batch_figures(t, plan.candidates) for t in batches]),
        'fork': _forks(last, plan, clock),
        'long': run_long(
            last,
            plan.long_frames,
            plan.edge_frames,
            clock,
            rss_bytes,
            (plan.long_limit_s, plan.pair_limit_s),
            told('long session', plan.long_frames),
        ),
        'relative_time': {
            FRAME: ratios(runners, [times[FRAME] for times in frames]),
            IMAGINE: ratios(runners, [times[IMAGINE] for times in batches]),
        },
    }


def ratios(runners: Sequence[Runner], times: Sequence[DoubleArray]) -> dict[str, Any]:
    """Return `engines`: package -> engine -> its time over the first engine's, and `packages`:
    engine -> package -> its time over the first package's.
    """
    found = {
        (runner.package.name, runner.engine): times_RLW
        for runner, times_RLW in zip(runners, times, strict=True)
    }
    first_package, first_engine = next(iter(found))
    engines: dict[str, Any] = {}
    packages: dict[str, Any] = {}
    for (package, engine), times_RLW in found.items():
        engines.setdefault(package, {})[engine] = relative_time(
            times_RLW, found[package, first_engine]
        )
        packages.setdefault(engine, {})[package] = relative_time(
            times_RLW, found[first_package, engine]
        )
    return {'engines': engines, 'packages': packages}


def _frames(
    runners: Sequence[Runner],
    streams: Sequence[Stream],
    plan: Plan,
    clock: Clock,
    after_round: Callable[[int], None],
) -> list[Times]:
    """Time frames one at a time, as they come live. A turn is a few frames in a row, of which the
    first does not count.
    """
    contenders = []
    for runner, stream in zip(runners, streams, strict=True):
        stream.warm_up()
        contenders.append(
            Contender(
                stream.frame,
                runner.watch,
                rounds=plan.frame_rounds,
                laps=plan.frame_laps,
                uncounted=1,
            )
        )
    round_robin(contenders, plan.frame_rounds, clock, plan.frame_limit_s, after_round)
    return [_with_rest(contender.times_ms()) for contender in contenders]


def _batches(
    runners: Sequence[Runner],
    streams: Sequence[Stream],
    plan: Plan,
    clock: Clock,
    after_round: Callable[[int], None],
) -> list[Times]:
    """Time one step of all candidates at once."""
    contenders = []
    for runner, stream in zip(runners, streams, strict=True):
        question = Candidates(runner, stream.memory, plan.candidates)
        question.step()  # an engine may compile for a new batch
        contenders.append(Contender(question.step, runner.watch, rounds=plan.batch_rounds))
    round_robin(contenders, plan.batch_rounds, clock, plan.batch_limit_s, after_round)
    return [contender.times_ms() for contender in contenders]


def _forks(runners: Sequence[Runner], plan: Plan, clock: Clock) -> dict[str, Any]:
    """Time the copying of one memory for all candidates; no engine takes part in it."""
    parents = [runner.world.reset() for runner in runners]
    contenders = []
    for parent in parents:
        watch = Stopwatch(clock)

        def fork(parent: MemoryState = parent, watch: Stopwatch = watch) -> None:
            with watch.lap(FORK):
                memories.fork(parent, plan.candidates)

        contenders.append(
            Contender(fork, watch, rounds=plan.fork_rounds, laps=plan.fork_laps, uncounted=1)
        )
    round_robin(contenders, plan.fork_rounds, clock, plan.fork_limit_s)
    return {
        runner.package.name: {
            **summarise(contender.times_ms()[FORK]),
            'state_bytes': parent.nbytes,
            'fork_bytes': memories.fork(parent, plan.candidates).nbytes,
        }
        for runner, parent, contender in zip(runners, parents, contenders, strict=True)
    }


def _with_rest(times_ms: Times) -> Times:
    """Add what of a frame is spent outside the graphs: conversions, checks, copies."""
    frame_RLW = times_ms[FRAME]
    rest_RLW = frame_RLW.copy()
    for graph in GRAPHS:
        rest_RLW -= times_ms[graph].reshape(*frame_RLW.shape[:2], -1, 2).sum(2)
    return times_ms | {REST: rest_RLW}


def _frame_figures(times_ms: Times) -> dict[str, Any]:
    frames = times_ms[FRAME].shape[1]
    return {
        stage: {**summarise(times_RLW), 'runs_per_frame': times_RLW.shape[1] // frames}
        for stage, times_RLW in times_ms.items()
    }


def _batch_figures(times_ms: Times, candidates: int) -> dict[str, Any]:
    result = {}
    for stage, times_RLW in times_ms.items():
        figures = summarise(times_RLW)
        per_s = candidates / figures['wall_p50_ms'] * 1e3
        result[stage] = {**figures, 'candidate_steps_per_s': round(per_s, 1)}
    return result


def _by_package(
    runners: Sequence[Runner], figures: Sequence[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    result: dict[str, dict[str, Any]] = {}
    for runner, value in zip(runners, figures, strict=True):
        result.setdefault(runner.package.name, {})[runner.engine] = value
    return result
