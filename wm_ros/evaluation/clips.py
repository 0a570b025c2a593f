"""Recall clips: an evaluation episode, its twins, and the scored frames in every colour.

In: an episode plan of the simulator. Out: frames and cases as arrays. Knows no model.

A twin differs from its base only in two swapped colours, so both share every frame in which
neither of the two facts shows; only the others are rendered again, from the same simulator state.

Axes: T time, N differing frames, K candidate colours, H W pixels, C channels, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import FloatArray, ImageArray
from wm_ros.sim.episodes import EpisodePlan, RecallTest, twin
from wm_ros.sim.scene import ACTION_LIMITS, FACTS, PALETTE, Layout, TableTop


@dataclass(frozen=True)
class Direction:
    """One of the two twins at the scored frame.

    Attributes:
        version: 0 the base, i the twin i of the clip.
        truth_HWC: uint8 render of the scored frame.
        candidates_KHWC: the same frame with the fact in each colour of the palette.
        colour: index of the true colour.
    """

    version: int
    truth_HWC: ImageArray
    candidates_KHWC: ImageArray
    colour: int


@dataclass(frozen=True)
class RecallCase:
    """One fact that comes back after `lag` frames, in the base and in the twin.

    Attributes:
        fact: name of the tested fact; `partner` is the one it swaps colours with in the twin.
        lag: frames since the fact was last visible, at the reveal.
        hidden_frame: last observed frame: neither fact shows a pixel in it.
        scored_frame: first frame in which the fact covers 5 % of the picture.
        same_frames: frames up to and with `hidden_frame` that base and twin share without a break.
        base, twin: the two directions.
    """

    fact: str
    partner: str
    lag: int
    hidden_frame: int
    scored_frame: int
    same_frames: int
    base: Direction
    twin: Direction


@dataclass(frozen=True)
class Version:
    """Frames of one twin that differ from the base: indices [N], uint8 pictures [N, H, W, C]."""

    frames_N: tuple[int, ...]
    images_NHWC: ImageArray


@dataclass(frozen=True)
class RecallClip:
    """One evaluation episode as pictures.

    Attributes:
        kind, seed: of the plan.
        frames_THWC: uint8 frames of the base, up to the last scored frame.
        actions_TA: float32 commands in [-1, 1]; row t acts from frame t to t + 1.
        twins: version i + 1 of the clip.
        cases: by growing hidden frame.
    """

    kind: str
    seed: int
    frames_THWC: ImageArray
    actions_TA: FloatArray
    twins: tuple[Version, ...]
    cases: tuple[RecallCase, ...]


def normalise(actions_TA: npt.ArrayLike) -> FloatArray:
    """Map physical commands to [-1, 1] over the simulator's limits, clipped."""
    limits_A2 = np.asarray(ACTION_LIMITS, np.float64)
    low_A, high_A = limits_A2[:, 0], limits_A2[:, 1]
    scaled = 2 * (np.asarray(actions_TA, np.float64) - low_A) / (high_A - low_A) - 1
    return np.clip(scaled, -1, 1).astype(np.float32)


def render_clip(plan: EpisodePlan, table: TableTop, lags: Sequence[int]) -> RecallClip:
    """Play a plan once and collect base, twins and the scored frames of the tests at `lags`.

    Raises:
        ValueError: the plan has no test at any of the lags, or base and twin differ in the last
            hidden frame, or are equal in the scored one.
    """
    tests = sorted((test for test in plan.tests if test.lag in lags), key=lambda t: t.hidden_frame)
    if not tests:
        raise ValueError(f'{plan.kind} {plan.seed} has no test at lags {list(lags)}')
    pairs = list(dict.fromkeys(_pair(test) for test in tests))
    layouts = [twin(plan, *pair).layout for pair in pairs]
    shows_TP = np.stack(
        [plan.visible_TF[:, [FACTS.index(fact) for fact in pair]].any(1) for pair in pairs], 1
    )
    base: list[ImageArray] = []
    others: list[dict[int, ImageArray]] = [{} for _ in pairs]
    colours: dict[RecallTest, list[ImageArray]] = {}
    length = max(test.scored_frame for test in tests) + 1
    table.reset(plan.layout)
    for t in range(length):
        base.append(table.render())
        for version in (int(v) for v in np.flatnonzero(shows_TP[t])):
            table.recolour(layouts[version])
            others[version][t] = table.render()
        for test in tests:
            if test.scored_frame == t:
                version = pairs.index(_pair(test))
                colours[test] = [
                    _in_every_colour(table, layout, test.fact)
                    for layout in (plan.layout, layouts[version])
                ]
        table.recolour(plan.layout)
        table.step(plan.actions_TA[t])
    twins = tuple(Version(tuple(frames), np.stack(list(frames.values()))) for frames in others)
    cases = []
    for test in tests:
        version = pairs.index(_pair(test))
        name = f'{plan.kind} {plan.seed}: {test.fact} at lag {test.lag}'
        cases.append(
            _case(
                name,
                test,
                (plan.layout, layouts[version]),
                base,
                others[version],
                version + 1,
                colours[test],
            )
        )
    return RecallClip(
        plan.kind,
        plan.seed,
        np.stack(base),
        normalise(plan.actions_TA[:length]),
        twins,
        tuple(cases),
    )


def _pair(test: RecallTest) -> tuple[str, str]:
    first, second = sorted((test.fact, test.partner))
    return first, second


def _in_every_colour(table: TableTop, layout: Layout, fact: str) -> ImageArray:
    images, at = [], FACTS.index(fact)
    for colour in range(len(PALETTE)):
        table.recolour(
            replace(layout, colours=(*layout.colours[:at], colour, *layout.colours[at + 1 :]))
        )
        images.append(table.render())
    return np.stack(images)


def _case(
    name: str,
    test: RecallTest,
    layouts: tuple[Layout, Layout],
    base: Sequence[ImageArray],
    other: dict[int, ImageArray],
    version: int,
    colours: Sequence[ImageArray],
) -> RecallCase:
    hidden, scored = test.hidden_frame, test.scored_frame
    if hidden in other and not np.array_equal(base[hidden], other[hidden]):
        raise ValueError(f'{name}: base and twin differ in frame {hidden}, with both facts hidden')
    if scored not in other or np.array_equal(base[scored], other[scored]):
        raise ValueError(f'{name}: base and twin are equal in the scored frame {scored}')
    seen = [t for t in other if t <= hidden and not np.array_equal(base[t], other[t])]
    directions = []
    for number, truth_HWC in enumerate((base[scored], other[scored])):
        colour = layouts[number].colours[FACTS.index(test.fact)]
        if not np.array_equal(colours[number][colour], truth_HWC):
            raise ValueError(f'{name}: the truth is not among the candidate renders')
        directions.append(Direction(number * version, truth_HWC, colours[number], colour))
    return RecallCase(
        test.fact,
        test.partner,
        test.lag,
        hidden,
        scored,
        hidden - max(seen, default=-1),
        *directions,
    )
