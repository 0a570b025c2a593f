"""Recall clips: every fact shown once, then six of them again, each after its own lag.

`assign` says which fact is asked after which lag and in which colours, balanced over consecutive
seeds; `write_clip` writes one attempt at the clip; `recall_plan` returns the first attempt that
keeps all the rules. F facts in the order of FACTS.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from wm_ros.sim.plan import EpisodePlan, RecallTest, finish
from wm_ros.sim.routines import reveal_somehow
from wm_ros.sim.script import ENTRIES, LateError, Script
from wm_ros.sim.world import FACTS, PALETTE, Layout

LAGS = (48, 128, 250, 500, 1000, 1500)
FIRST_FACT = {'cup': 0, 'drawer': 3, 'view': 5}
CLIP_FRAMES = 1650
OPENING_FRAMES = (110, 150)
QUIET_FRAMES = 45
SCORE_FRAMES = 12
ATTEMPTS = 200
# Longest way to a lid, longest reveal.
PREPARE_FRAMES = 28
REVEAL_FRAMES = 20


@dataclass(frozen=True)
class Assignment:
    """Which fact is asked after which lag, and the colours of all facts.

    Attributes:
        facts: the tested fact per lag, in the order of LAGS; 0, 1 and 2, 3 and 4, 5 are partners.
        spare: the fact that is not tested.
        colours: palette index per fact, in the order of FACTS.
    """

    facts: tuple[str, ...]
    spare: str
    colours: tuple[int, ...]

    def partner(self, fact: str) -> str:
        """Return the fact whose colour is swapped with this one's."""
        return self.facts[self.facts.index(fact) ^ 1]


