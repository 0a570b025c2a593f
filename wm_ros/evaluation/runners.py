"""What the speed run times: a package on an engine, and the work that a robot asks of it.

In: packages, engines, made-up streams. Out: work for `stopwatch.Contender`, always through
`WorldModel` as a node or a planner calls it, every graph a lap of its own.

Axes: B batch, T time, A action, D noise draws, C channels, H W latent cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wm_ros import memory as memories
from wm_ros.backends import EngineUnavailable, resolve_backend
from wm_ros.datatypes import Frame, MemoryState, Step
from wm_ros.evaluation.stopwatch import Clock, Stopwatch, TimedBackend
from wm_ros.model_package import ModelPackage
from wm_ros.parity import make_inputs
from wm_ros.world_model import WorldModel

# The first that runs here is what the others are compared with, the last is the one `auto` picks.
ENGINES = ('onnxruntime:fp32', 'openvino:fp32', 'openvino:auto', 'cuda:fp32')
FRAME, IMAGINE, FORK = 'frame', 'imagine', 'fork'
STREAM_FRAMES = 50
WARM_UP_FRAMES = 5
PERIOD_NS = 40_000_000


@dataclass(frozen=True)
class Runner:
    """A package on an engine, timed by `watch`."""

    package: ModelPackage
    engine: str
    world: WorldModel
    watch: Stopwatch


def load_runners(
    packages: Sequence[ModelPackage], engines: Sequence[str], threads: int, clock: Clock
) -> tuple[list[Runner], dict[str, str]]:
    """Load every package into every engine that runs here.

    Args:
        packages: of different names.
        engines: `kind:precision` as `resolve_backend` knows them. Two that come to the same are
            loaded once: `openvino:auto` is `openvino:fp32` where the CPU has no bf16.
        threads: of each engine.
        clock: of the stopwatches.

    Returns:
        The runners, and why the other engines do not run here, by engine.

    Raises:
        EngineUnavailable: none runs here.
        PackageError: a graph cannot be loaded.
        ValueError: two packages of one name, or an unknown engine.
    """
    if len({package.name for package in packages}) != len(packages):
        raise ValueError(
            f'packages {", ".join(p.name for p in packages)}: expected different names'
        )
    runners: dict[tuple[str, str], Runner] = {}
    refused: dict[str, str] = {}
    for package in packages:
        for engine in engines:
            kind, _, precision = engine.partition(':')
            try:
                backend = resolve_backend(kind, package, threads, precision=precision or 'auto')
            except EngineUnavailable as error:
                refused[engine] = str(error)
                continue
            watch, name = Stopwatch(clock), f'{backend.name} {backend.precision}'
            world = WorldModel(package, TimedBackend(backend, watch))
            runners.setdefault((package.name, name), Runner(package, name, world, watch))
    if not runners:
        raise EngineUnavailable(f'no engine runs here: {"; ".join(refused.values())}')
    return list(runners.values()), refused


class Stream:
    """A robot's stream into one runner: the memory goes on from frame to frame.

    Args:
        runner: who remembers and predicts.
        memory: to begin with; empty when None.
    """

    def __init__(self, runner: Runner, memory: MemoryState | None = None) -> None:
        self._runner = runner
        self._inputs = make_inputs(
            runner.package.model, runner.package.sampler, STREAM_FRAMES, seed=0
        )
        self._index = 0
        self.memory = runner.world.reset() if memory is None else memory

    def frame(self) -> None:
        """Take in one frame and predict the next as a picture, as the node does: a lap `frame`."""
        i, world = self._index % STREAM_FRAMES, self._runner.world
        actions_TA = self._inputs.actions_TA
        stamp_ns = PERIOD_NS * (self._index + 1)
        frame = Frame(self._inputs.images_THWC[i], stamp_ns)
        step = Step(frame, actions_TA[i - 1], actions_TA[i], stamp_ns, self._index)
        noise_BTDCHW = self._inputs.noise_TDCHW[i][None, None]
        with self._runner.watch.lap(FRAME):
            memory = world.observe(self.memory, step)
            world.imagine(memory, step.action_A[None, None], noise_BTDCHW, write_last=False)
        self.memory = memory
        self._index += 1

    def warm_up(self) -> None:
        """Take in a few frames, so that the first that counts is as fast as the others."""
        for _ in range(WARM_UP_FRAMES):
            self.frame()


class Candidates:
    """A planner's question: the same memory, many actions, one step ahead, no pictures."""

    def __init__(self, runner: Runner, memory: MemoryState, count: int) -> None:
        rng = np.random.default_rng(0)
        self._runner = runner
        self._memory = memories.fork(memory, count)
        width = runner.package.model.action_width
        self._actions_BTA = rng.uniform(-1, 1, (count, 1, width)).astype(np.float32)
        self._noise_BTDCHW = runner.world.noise(rng, count)

    def step(self) -> None:
        """Predict and write one step of every candidate: a lap `imagine`."""
        with self._runner.watch.lap(IMAGINE):
            self._runner.world.imagine(
                self._memory, self._actions_BTA, self._noise_BTDCHW, decode=False
            )
