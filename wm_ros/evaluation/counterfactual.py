"""Answers to actions: two futures from one state, and which of them a prediction resembles.

In: a subject and an episode plan. Out: one outcome per pair of action sequences. From the same
observed history the world is played twice for ten frames under different arm commands; the
prediction under each sequence should be nearer its own future, on the pixels in which the futures
differ.

Two futures differ in a pixel if any of its channels has not the same level in both
(`metrics.difference_mask`: no threshold, no dilation). The figure that counts asks for futures
that differ in 5 % of the frame, as much as the recall protocol asks of a reveal; the first pair of
every episode that differs in 1 % is asked too, and reported beside it.

Beside it stand the same model with the last command held (which cannot know better than 0.5) and
with the commands given five frames late.

Axes: T time, H W pixels, C channels, A action.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wm_ros.datatypes import FloatArray, ImageArray
from wm_ros.evaluation import metrics
from wm_ros.evaluation.clips import normalise
from wm_ros.evaluation.horizons import play
from wm_ros.evaluation.recall import LeakError
from wm_ros.evaluation.subject import Subject, encode_all, observe_all
from wm_ros.sim.episodes import EpisodePlan
from wm_ros.sim.scene import ACTION_LIMITS, ACTION_NAMES, TableTop

KINDS = ('free', 'push')
EPISODE_FRAMES = 300
FRAMES_AHEAD = 10
SHIFT_FRAMES = 5
VARIANTS = ('model', 'hold_last', 'shifted')
ARM = tuple(ACTION_NAMES.index(name) for name in ('x', 'y', 'z', 'gripper'))
PLACE = tuple(ACTION_NAMES.index(name) for name in ('x', 'y', 'z'))
PAN = ACTION_NAMES.index('pan')
LEAST_GAP_M = 0.08
FIRST_SHARE, VISIBLE_SHARE = 0.01, 0.05
MASK_NOTE = (
    'two futures differ in a pixel if any channel has not the same level in both, without '
    f'threshold or dilation: in {VISIBLE_SHARE:.0%} of the frame or more for action_2afc, in '
    f'{FIRST_SHARE:.0%} or more for action_2afc_from_1_percent'
)
TRIES = 60


@dataclass(frozen=True)
class Fork:
    """One history and two futures.

    Attributes:
        kind, seed: of the plan.
        history_THWC: uint8 frames up to the fork.
        history_TA: commands in [-1, 1], a_t beside I_t, up to the frame before the last.
        actions_2TA: float32 [2, 10, A], both sequences in [-1, 1].
        futures_2HWC: uint8, the frame after each.
        first: whether this is the first pair of its episode that differs in `FIRST_SHARE`.
    """

    kind: str
    seed: int
    history_THWC: ImageArray
    history_TA: FloatArray
    actions_2TA: FloatArray
    futures_2HWC: ImageArray
    first: bool = True

    @property
    def differing_share(self) -> float:
        """Share of the frame in which the futures differ, 0 to 1."""
        return float(metrics.difference_mask(*self.futures_2HWC).mean())


@dataclass(frozen=True)
class ForkOutcome:
    """Choices of both directions: variant (`model`, `hold_last`, `shifted`) -> 1, 0.5 or 0.

    `first` and `differing_share` are those of the fork.
    """

    kind: str
    seed: int
    choices: dict[str, tuple[float, float]]
    first: bool
    differing_share: float
    pictures: tuple[ImageArray, ...] = ()

    @property
    def visible(self) -> bool:
        """Whether the futures differ in as much of the frame as recall asks of a reveal."""
        return self.differing_share >= VISIBLE_SHARE

    def score(self, variant: str = 'model') -> float:
        """Mean of both directions."""
        return sum(self.choices[variant]) / 2


def make_forks(plan: EpisodePlan, table: TableTop, rng: np.random.Generator) -> list[Fork]:
    """Play a plan, then from random frames of it two arm motions each.

    A motion is a piece of the plan's own commands from elsewhere in the episode, moved so that it
    starts at the command in force: the arm drives as it always does, only not as it did here.

    Returns:
        The first pair with futures that differ in `FIRST_SHARE` of the frame and, where that is
        less than `VISIBLE_SHARE`, the next one that differs in so much.

    Raises:
        ValueError: no such pair in `TRIES` tries.
    """
    film, states_T = play(plan, table)
    commands_TA = np.asarray(plan.actions_TA, np.float64)
    forks: list[Fork] = []
    for _ in range(TRIES):
        length = int(rng.integers(120, len(commands_TA) - FRAMES_AHEAD - 1))
        pair = [_moved(commands_TA, length, rng) for _ in range(2)]
        apart_m = np.linalg.norm(pair[0][-1, PLACE] - pair[1][-1, PLACE])
        if apart_m < LEAST_GAP_M or abs(commands_TA[length - 2, PAN]) > 0.02:
            continue
        fork = Fork(
            plan.kind,
            plan.seed,
            film.frames_THWC[:length],
            film.actions_TA[: length - 1],
            np.stack([normalise(commands) for commands in pair]),
            np.stack([_future(table, states_T[length - 1], commands) for commands in pair]),
            first=not forks,
        )
        if fork.differing_share >= (VISIBLE_SHARE if forks else FIRST_SHARE):
            forks.append(fork)
        if forks and forks[-1].differing_share >= VISIBLE_SHARE:
            return forks
    raise ValueError(
        f'{plan.kind} {plan.seed}: no two futures that differ in {VISIBLE_SHARE:.0%} of the frame '
        f'in {TRIES} tries'
    )


def _future(
    table: TableTop, state: metrics.DoubleArray, commands_TA: metrics.DoubleArray
) -> ImageArray:
    """Return the frame after some commands from a state of the simulator."""
    table.restore(state)
    for command_A in commands_TA:
        table.step(command_A.astype(np.float32))
    return table.render()


def _moved(
    commands_TA: metrics.DoubleArray, length: int, rng: np.random.Generator
) -> metrics.DoubleArray:
    """A piece of the arm's commands from elsewhere, starting at the command in force."""
    origin = int(rng.integers(1, len(commands_TA) - FRAMES_AHEAD))
    piece = np.repeat(commands_TA[length - 2][None], FRAMES_AHEAD, 0)
    piece[:, ARM] += (
        commands_TA[origin : origin + FRAMES_AHEAD, ARM] - commands_TA[origin - 1, ARM]
    )
    low_A, high_A = np.asarray(ACTION_LIMITS).T
    return np.clip(piece, low_A, high_A)


