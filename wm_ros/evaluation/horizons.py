"""Sharpness: PSNR and SSIM of frames imagined 1, 5, 10 and 25 ahead, with the true actions.

In: a subject and episode plans. Out: one sample per anchor and horizon, in which three contenders
stand beside each other: the model, a copy of the last observed frame, and the tokenizer alone
(the true frame encoded and decoded: the ceiling of any prediction in its latents).

Axes: T time, H W pixels, C channels, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wm_ros.datatypes import FloatArray, ImageArray
from wm_ros.evaluation import metrics
from wm_ros.evaluation.clips import normalise
from wm_ros.evaluation.subject import Subject, encode_all, observe_all
from wm_ros.sim.episodes import EpisodePlan
from wm_ros.sim.scene import TableTop

HORIZONS = (1, 5, 10, 25)
CONTENDERS = ('tokenizer', 'model', 'copy_last')
KINDS = ('free', 'push', 'practice')
EPISODE_FRAMES = 500
WARM_UP_FRAMES = 150
ANCHORS = 8


@dataclass(frozen=True)
class HorizonSample:
    """One prediction against the truth and its two companions.

    Attributes:
        kind, seed, anchor, horizon: the last observed frame and how far ahead.
        changed_share: share of the frame that changed between anchor and truth, 0 to 1.
        psnr, ssim: contender -> value on the pixels that changed; empty where nothing changed.
        psnr_whole, ssim_whole: contender -> value of the whole frame.
    """

    kind: str
    seed: int
    anchor: int
    horizon: int
    changed_share: float
    psnr: dict[str, float]
    ssim: dict[str, float]
    psnr_whole: dict[str, float]
    ssim_whole: dict[str, float]


@dataclass(frozen=True)
class Film:
    """A played episode: uint8 frames [T, S, S, 3], commands [T, A] in [-1, 1], a_t beside I_t."""

    kind: str
    seed: int
    frames_THWC: ImageArray
    actions_TA: FloatArray

    @property
    def previous_TA(self) -> FloatArray:
        """The command that led to each frame (the first frame's own for the first)."""
        return np.concatenate([self.actions_TA[:1], self.actions_TA[:-1]])


def play(plan: EpisodePlan, table: TableTop) -> tuple[Film, list[metrics.DoubleArray]]:
    """Render a plan; return it beside the simulator's state at every frame."""
    images, states = [], []
    table.reset(plan.layout)
    for action_A in plan.actions_TA:
        images.append(table.render())
        states.append(table.state())
        table.step(action_A)
    return Film(plan.kind, plan.seed, np.stack(images), normalise(plan.actions_TA)), states


def measure(
    subject: Subject,
    film: Film,
    anchors: Sequence[int],
    rng: np.random.Generator,
    latents_TCHW: FloatArray | None = None,
) -> list[HorizonSample]:
    """Imagine from each anchor and compare at every horizon.

    Args:
        subject: the world model.
        film: from `play`; at least 25 frames longer than the last anchor.
        anchors: growing frame indices, the last observed frame of each prediction.
        rng: source of the noise.
        latents_TCHW: the film's latents where they are known already.

    Raises:
        ValueError: an anchor too near the end of the film.
    """
    total, furthest = len(film.frames_THWC), max(HORIZONS)
    if list(anchors) != sorted(anchors) or max(anchors) + furthest >= total:
        raise ValueError(
            f'anchors {list(anchors)} of a film of {total} frames: expected growing, '
            f'below {total - furthest}'
        )
    latents = encode_all(subject, film.frames_THWC) if latents_TCHW is None else latents_TCHW
    memory, seen, samples = subject.reset(1), 0, []
    for anchor in anchors:
        span = slice(seen, anchor + 1)
        memory = observe_all(subject, memory, latents[None, span], film.previous_TA[None, span])
        seen = anchor + 1
        actions = film.actions_TA[None, anchor : anchor + furthest]
        rollout = subject.imagine(memory, actions, subject.noise(rng, 1, furthest), decode=False)
        ahead = np.asarray(HORIZONS)
        predicted = subject.decode(rollout.latents_BTCHW[0, ahead - 1])
        ceiling = subject.decode(latents[anchor + ahead])
        for index, horizon in enumerate(HORIZONS):
            shown = {
                'tokenizer': ceiling[index],
                'model': predicted[index],
                'copy_last': film.frames_THWC[anchor],
            }
            samples.append(compare(film, anchor, horizon, shown))
    return samples


def compare(film: Film, anchor: int, horizon: int, shown: dict[str, ImageArray]) -> HorizonSample:
    """Measure the contenders' pictures of one frame against the truth."""
    before_HWC, truth_HWC = film.frames_THWC[anchor], film.frames_THWC[anchor + horizon]
    mask_HW = metrics.changed_mask(before_HWC, truth_HWC)
    moved = bool(mask_HW.any())
    return HorizonSample(
        film.kind,
        film.seed,
        anchor,
        horizon,
        float(mask_HW.mean()),
        {name: metrics.psnr(x, truth_HWC, mask_HW) for name, x in shown.items() if moved},
        {name: metrics.ssim(x, truth_HWC, mask_HW) for name, x in shown.items() if moved},
        {name: metrics.psnr(x, truth_HWC) for name, x in shown.items()},
        {name: metrics.ssim(x, truth_HWC) for name, x in shown.items()},
    )


def draw_anchors(
    rng: np.random.Generator,
    frames: int = EPISODE_FRAMES,
    count: int = ANCHORS,
    warm_up: int = WARM_UP_FRAMES,
) -> list[int]:
    """Return `count` different frames, growing, with history before and the horizons after."""
    last = frames - max(HORIZONS) - 1
    return sorted(int(t) for t in rng.choice(np.arange(warm_up, last + 1), count, replace=False))


def means(samples: Sequence[HorizonSample], value: str) -> dict[str, dict[str, float]]:
    """Return contender -> horizon -> mean of `psnr`, `ssim`, `psnr_whole` or `ssim_whole`.

    Means are over the frames in which something changed (all frames for the whole-frame values).
    """
    result: dict[str, dict[str, float]] = {}
    for name in CONTENDERS:
        for horizon in sorted({sample.horizon for sample in samples}):
            found = [
                getattr(s, value)[name]
                for s in samples
                if s.horizon == horizon and name in getattr(s, value)
            ]
            if found:
                result.setdefault(name, {})[str(horizon)] = float(np.mean(found))
    return result
