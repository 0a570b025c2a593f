"""How far the spread of noise draws tells the error of a prediction, on recordings held out.

In: a world model and bags. A bag is gone through as a robot's stream: the same reader, the same
`observe`. At every n-th frame the model imagines under the commands that were then really given,
with the rollouts that answer planner queries. Out: samples of spread and true error, fitted and
judged by `calibration_scores`. Writes no file.

Axes: K candidates (1 here), M noise draws, T time, C channels, H W latent cells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wm_ros.bag import iter_steps
from wm_ros.contract import StreamContract
from wm_ros.datatypes import FloatArray, MemoryState, Step
from wm_ros.evaluation.calibration_scores import Outcome, Sample, judge
from wm_ros.planning.query import Start
from wm_ros.planning.rollouts import Rollouts
from wm_ros.planning.uncertainty import spread
from wm_ros.world_model import WorldModel

HORIZONS = (1, 2, 4, 8, 16, 24)
WARM_UP_FRAMES = 50
MOST_DRAWS = 64


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        draws: M of the fit; it goes into the manifest (see `manifest_planning.Calibration`).
        every: frames from one anchor to the next.
        seed: of the noise, and of the first anchor of every bag.
        horizons: frames ahead of the anchor at which samples are taken, rising.
        warm_up: frames after a start or a reset without an anchor.
    """

    draws: int = 4
    every: int = 8
    seed: int = 0
    horizons: tuple[int, ...] = HORIZONS
    warm_up: int = WARM_UP_FRAMES

    def __post_init__(self) -> None:
        for name, low, high in (('draws', 2, MOST_DRAWS), ('every', 1, 10**6), ('seed', 0, 2**63)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f'{name}: found {value}, expected {low} to {high}')


@dataclass
class _Anchor:
    """A frame whose future is still to come."""

    memory: MemoryState
    latent_CHW: FloatArray
    frame: int
    actions: list[FloatArray] = field(default_factory=list)
    truths: list[FloatArray | None] = field(default_factory=list)


def calibrate(
    model: WorldModel,
    contract: StreamContract,
    bags: Sequence[Path],
    plan: Plan,
    told: Callable[[int, int], None] = lambda bag, anchors: None,
) -> Outcome:
    """Fit on the bags 0, 2, 4, ... and judge on the others.

    Args:
        model: the world model.
        contract: how to read the bags; must fit the model.
        bags: recordings that the model was not trained on, two or more.
        plan: what is measured.
        told: called after each bag with its number and its anchors.

    Raises:
        BagError: a bag cannot be read.
        ValueError: fewer than two bags, one given twice, or one without an anchor.
    """
    check_bags(bags)
    rollouts = Rollouts(
        model,
        model.package.manifest.planning.batch,
        plan.draws,
        plan.draws * plan.horizons[-1],
    )
    samples: list[Sample] = []
    for number, bag in enumerate(bags):
        found = list(measure(model, rollouts, bag, contract, plan, number))
        anchors = len({sample.anchor for sample in found})
        if not anchors:
            raise ValueError(
                f'bag {bag}: nothing to measure, expected {plan.warm_up} frames, then '
                f'{plan.every + plan.horizons[-1]} without a reset and with their pictures'
            )
        told(number, anchors)
        samples += found
    return judge(samples, plan.draws)


def check_bags(bags: Sequence[Path]) -> None:
    """Refuse bags that cannot be split into two halves that share nothing.

    Raises:
        ValueError: fewer than two, or one that is given twice.
    """
    if len(bags) < 2:
        raise ValueError(
            f'{len(bags)} bag: expected 2 or more, one half to fit on and one to judge on'
        )
    places = [Path(bag).resolve() for bag in bags]
    for number, place in enumerate(places):
        for other in places[:number]:
            if place.is_relative_to(other) or other.is_relative_to(place):
                raise ValueError(f'bag {place} is given twice: no bag may be in both halves')


def measure(
    model: WorldModel,
    rollouts: Rollouts,
    bag: Path,
    contract: StreamContract,
    plan: Plan,
    number: int = 0,
) -> Iterator[Sample]:
    """Go through one bag and yield its samples, those of one anchor after those of the last.

    An anchor whose future is cut by a reset or by the end of the bag gives none; a missing frame
    in its future gives none at that horizon.

    Args:
        model: the world model.
        rollouts: of this model, for `plan.draws` rows of the longest horizon.
        bag: path of the bag.
        contract: how to read it.
        plan: what is measured.
        number: of the bag, goes into the samples and into the seed.
    """
    rng = np.random.default_rng([plan.seed, number])
    first = plan.warm_up + int(rng.integers(plan.every))
    memory = model.reset()
    waiting: deque[_Anchor] = deque()
    for frame, step in enumerate(iter_steps(bag, contract)):
        if step.reset is not None:
            memory = model.reset()
            waiting.clear()
        memory, latent_CHW = _observe(model, memory, step, rng)
        for anchor in waiting:
            anchor.truths.append(latent_CHW)
        if waiting and len(waiting[0].truths) == plan.horizons[-1]:
            yield from _compare(
                rollouts, waiting.popleft(), plan, number, int(rng.integers(2**63))
            )
        due = step.index >= first and (step.index - first) % plan.every == 0
        if due and latent_CHW is not None:
            waiting.append(_Anchor(memory, latent_CHW, frame))
        for anchor in waiting:
            anchor.actions.append(step.action_A)


def _observe(
    model: WorldModel, memory: MemoryState, step: Step, rng: np.random.Generator
) -> tuple[MemoryState, FloatArray | None]:
    """`WorldModel.observe`, and the frame's code beside it; None where it is missing."""
    if step.frame is None:
        return model.observe(memory, step, model.noise(rng)[:, 0]), None
    latent_BCHW = model.encode(step.frame.image_HWC[None])
    after = model.observe_latent(
        memory, latent_BCHW, step.action_prev_A[None], stamp_ns=step.stamp_ns
    )
    return after, latent_BCHW[0, : model.package.model.latent_channels]


def _compare(
    rollouts: Rollouts, anchor: _Anchor, plan: Plan, number: int, seed: int
) -> Iterator[Sample]:
    # A live query holds the command in force as "latched" and does not keep the frame after it.
    # As the first action of one candidate it gives the same latents, and that frame too.
    actions_KTA = np.stack(anchor.actions)[None]
    rollouts.begin(Start(anchor.memory, None), actions_KTA, plan.draws, seed)
    while rollouts.unit():
        pass
    latents_KMTCHW = rollouts.latents_KMTCHW
    for horizon in plan.horizons:
        truth_CHW = anchor.truths[horizon - 1]
        if truth_CHW is None:
            continue
        latents_MCHW = latents_KMTCHW[0, :, horizon - 1]
        yield Sample(
            number,
            anchor.frame,
            horizon,
            spread=float(spread(latents_MCHW[None])[0]),
            error=_rms(latents_MCHW - truth_CHW),
            centre_error=_rms(latents_MCHW.mean(0) - truth_CHW),
            copy_error=_rms(anchor.latent_CHW - truth_CHW),
        )
    rollouts.end()


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.square(values, dtype=np.float64).mean()))
