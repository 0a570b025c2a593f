"""Latents that carry the last seen frame: who hands it on, who leaves it out."""

from pathlib import Path

import numpy as np
import pytest
from planning_world import CONTRACT, A, candidates, toy_model

from wm_ros import memory as memories
from wm_ros.config import ModelConfig
from wm_ros.datatypes import Frame, ImageArray, MemoryState, Step
from wm_ros.planning.evaluator import Evaluator
from wm_ros.planning.goals import GoalPictures
from wm_ros.planning.query import FramesWanted, Query, Start
from wm_ros.planning.rollouts import Rollouts
from wm_ros.world_model import WorldModel

CONFIG = ModelConfig(reference=True)
CODE = CONFIG.latent_channels


@pytest.fixture
def model(tmp_path: Path) -> WorldModel:
    return toy_model(tmp_path / 'toy', model=CONFIG)


def picture(seed: int) -> ImageArray:
    side = CONTRACT.image_size
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def step(index: int, image_HWC: ImageArray | None) -> Step:
    frame = None if image_HWC is None else Frame(image_HWC, 40_000_000 * index, 'camera')
    action = np.full(A, 0.1, np.float32)
    return Step(frame, action, action, 40_000_000 * index, index)


def watched(model: WorldModel) -> MemoryState:
    memory = model.reset()
    for index in range(3):
        memory = model.observe(memory, step(index, picture(index)))
    return memory


def test_the_memory_holds_the_last_seen_frame_and_predictions_carry_it(model: WorldModel) -> None:
    memory = watched(model)
    latent = model.encode(picture(2)[None])
    assert latent.shape[1:] == CONFIG.latent_shape == (2 * CODE + 192, 8, 8)
    np.testing.assert_array_equal(memory.arrays['reference'], latent[:, CODE:])
    np.testing.assert_array_equal(memory.arrays['latents'][:, 0], latent[:, :CODE])
    rollout = model.imagine(
        memory, candidates(2, 5), model.noise(np.random.default_rng(0), 2, 5)
    )
    carried = np.broadcast_to(latent[0, CODE:], (2, 5, *CONFIG.reference_shape))
    np.testing.assert_array_equal(rollout.latents_BTCHW[:, :, CODE:], carried)
    assert rollout.frames_BTHWC is not None
    assert rollout.memory.arrays['reference'].tobytes() == 2 * latent[:, CODE:].tobytes()


def test_a_bridged_frame_leaves_the_last_seen_one_in_place(model: WorldModel) -> None:
    before = watched(model)
    noise = model.noise(np.random.default_rng(0))[:, 0]
    after = model.observe(before, step(3, None), noise)
    np.testing.assert_array_equal(after.arrays['reference'], before.arrays['reference'])
    assert after.arrays['latents'].tobytes() != before.arrays['latents'].tobytes()
    seen = model.observe(after, step(4, picture(9)))
    assert seen.arrays['reference'].tobytes() != before.arrays['reference'].tobytes()


def test_it_is_saved_and_loaded(model: WorldModel, tmp_path: Path) -> None:
    memory, path = watched(model), tmp_path / 'memory'
    memories.save(memory, path, model.package.sha256)
    loaded = memories.load(path, model.package)
    np.testing.assert_array_equal(loaded.arrays['reference'], memory.arrays['reference'])


def test_a_picture_is_redrawn_from_its_code_alone(model: WorldModel) -> None:
    latent = model.encode(picture(5)[None])
    without = latent.copy()
    without[:, CODE:] = 0
    np.testing.assert_array_equal(model.redraw(latent), model.decode(without))
    assert (model.redraw(latent) != model.decode(latent)).any(), 'or the test says nothing'
    # Half of what the toy shows of a seen frame is that frame: by itself, a poor judge of goals.
    terms = GoalPictures(picture(5)[None])
    with pytest.raises(Exception, match='redraw'):
        terms.encoded(model)


def test_the_planner_compares_codes_and_shows_whole_latents(model: WorldModel) -> None:
    memory = watched(model)
    start, actions_KTA = Start(memory, None), candidates(3, 4)
    rollouts = Rollouts(model, 2, 8, 32)
    rollouts.begin(start, actions_KTA, 1, 0)
    while rollouts.unit():
        pass
    rng = np.random.default_rng(0)
    noise_TMDCHW = np.stack([model.noise(rng, 1)[:, 0] for _ in range(4)])
    alone = [
        model.imagine(memory, actions_TA[None], noise_TMDCHW[None, :, 0])
        for actions_TA in actions_KTA
    ]
    codes = np.stack([rollout.latents_BTCHW[:, :, :CODE] for rollout in alone])
    np.testing.assert_array_equal(rollouts.latents_KMTCHW, codes)
    cells = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)
    goals = GoalPictures(cells.repeat(8, 0).repeat(8, 1)[None]).encoded(model)
    assert goals.latents_GCHW.shape[1:] == CONFIG.coded_shape
    evaluator = Evaluator(model)
    query = Query(
        start, actions_KTA, (goals,), frames=FramesWanted.EVERY, every=1, draws=1, seed=0
    )
    running = evaluator.start(query)
    shown = []
    while running.unit():
        shown += list(running.frames())
    shown += list(running.frames())
    assert len(shown) == 12
    for frame in shown:
        truth = alone[frame.candidate].frames_BTHWC
        assert truth is not None
        np.testing.assert_array_equal(frame.image_HWC, truth[0, frame.step])
