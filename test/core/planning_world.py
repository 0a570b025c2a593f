"""What the tests of planning share: a toy model, a memory that has seen something, candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wm_ros.backends import resolve_backend
from wm_ros.contract import StreamContract
from wm_ros.datatypes import FloatArray, MemoryState
from wm_ros.planning.evaluator import Running
from wm_ros.planning.objectives import GoalImage
from wm_ros.planning.query import Evaluation, Query, Start
from wm_ros.toy_package import write_toy_package
from wm_ros.world_model import WorldModel

CONTRACT = StreamContract.load(Path(__file__).parents[2] / 'contracts' / 'tabletop.yaml')
A = CONTRACT.action_width
LATENT = (8, 8, 8)


def toy_model(path: Path, **options: Any) -> WorldModel:
    package = write_toy_package(path, CONTRACT, **options)
    return WorldModel(package, resolve_backend('toy', package))


def seen(model: WorldModel, frames: int = 5, seed: int = 7) -> MemoryState:
    """A memory that has observed a few latents."""
    rng = np.random.default_rng(seed)
    memory = model.reset()
    shape = model.package.model.latent_shape
    for index in range(frames):
        latent = rng.standard_normal((1, *shape), np.float32)
        action = rng.uniform(-1, 1, (1, A)).astype(np.float32)
        memory = model.observe_latent(memory, latent, action, stamp_ns=40_000_000 * (index + 1))
    return memory


def live(model: WorldModel) -> Start:
    return Start(seen(model), np.linspace(-0.5, 0.5, A, dtype=np.float32))


def candidates(k: int, t: int, seed: int = 3) -> FloatArray:
    return np.random.default_rng(seed).uniform(-1, 1, (k, t, A)).astype(np.float32)


def goal(seed: int = 11, **options: Any) -> GoalImage:
    rng = np.random.default_rng(seed)
    return GoalImage(rng.standard_normal((1, *LATENT), np.float32), **options)


def ask(start: Start, k: int = 5, t: int = 4, **options: Any) -> Query:
    options = {'objectives': (goal(),), 'actions_KTA': candidates(k, t)} | options
    return Query(start, **options)


def drain(running: Running) -> Evaluation:
    while running.unit():
        pass
    return running.result()


def content(memory: MemoryState) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in memory.arrays.items()}
