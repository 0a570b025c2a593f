"""One decision of a planner: search, finalists under fresh noise, holding still; what failed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from wm_ros.datatypes import FloatArray
from wm_ros.planning.pursuit import Attempts, Choice, Effort, Price, Priced, decide
from wm_ros.planning.solvers import Cem, RandomShooting

FRAMES, A = 5, 2
COMMAND_A = np.zeros(A, np.float32)
EFFORT = Effort(rounds=3, finalists=4, search_draws=1, final_draws=2, margin=0.1, searches=1)


@dataclass
class Space:
    """Straight to a point: parameters are the last command."""

    dims: int = A
    frames: int = FRAMES
    settings: FloatArray | None = None

    def decode(self, params_KP: FloatArray, command_A: FloatArray) -> FloatArray:
        shares_T = np.linspace(1 / FRAMES, 1, FRAMES, dtype=np.float32)
        return command_A + shares_T[None, :, None] * (params_KP - command_A)[:, None]


@dataclass
class Bowl:
    """Prices a candidate by the distance of its last command from a target, plus noise by seed."""

    target: tuple[float, float] = (0.5, -0.3)
    noise: float = 0.0
    stop_at: int = FRAMES
    asked: list[tuple[int, int, int]] = field(default_factory=list)

    def __call__(self, actions_KTA: FloatArray, seed: int, draws: int) -> Priced:
        self.asked.append((len(actions_KTA), seed, draws))
        rng = np.random.default_rng(seed)
        costs_K = np.square(actions_KTA[:, -1] - self.target).sum(1)
        costs_K = costs_K + self.noise * rng.standard_normal(len(costs_K))
        count = len(costs_K)
        return Priced(
            costs_K.astype(np.float32),
            np.full(count, self.stop_at),
            np.arange(count, dtype=np.float32),
        )


def choose(price: Price, seed: int = 0, attempts: Attempts | None = None) -> Choice:
    return decide(
        price, Space(), Cem(A, 32), COMMAND_A, np.random.default_rng(seed), EFFORT, attempts
    )


def test_the_winner_is_near_the_target_and_everything_asked_is_counted() -> None:
    price = Bowl()
    choice = choose(price)
    np.testing.assert_allclose(choice.actions_TA[-1], price.target, atol=0.1)
    assert choice.cost < 0.02 < choice.hold_cost == pytest.approx(0.34)
    # Holding still, three rounds, the finalists beside holding still.
    assert [count for count, _, _ in price.asked] == [1, 32, 32, 32, 5]
    assert [draws for _, _, draws in price.asked] == [2, 1, 1, 1, 2]
    assert choice.queries == 5
    assert choice.candidate_steps == (1 + 3 * 32 + 5) * FRAMES


def test_rounds_share_their_noise_and_the_finalists_get_another() -> None:
    price = Bowl()
    choose(price)
    _, first, second, third, final = [seed for _, seed, _ in price.asked]
    assert first == second == third != final


def test_the_same_generator_gives_the_same_choice() -> None:
    ends = [choose(Bowl(noise=0.05), seed=4).actions_TA for _ in range(2)]
    assert np.array_equal(*ends)


def test_holding_still_wins_where_nothing_saves_the_margin() -> None:
    choice = choose(Bowl(target=(0.0, 0.0)))
    assert choice.actions_TA.shape == (0, A)
    assert choice.hold_cost == 0.0


def test_a_candidate_is_carried_out_as_far_as_its_cost_says() -> None:
    assert len(choose(Bowl(stop_at=2)).actions_TA) == 2


def test_luck_in_the_search_does_not_decide() -> None:
    """Under strong noise the cheapest of a search is not the one that is cheapest again."""
    apart = []
    for seed in range(20):
        price = Bowl(noise=0.3)
        choice = choose(price, seed)
        if len(choice.actions_TA):
            apart.append(np.linalg.norm(choice.actions_TA[-1] - price.target))
    assert np.median(apart) < 0.6


def test_few_settings_are_compared_and_one_is_taken_even_if_holding_were_cheaper() -> None:
    space = Space(settings=np.array([[0.9, 0.9], [0.4, -0.2]], np.float32))
    solver, rng = Cem(A, 32), np.random.default_rng(0)
    price, nowhere = Bowl(), Bowl(target=(0.0, 0.0))
    choice = decide(price, space, solver, COMMAND_A, rng, EFFORT)
    assert np.array_equal(choice.actions_TA, space.decode(space.settings, COMMAND_A)[1])
    assert [count for count, _, _ in price.asked] == [3]  # both and holding still: no search
    still = decide(nowhere, space, solver, COMMAND_A, rng, EFFORT)
    assert len(still.actions_TA) == FRAMES and still.cost > still.hold_cost


class Liar(Bowl):
    """Believes in one place; going there changes nothing."""

    def __call__(self, actions_KTA: FloatArray, seed: int, draws: int) -> Priced:
        priced = super().__call__(actions_KTA, seed, draws)
        good_K = np.linalg.norm(actions_KTA[:, -1] - np.array([-0.6, 0.6]), axis=1) < 0.25
        other_K = np.linalg.norm(actions_KTA[:, -1] - np.array([0.6, 0.6]), axis=1) < 0.25
        costs_K = np.where(good_K, 0.05, np.where(other_K, 0.1, 1.0)).astype(np.float32)
        return Priced(costs_K, priced.steps_K, priced.uncertainty_K)


def test_what_changed_nothing_is_not_tried_again() -> None:
    attempts, rng = Attempts(), np.random.default_rng(1)
    ends = []
    for _ in range(2):
        choice = decide(Liar(), Space(), RandomShooting(A, 64), COMMAND_A, rng, EFFORT, attempts)
        ends.append(choice.actions_TA[-1])
    assert np.linalg.norm(ends[0] - [-0.6, 0.6]) < 0.25
    assert np.linalg.norm(ends[1] - [0.6, 0.6]) < 0.25


def test_what_helped_is_where_the_next_search_begins() -> None:
    attempts = Attempts()
    attempts.look(1.0, 0.1)
    attempts.last_P = np.array([0.2, 0.2], np.float32)
    attempts.look(0.5, 0.1)
    assert attempts.warm_P is attempts.last_P
    assert not attempts.penalty(np.zeros((3, A), np.float32)).any()
    attempts.look(0.48, 0.1)  # as good as unchanged
    assert attempts.warm_P is None
    near, far = attempts.penalty(np.array([[0.2, 0.2], [-0.9, 0.9]], np.float32))
    assert near == pytest.approx(0.48) and far < 0.01


def test_near_the_goal_little_is_not_worth_a_motion() -> None:
    """What is saved is held against the highest cost on the way, not against what is left."""
    far, near = Attempts(), Attempts()
    far.look(100.0, EFFORT.margin)
    for attempts, length in ((near, FRAMES), (far, 0)):
        rng = np.random.default_rng(0)
        choice = decide(Bowl(), Space(), Cem(A, 64), COMMAND_A, rng, EFFORT, attempts)
        assert choice.cost < 0.5 * choice.hold_cost < 5.0
        assert len(choice.actions_TA) == length


@pytest.mark.parametrize(('failures', 'length'), [(0, FRAMES), (3, FRAMES), (4, 0)])
def test_after_failures_in_a_row_a_motion_must_promise_more(failures: int, length: int) -> None:
    """All there is can be saved: more than four fifths of it, not more than five."""
    price, effort = Bowl(target=(0.9, 0.9)), replace(EFFORT, margin=0.2)
    attempts, rng = Attempts(), np.random.default_rng(0)
    for _ in range(failures):
        attempts.look(1.62, effort.margin)  # what holding still costs here
        attempts.last_P = np.full(A, -0.9, np.float32)  # far from what is good
    choice = decide(price, Space(), Cem(A, 64), COMMAND_A, rng, effort, attempts)
    assert choice.hold_cost == pytest.approx(1.62) and choice.cost < 0.02
    assert len(choice.actions_TA) == length


class Shy(Bowl):
    """Shows what is good in the second search only: every seed of the first sees a plain."""

    def __call__(self, actions_KTA: FloatArray, seed: int, draws: int) -> Priced:
        priced = super().__call__(actions_KTA, seed, draws)
        if len(self.asked) <= 1 + EFFORT.rounds + 1:
            return replace(priced, costs_K=np.ones_like(priced.costs_K))
        return priced


@pytest.mark.parametrize(('searches', 'length'), [(1, 0), (2, FRAMES), (3, FRAMES)])
def test_one_search_that_finds_nothing_is_not_the_last_word(searches: int, length: int) -> None:
    price, effort = Shy(), replace(EFFORT, searches=searches)
    attempts, rng = Attempts(), np.random.default_rng(0)
    choice = decide(price, Space(), Cem(A, 32), COMMAND_A, rng, effort, attempts)
    assert len(choice.actions_TA) == length
    assert choice.queries == len(price.asked) == 1 + min(searches, 2) * (EFFORT.rounds + 1)
    assert choice.candidate_steps == FRAMES * sum(count for count, _, _ in price.asked)
    assert attempts.last_P is choice.params_P


class Reward(Bowl):
    """Costs below zero: a reward, minus one."""

    def __call__(self, actions_KTA: FloatArray, seed: int, draws: int) -> Priced:
        priced = super().__call__(actions_KTA, seed, draws)
        return Priced(priced.costs_K - 10.0, priced.steps_K, priced.uncertainty_K)


def test_negative_costs_are_saved_on_like_others() -> None:
    # The margin is 10 % of 10, more than this one saves.
    assert not len(choose(Reward(target=(0.2, 0.1))).actions_TA)
    assert len(choose(Reward(target=(1.0, -1.0))).actions_TA) == FRAMES