def run_fork(
    subject: Subject, fork: Fork, rng: np.random.Generator, *, keep_pictures: bool = False
) -> ForkOutcome:
    """Observe the history, imagine both futures in three ways and choose.

    Raises:
        LeakError: the model with the last command held told the futures apart.
    """
    latents = encode_all(subject, fork.history_THWC)
    previous_TA = np.concatenate([fork.history_TA[:1], fork.history_TA])
    memory = observe_all(subject, subject.reset(1), latents[None], previous_TA[None])
    held = np.repeat(fork.history_TA[-1][None], FRAMES_AHEAD, 0)
    late = [
        np.concatenate([held[:SHIFT_FRAMES], actions_TA[:-SHIFT_FRAMES]])
        for actions_TA in fork.actions_2TA
    ]
    given = np.stack([*fork.actions_2TA, held, held, *late])
    noise = np.repeat(subject.noise(rng, 1, FRAMES_AHEAD), len(given), 0)
    rollout = subject.imagine(memory, given, noise, decode=False)
    predicted = subject.decode(rollout.latents_BTCHW[:, -1])
    futures = fork.futures_2HWC
    choices = {}
    for number, variant in enumerate(VARIANTS):
        pair = predicted[2 * number : 2 * number + 2]
        choices[variant] = (
            metrics.two_alternative(pair[0], futures[0], futures[1]),
            metrics.two_alternative(pair[1], futures[1], futures[0]),
        )
    outcome = ForkOutcome(
        fork.kind,
        fork.seed,
        choices,
        fork.first,
        fork.differing_share,
        (*futures, *predicted[:2]) if keep_pictures else (),
    )
    if outcome.score('hold_last') != 0.5:
        raise LeakError(
            f'{fork.kind} {fork.seed}: with the last command held both futures look '
            f'the same to the model, yet it chose {choices["hold_last"]}'
        )
    return outcome
