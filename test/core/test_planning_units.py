"""However large a query is, one unit of its work is small: a frame of the camera waits for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from planning_world import ask, drain, live, toy_model

from wm_ros.planning import pricing
from wm_ros.planning.effort import PIECE
from wm_ros.planning.evaluator import Evaluator
from wm_ros.planning.goals import GoalPictures
from wm_ros.planning.objectives import GoalImage, Outlook
from wm_ros.planning.picture_book import PictureBook
from wm_ros.planning.query import FramesWanted, Limits
from wm_ros.planning.rollouts import Rollouts
from wm_ros.world_model import WorldModel

LIMITS = Limits(candidates=150, steps=300)
BATCH = 8


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> WorldModel:
    return toy_model(tmp_path_factory.mktemp('package') / 'toy')


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What was done since it was last cleared: latents, pictures and forks by kind."""
    done: Counter[str] = Counter()

    def count(owner: Any, name: str, size: Callable[..., int]) -> None:
        real = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            done[name] += size(*args, **kwargs)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    def last_or_all(goal: GoalImage, _: int, latents: np.ndarray) -> int:
        return int(np.prod(latents.shape[:2])) * (1 if goal.over == 'last' else latents.shape[2])

    count(GoalImage, 'distance', last_or_all)
    count(pricing, 'spread', lambda latents: int(np.prod(latents.shape[:2])))
    count(WorldModel, 'encode', len_of_second)
    count(PictureBook, 'decode', len_of_second)
    count(Rollouts, '_fill', len_of_second)
    return done


def len_of_second(_: object, rows: Any, *_rest: object) -> int:
    return len(rows)


def pictures(count: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(0, 255, (count, 8, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)


@pytest.mark.parametrize(('k', 't', 'draws'), [(150, 2, 2), (5, 40, 8), (1, 300, 8)])
@pytest.mark.parametrize('over', ['last', 'mean', 'best'])
def test_no_unit_is_larger_than_a_piece_whatever_is_asked(
    model: WorldModel, work: Counter[str], k: int, t: int, draws: int, over: str
) -> None:
    goals = GoalPictures(pictures(16), over=over)
    frames = FramesWanted.EVERY if t < 9 else FramesWanted.BEST
    query = ask(live(model), k, t, draws=draws, objectives=(goals, goals), frames=frames)
    running = Evaluator(model, LIMITS).start(query)
    largest: Counter[str] = Counter()
    work.clear()
    while running.unit():
        largest |= work
        work.clear()
    bounds = {'distance': PIECE, 'spread': PIECE, 'encode': 1, 'decode': BATCH, '_fill': BATCH}
    assert {name for name, most in bounds.items() if largest[name] > most} == set(), largest
    assert set(largest) == set(bounds), 'all of it was looked at'


@pytest.mark.parametrize('over', ['mean', 'best'])
def test_costs_in_pieces_are_those_of_the_whole(model: WorldModel, over: str) -> None:
    """Several goals, and more steps of one candidate than a piece may have."""
    goals = GoalPictures(pictures(3), over=over).encoded(model)
    query = ask(live(model), 3, 100, draws=8, objectives=(goals,))
    evaluator = Evaluator(model, LIMITS)
    running = evaluator.start(query)
    answer = drain(running)
    latents = evaluator._rollouts._latents[: 3 * 8 * 100].reshape(
        3, 8, 100, *goals.latents_GCHW.shape[1:]
    )
    look = Outlook(query.actions_KTA, latents)
    assert answer.costs_K.tobytes() == goals.costs(look).mean(1).tobytes()
    np.testing.assert_array_equal(answer.cost_steps_K, goals.cost_steps(look))