def assign(kind: str, seed: int) -> Assignment:
    """Assign facts and colours to lags.

    Over seeds 7n..7n+6 every fact is asked once after every lag, over seeds 6n..6n+5 every colour
    once: any 42 seeds that start at a multiple of 42 are balanced in both.
    """
    stride, turn = 1 + (seed // 7) % 6, FIRST_FACT[kind] + seed
    order = [FACTS[(turn + place * stride) % len(FACTS)] for place in range(len(FACTS))]
    rng = np.random.default_rng([FIRST_FACT[kind], seed // len(PALETTE), 1])
    colours = dict.fromkeys(FACTS, int(rng.permutation(len(PALETTE))[seed % len(PALETTE)]))
    for place in range(0, len(LAGS), 2):
        one, two = rng.permutation(len(PALETTE)), rng.permutation(len(PALETTE))
        while (one == two).any():
            two = rng.permutation(len(PALETTE))
        for fact, colour in ((order[place], one), (order[place + 1], two)):
            colours[fact] = int(colour[seed % len(PALETTE)])
    return Assignment(tuple(order[:-1]), order[-1], tuple(colours[fact] for fact in FACTS))


def recall_plan(kind: str, seed: int, layout: Layout, rng: np.random.Generator) -> EpisodePlan:
    """Plan one clip; the layout's colours are replaced by the assigned ones."""
    who = assign(kind, seed)
    layout = replace(layout, colours=who.colours)
    for _ in range(ATTEMPTS):
        script = Script(layout, rng)
        try:
            opening_end = write_clip(script, who)
        except LateError:
            continue
        plan = finish(kind, seed, layout, script, CLIP_FRAMES)
        plan = replace(plan, tests=find_tests(plan, who))
        if OPENING_FRAMES[0] <= opening_end <= OPENING_FRAMES[1] and not broken_rules(plan):
            return plan
    raise RuntimeError(f'{kind} episode {seed}: no valid clip in {ATTEMPTS} attempts')


def write_clip(script: Script, who: Assignment) -> int:
    """Write the opening, the tests and what happens in between; returns the opening's length."""
    last_seen = _write_opening(script, who)
    opening_end = script.frame
    due = {fact: last_seen[fact] + lag for fact, lag in zip(who.facts, LAGS, strict=True)}
    known = [who.spare]
    for fact in who.facts:
        _fill(script, known, who, due, due[fact])
        _ask(script, fact, due[fact])
        known.append(fact)
        del due[fact]
    script.wait_until(max(CLIP_FRAMES, script.frame))
    return opening_end


def _write_opening(script: Script, who: Assignment) -> dict[str, int]:
    """Reveal all facts, longest lag first; returns the last frame that shows each."""
    order = list(reversed(who.facts))
    order.insert(int(script.rng.integers(0, len(LAGS) - 1)), who.spare)
    last_seen = {}
    script.wait(int(script.rng.integers(1, 4)))
    for fact in order:
        led = fact.startswith('cup') and fact != order[-1] and bool(script.rng.random() < 0.6)
        reveal_somehow(script, fact, led)
        last_seen[fact] = int(np.flatnonzero(script.showing()[:, FACTS.index(fact)])[-1])
        script.wait(int(script.rng.integers(1, 5)))
    return last_seen


def _fill(script: Script, known: list[str], who: Assignment, due: dict[str, int],
          until: int) -> None:
    """Keep busy until shortly before `until`: facts that are no secret may be shown again."""
    rng = script.rng
    span = PREPARE_FRAMES + REVEAL_FRAMES
    while script.frame + span + PREPARE_FRAMES < until:
        quiet = [fact for fact in known if not any(
            who.partner(asked) == fact and script.frame + span + QUIET_FRAMES >= frame
            for asked, frame in due.items())]
        if quiet:
            reveal_somehow(script, quiet[int(rng.integers(0, len(quiet)))])
        script.wait(min(int(rng.integers(2, 14)), until - PREPARE_FRAMES - script.frame))
    script.wait_until(max(script.frame, until - PREPARE_FRAMES))


def _ask(script: Script, fact: str, first_visible: int) -> None:
    """Reveal a fact so that `first_visible` is the first frame that shows it."""
    led = fact.startswith('cup') and bool(script.rng.random() < 0.6)
    # A container shows one frame after its first command, a view after its second.
    script.prepare_for(fact, led, first_visible - (2 if ENTRIES[fact] == 'pan' else 1))
    script.reveal(fact, script.draw_levels(fact), led)


def find_tests(plan: EpisodePlan, who: Assignment) -> tuple[RecallTest, ...]:
    """Return the tests: per tested fact its second reveal."""
    tests = []
    for fact in who.facts:
        second = [reveal for reveal in plan.reveals if reveal.fact == fact][1]
        if second.lag is None or second.frame_first_5pct is None:
            raise ValueError(f'{fact} is not fully shown at frame {second.frame_first_visible}')
        tests.append(RecallTest(fact, who.partner(fact), second.lag,
                                second.frame_first_visible - 1, second.frame_first_5pct))
    return tuple(tests)


def broken_rules(plan: EpisodePlan) -> tuple[str, ...]:
    """Return what is wrong with a recall clip, in words; empty when every rule holds."""
    wrong = []
    if tuple(test.lag for test in plan.tests) != LAGS:
        wrong.append(f'lags {[test.lag for test in plan.tests]}')
    for test in plan.tests:
        pair = [FACTS.index(test.fact), FACTS.index(test.partner)]
        first = test.hidden_frame + 1
        if plan.visible_TF[first - QUIET_FRAMES:first, pair].any():
            wrong.append(f'{test.fact} or {test.partner} shows shortly before {first}')
        if plan.visible_TF[first:test.scored_frame + 1, pair[1]].any():
            wrong.append(f'{test.partner} shows beside {test.fact} at {first}')
        if (late := test.scored_frame - test.hidden_frame) > SCORE_FRAMES:
            wrong.append(f'{test.fact} takes {late} frames to show')
        if plan.layout.colours[pair[0]] == plan.layout.colours[pair[1]]:
            wrong.append(f'{test.fact} and {test.partner} have the same colour')
    return tuple(wrong)
