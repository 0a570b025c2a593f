"""Time pieces of work, and let contenders take turns so that the load of a machine hits all alike.

In: a clock, a piece of work per contender. Out: arrays of times, medians, 99th percentiles, and
ratios of times taken in the same round. Knows no model; the clock is the caller's.

Axes: R rounds, L laps of one round, W wall time and process CPU time (2).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from wm_ros.backends.base import Backend, Bound, GraphInputs, GraphOutputs
from wm_ros.datatypes import FloatArray

DoubleArray = npt.NDArray[np.float64]
Clock = Callable[[], tuple[int, int]]  # wall time and CPU time of this process, ns
COLUMNS = ('wall', 'cpu')


def process_clock() -> tuple[int, int]:
    """Return monotonic wall time and the CPU time of all threads of this process, ns."""
    return time.perf_counter_ns(), time.process_time_ns()


class Stopwatch:
    """Takes laps by name until they are collected. Laps may lie within each other."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._laps: dict[str, list[tuple[int, int]]] = {}

    @contextmanager
    def lap(self, stage: str) -> Iterator[None]:
        """Time what is done inside."""
        wall_ns, cpu_ns = self._clock()
        yield
        wall_end_ns, cpu_end_ns = self._clock()
        lap_ns = (wall_end_ns - wall_ns, cpu_end_ns - cpu_ns)
        self._laps.setdefault(stage, []).append(lap_ns)

    def take(self) -> dict[str, list[tuple[int, int]]]:
        """Return the laps since the last call, by stage, ns, and forget them."""
        laps, self._laps = self._laps, {}
        return laps


class TimedBackend:
    """An engine of which every run is a lap named after the graph."""

    def __init__(self, backend: Backend, watch: Stopwatch) -> None:
        self.name = backend.name
        self.precision = backend.precision
        self.reason = backend.reason
        self._backend = backend
        self._watch = watch

    def run(self, graph: str, inputs: GraphInputs) -> GraphOutputs:
        """See `Backend.run`."""
        with self._watch.lap(graph):
            return self._backend.run(graph, inputs)

    def bind(self, graph: str, batch: int, inputs: GraphInputs) -> Bound:
        """See `Backend.bind`."""
        bound = self._backend.bind(graph, batch, inputs)

        def run() -> Mapping[str, FloatArray]:
            with self._watch.lap(graph):
                return bound()

        return run


class Contender:
    """Work that is timed by turns with that of others.

    Room for all times is taken with the first turn, so that a long run does not grow the memory of
    the process that it measures.

    Args:
        work: what is timed; it takes its laps on `watch`, the same number at every call.
        watch: nobody else may take laps on it during a turn.
        rounds: turns at most.
        laps: calls of `work` in a turn that count.
        uncounted: calls before them that do not: they find the caches full of others' data.
    """

    def __init__(
        self,
        work: Callable[[], object],
        watch: Stopwatch,
        *,
        rounds: int,
        laps: int = 1,
        uncounted: int = 0,
    ) -> None:
        self._work, self._watch = work, watch
        self._rounds, self._laps, self._uncounted = rounds, laps, uncounted
        self._times_ns: dict[str, DoubleArray] = {}
        self._done = 0

    def turn(self) -> None:
        """Do the work of one round."""
        for _ in range(self._uncounted):
            self._work()
        self._watch.take()
        for _ in range(self._laps):
            self._work()
        for stage, laps_ns in self._watch.take().items():
            if stage not in self._times_ns:
                self._times_ns[stage] = np.full((self._rounds, len(laps_ns), 2), np.nan)
            self._times_ns[stage][self._done] = laps_ns
        self._done += 1

    def times_ms(self) -> dict[str, DoubleArray]:
        """Return the times of the rounds done, by stage: float64 [R, L, W] in ms."""
        return {stage: times[: self._done] / 1e6 for stage, times in self._times_ns.items()}


def round_robin(
    contenders: Sequence[Contender],
    rounds: int,
    clock: Clock,
    limit_s: float,
    after_round: Callable[[int], None] = lambda done: None,
) -> int:
    """Give every contender its turn, round after round, each round beginning one further on.

    Args:
        contenders: who takes turns.
        rounds: how often.
        clock: tells when the limit is over.
        limit_s: no new round begins after this many seconds; at least one is done.
        after_round: called untimed with the number of rounds done.

    Returns:
        The rounds done, the same for all.
    """
    end_ns = clock()[0] + limit_s * 1e9
    for done in range(rounds):
        for k in range(len(contenders)):
            contenders[(done + k) % len(contenders)].turn()
        after_round(done + 1)
        if clock()[0] >= end_ns:
            return done + 1
    return rounds


def summarise(times_RLW: DoubleArray) -> dict[str, float | int]:
    """Return medians and 99th percentiles in ms, and of how many laps."""
    result: dict[str, float | int] = {}
    for column, name in enumerate(COLUMNS):
        p50, p99 = np.percentile(times_RLW[..., column], (50, 99))
        result |= {f'{name}_p50_ms': round(float(p50), 4), f'{name}_p99_ms': round(float(p99), 4)}
    return result | {'samples': times_RLW[..., 0].size}


def relative_time(times_RLW: DoubleArray, reference_RLW: DoubleArray) -> dict[str, float]:
    """Return how long something takes as a multiple of a reference: below 1 is faster.

    The median over the rounds of the ratio of the medians within one round: load that comes and
    goes between rounds cancels.
    """
    ratio_RW = np.median(times_RLW, 1) / np.median(reference_RLW, 1)
    wall, cpu = np.median(ratio_RW, 0)
    return {'wall': round(float(wall), 4), 'cpu': round(float(cpu), 4)}
