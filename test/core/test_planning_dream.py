"""A dream is `WorldModel.imagine` a frame at a time, and what it ends in can be gone on from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from planning_world import ask, candidates, content, drain, live, seen, toy_model

from wm_ros.config import ModelConfig
from wm_ros.planning.dream import Dream
from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.planning.evaluator import Evaluator
from wm_ros.planning.objectives import GoalImage
from wm_ros.planning.query import ImaginedFrame, Limits, Start
from wm_ros.world_model import WorldModel


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> WorldModel:
    return toy_model(tmp_path_factory.mktemp('package') / 'toy')


def dreamt(dream: Dream) -> list[ImaginedFrame]:
    frames = [dream.unit() for _ in range(dream.units_left)]
    return [frame for frame in frames if frame is not None]


@pytest.mark.parametrize('latched', [True, False])
def test_a_dream_is_what_imagine_gives(model: WorldModel, latched: bool) -> None:
    start = live(model) if latched else Start(seen(model), None)
    before = content(start.memory)
    actions_TA = candidates(1, 5)[0]
    dream = Dream(model, start, actions_TA, seed=3, frames=True)
    frames = dreamt(dream)
    taken_TA = np.vstack([start.latched_A, actions_TA]) if latched else actions_TA
    noise = model.noise(np.random.default_rng(3), 1, len(taken_TA))
    rollout = model.imagine(start.memory, taken_TA[None], noise)
    assert [(f.candidate, f.step, f.ahead) for f in frames] == [
        (0, t, t + 1 + latched) for t in range(5)
    ]
    for frame, expected in zip(frames, rollout.frames_BTHWC[0, latched:], strict=True):
        np.testing.assert_array_equal(frame.image_HWC, expected)
    state = dream.state()
    assert content(state.memory) == content(rollout.memory)
    assert (state.latched_A, state.imagined, state.memory.frames) == (None, 5 + latched, 5)
    assert content(start.memory) == before


def test_without_frames_nothing_is_shown_and_the_state_is_the_same(model: WorldModel) -> None:
    start, actions_TA = live(model), candidates(1, 3)[0]
    dream, shown = (Dream(model, start, actions_TA, frames=wanted) for wanted in (False, True))
    assert dreamt(dream) == []
    assert len(dreamt(shown)) == 3
    assert content(dream.state().memory) == content(shown.state().memory)


def test_progress_is_counted(model: WorldModel) -> None:
    dream = Dream(model, live(model), candidates(1, 2)[0])
    seen_so_far = []
    while dream.units_left:
        dream.unit()
        seen_so_far.append((dream.steps_done, dream.units_left))
    assert seen_so_far == [(0, 2), (1, 1), (2, 0)]  # the latched command comes first
    assert dream.unit() is None
    assert dream.steps == 2


def test_a_query_and_a_dream_go_on_from_the_end_of_a_dream(model: WorldModel) -> None:
    start, actions_TA = live(model), candidates(1, 4)[0]
    dream = Dream(model, start, actions_TA[:2])
    dreamt(dream)
    state = dream.state()
    noise = model.noise(np.random.default_rng(1), 1, 2)
    rollout = model.imagine(state.memory, actions_TA[None, 2:], noise, decode=False)
    later = Dream(model, state, actions_TA[2:], seed=1)
    dreamt(later)
    assert content(later.state().memory) == content(rollout.memory)
    assert later.state().imagined == 5  # the latched command's frame and four more
    term = GoalImage(rollout.latents_BTCHW[:, -1])
    answer = drain(
        Evaluator(model, Limits(8, 8)).start(
            ask(state, actions_KTA=actions_TA[None, 2:], seed=1, objectives=(term,))
        )
    )
    assert answer.costs_K[0] == 0.0  # action 0 acts at once: no command is in force


def test_the_state_of_a_dream_that_has_not_begun_is_its_start(model: WorldModel) -> None:
    start = live(model)
    assert Dream(model, start, candidates(1, 1)[0]).state() is start


def test_a_dream_of_a_memory_that_is_no_number_ends(model: WorldModel) -> None:
    start = live(model)
    arrays = {name: array * np.float32('nan') for name, array in start.memory.arrays.items()}
    dream = Dream(model, Start(type(start.memory)(arrays), None), candidates(1, 1)[0])
    with pytest.raises(QueryError) as caught:
        dream.unit()
    assert caught.value.code is QueryCode.MODEL_NOT_FINITE


def test_a_dream_on_another_arm(tmp_path: Path) -> None:
    model = toy_model(tmp_path / 'toy', model=ModelConfig(arm='window'))
    assert len(dreamt(Dream(model, live(model), candidates(1, 3)[0], frames=True))) == 3
