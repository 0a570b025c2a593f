"""Recall: does a prediction show what was hidden long ago? The protocol of the quality table.

In: a subject (world model) and rendered clips. Out: one outcome per case. Draws no colour itself.

Observe until the last frame in which neither twin shows a pixel of the fact, imagine with the
true actions and the same noise for both, and ask of the scored frame, on the pixels in which base
and twin differ, which of the two it is nearer to. Both directions count. A model that cannot
reach back to the fact sees the same input twice and gets exactly 0.5; anything else means that
the fact leaks.

Axes: B versions (base first), T time, K candidates, H W pixels, C channels, A action.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wm_ros.datatypes import FloatArray, ImageArray, MemoryState
from wm_ros.evaluation import metrics
from wm_ros.evaluation.clips import Direction, RecallCase, RecallClip
from wm_ros.evaluation.subject import Subject, encode_all, observe_all
from wm_ros.memory import select

KINDS = ('cup', 'drawer', 'view')


class LeakError(Exception):
    """A model that cannot remember told twins apart: input or measure gives the fact away."""


@dataclass(frozen=True)
class RecallOutcome:
    """What one case gave, each pair of numbers for base and twin.

    Attributes:
        kind, seed, fact, lag: which case.
        blind: the model's reach ends before the fact was last seen, so the score must be 0.5.
        choices: 1, 0.5 or 0: nearer its own truth than the other's.
        identified: 1 if the true colour is the nearest of the palette (1/n in a tie of n).
        commit_errors: masked L2 to the nearest candidate render.
        half_palettes: half the smallest masked L2 between two candidate renders.
        gap: largest difference between the two predictions in a pixel, levels of 255.
        pictures: truth of base, truth of twin, prediction of base, prediction of twin; or empty.
    """

    kind: str
    seed: int
    fact: str
    lag: int
    blind: bool
    choices: tuple[float, float]
    identified: tuple[float, float]
    commit_errors: tuple[float, float]
    half_palettes: tuple[float, float]
    gap: int
    pictures: tuple[ImageArray, ...] = ()

    @property
    def score(self) -> float:
        """Mean of both directions: 0, 0.25, 0.5, 0.75 or 1."""
        return sum(self.choices) / 2


def clip_names(first_seed: int, count: int) -> list[tuple[str, int]]:
    """Return (kind, seed) of `count` clips: the three kinds in turn, then the next seed."""
    return [(KINDS[i % len(KINDS)], first_seed + i // len(KINDS)) for i in range(count)]


def encode_clip(subject: Subject, clip: RecallClip) -> FloatArray:
    """Return float32 latents [B, T, C, h, w] of base and twins; shared frames are encoded once."""
    base = encode_all(subject, clip.frames_THWC)
    latents = np.repeat(base[None], 1 + len(clip.twins), 0)
    for version, twin in enumerate(clip.twins, start=1):
        latents[version, list(twin.frames_N)] = encode_all(subject, twin.images_NHWC)
    return latents


def run_clip(
    subject: Subject,
    clip: RecallClip,
    latents_BTCHW: FloatArray,
    *,
    reach_frames: int | None = None,
    keep_pictures: bool = False,
) -> list[RecallOutcome]:
    """Observe a clip and its twins side by side and score every case.

    Args:
        subject: the world model.
        clip: from `render_clip`.
        latents_BTCHW: from `encode_clip`, by this subject or one with the same tokenizer.
        reach_frames: frames that the model can see back (2 for `none`, the window for `window`);
            None if it has no end.
        keep_pictures: attach truths and predictions to the outcomes.

    Raises:
        LeakError: a case whose fact lies beyond the reach did not score 0.5, or the two
            predictions differ in any pixel.
    """
    actions_TA = clip.actions_TA
    previous_TA = np.concatenate([actions_TA[:1], actions_TA[:-1]])
    versions = len(latents_BTCHW)
    memory, seen = subject.reset(versions), 0
    outcomes = []
    for number, case in enumerate(clip.cases):
        span = slice(seen, case.hidden_frame + 1)
        led_here_BTA = np.repeat(previous_TA[None, span], versions, 0)
        memory = observe_all(subject, memory, latents_BTCHW[:, span], led_here_BTA)
        seen = case.hidden_frame + 1
        rng = np.random.default_rng([clip.seed, case.lag, number])
        predictions = imagine_case(subject, memory, case, actions_TA, rng)
        blind = reach_frames is not None and case.same_frames >= reach_frames
        outcome = score_case(clip, case, predictions, blind, keep_pictures)
        if blind and (outcome.score != 0.5 or outcome.gap):
            raise LeakError(
                f'{clip.kind} {clip.seed}: {case.fact} at lag {case.lag} scored {outcome.score} '
                f'by predictions {outcome.gap} levels apart, expected 0.5 and none: the last '
                f'{case.same_frames} frames are the same in both twins and the model reaches back '
                f'{reach_frames}'
            )
        outcomes.append(outcome)
    return outcomes


def imagine_case(
    subject: Subject,
    memory: MemoryState,
    case: RecallCase,
    actions_TA: FloatArray,
    rng: np.random.Generator,
) -> ImageArray:
    """Return uint8 [2, H, W, C]: the scored frame as base and twin predict it, same noise."""
    horizon = case.scored_frame - case.hidden_frame
    pair = select(memory, [case.base.version, case.twin.version])
    actions_BTA = np.repeat(actions_TA[None, case.hidden_frame : case.scored_frame], 2, 0)
    noise = np.repeat(subject.noise(rng, 1, horizon), 2, 0)
    rollout = subject.imagine(pair, actions_BTA, noise, decode=False)
    return subject.decode(rollout.latents_BTCHW[:, -1])


def score_case(
    clip: RecallClip,
    case: RecallCase,
    predictions_BHWC: ImageArray,
    blind: bool,
    keep_pictures: bool,
) -> RecallOutcome:
    """Compare the two predictions of a case with the renders of both twins and of all colours."""
    pair: tuple[Direction, Direction] = (case.base, case.twin)
    truths = [direction.truth_HWC for direction in pair]
    choices = [
        metrics.two_alternative(predictions_BHWC[i], truths[i], truths[1 - i]) for i in (0, 1)
    ]
    found = [
        metrics.identify(predictions_BHWC[i], pair[i].candidates_KHWC, pair[i].colour)
        for i in (0, 1)
    ]
    gap = int(np.abs(predictions_BHWC[0].astype(int) - predictions_BHWC[1]).max())
    return RecallOutcome(
        clip.kind,
        clip.seed,
        case.fact,
        case.lag,
        blind,
        (choices[0], choices[1]),
        (found[0].score, found[1].score),
        (found[0].commit_error, found[1].commit_error),
        (found[0].half_palette, found[1].half_palette),
        gap,
        (*truths, *predictions_BHWC) if keep_pictures else (),
    )
