"""The main path on the toy engine: what goes where, what is counted, and what is never touched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from wm_ros import memory as memories
from wm_ros.backends import Backend, resolve_backend
from wm_ros.backends.toy_backend import ACTION_GAIN
from wm_ros.contract import StreamContract
from wm_ros.datatypes import FloatArray, Frame, MemoryState, Step
from wm_ros.model_package import ModelPackage
from wm_ros.toy_package import write_toy_package
from wm_ros.world_model import NonFiniteError, WorldModel

CONTRACT = StreamContract.load(Path(__file__).parents[2] / 'contracts' / 'tabletop.yaml')
WIDTH = CONTRACT.action_width


@pytest.fixture(scope='module')
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return write_toy_package(tmp_path_factory.mktemp('package') / 'toy', CONTRACT)


@pytest.fixture
def world(package: ModelPackage) -> WorldModel:
    return WorldModel(package, resolve_backend('toy', package))


def step(index: int, *, missing: bool = False, grey: int | None = None) -> Step:
    image = np.full((64, 64, 3), 40 + index if grey is None else grey, np.uint8)
    action_prev, action = (np.full(WIDTH, value, np.float32)
                           for value in (0.01 * index, 0.01 * (index + 1)))
    stamp_ns = 40_000_000 * (index + 1)
    return Step(None if missing else Frame(image, stamp_ns), action_prev, action, stamp_ns, index)


def observed(world: WorldModel, frames: int = 5) -> MemoryState:
    memory = world.reset()
    for index in range(frames):
        memory = world.observe(memory, step(index))
    return memory


def snapshot(memory: MemoryState) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in memory.arrays.items()}


def test_observing_advances_the_memory_and_returns_a_new_value(world: WorldModel) -> None:
    first = observed(world, 3)
    before = snapshot(first)
    second = world.observe(first, step(3))
    assert snapshot(first) == before
    assert (first.frames, second.frames) == (3, 4)
    assert second.stamp_ns == step(3).stamp_ns
    assert second.nbytes == world.package.manifest.state_bytes
    latents = second.arrays['latents'][0]
    np.testing.assert_array_equal(latents[0], world.encode(step(3).frame.image_HWC[None])[0])
    np.testing.assert_array_equal(latents[1], first.arrays['latents'][0, 0])
    np.testing.assert_array_equal(second.arrays['action'][0], step(3).action_prev_A)
    assert not np.array_equal(second.arrays['fast_weights'], first.arrays['fast_weights'])


def test_a_missing_frame_is_bridged_by_the_prediction_and_not_remembered(
        world: WorldModel) -> None:
    memory = observed(world)
    noise = world.noise(np.random.default_rng(3))
    missing = step(5, missing=True)
    predicted = world.imagine(memory, missing.action_prev_A[None, None], noise, decode=False)
    bridged = world.observe(memory, missing, noise[:, 0])
    np.testing.assert_array_equal(bridged.arrays['latents'][0, 0],
                                  predicted.latents_BTCHW[0, 0])
    np.testing.assert_array_equal(bridged.arrays['fast_weights'], memory.arrays['fast_weights'])
    assert bridged.frames == memory.frames
    assert bridged.stamp_ns == missing.stamp_ns


def test_a_missing_frame_without_noise_is_refused(world: WorldModel) -> None:
    with pytest.raises(ValueError, match='step 5 has no frame'):
        world.observe(observed(world), step(5, missing=True))


def test_imagining_leaves_the_memory_bitwise_unchanged(world: WorldModel) -> None:
    memory = observed(world)
    before = snapshot(memory)
    rng = np.random.default_rng(0)
    for candidates in (1, 4):
        actions = rng.uniform(-1, 1, (candidates, 6, WIDTH)).astype(np.float32)
        rollout = world.imagine(memory, actions, world.noise(rng, candidates, 6))
        assert rollout.latents_BTCHW.shape == (candidates, 6, 8, 8, 8)
        assert rollout.frames_BTHWC is not None
        assert rollout.frames_BTHWC.shape == (candidates, 6, 64, 64, 3)
        assert rollout.frames_BTHWC.dtype == np.uint8
        assert rollout.memory.batch == candidates
        assert (rollout.memory.frames, rollout.memory.stamp_ns) == (5, memory.stamp_ns)
        assert snapshot(memory) == before


def test_candidates_do_not_see_each_other(world: WorldModel) -> None:
    memory = observed(world)
    rng = np.random.default_rng(1)
    actions = rng.uniform(-1, 1, (3, 4, WIDTH)).astype(np.float32)
    noise = world.noise(rng, 3, 4)
    together = world.imagine(memory, actions, noise)
    for k in range(3):
        alone = world.imagine(memory, actions[k:k + 1], noise[k:k + 1])
        np.testing.assert_allclose(alone.latents_BTCHW[0], together.latents_BTCHW[k], atol=1e-6)
        np.testing.assert_allclose(alone.memory.arrays['fast_weights'][0],
                                   together.memory.arrays['fast_weights'][k], atol=1e-6)


def test_imagining_in_two_parts_is_imagining_once(world: WorldModel) -> None:
    memory = observed(world)
    rng = np.random.default_rng(2)
    actions = rng.uniform(-1, 1, (2, 6, WIDTH)).astype(np.float32)
    noise = world.noise(rng, 2, 6)
    whole = world.imagine(memory, actions, noise, decode=False)
    first = world.imagine(memory, actions[:, :2], noise[:, :2], decode=False)
    second = world.imagine(first.memory, actions[:, 2:], noise[:, 2:], decode=False)
    parts = np.concatenate([first.latents_BTCHW, second.latents_BTCHW], 1)
    np.testing.assert_array_equal(parts, whole.latents_BTCHW)
    assert snapshot(second.memory) == snapshot(whole.memory)
    assert whole.frames_BTHWC is None


def test_without_the_last_write_the_frames_are_the_same_and_the_fork_is_one_frame_back(
        world: WorldModel) -> None:
    memory = observed(world)
    rng = np.random.default_rng(4)
    actions = rng.uniform(-1, 1, (2, 3, WIDTH)).astype(np.float32)
    noise = world.noise(rng, 2, 3)
    whole = world.imagine(memory, actions, noise)
    short = world.imagine(memory, actions, noise, write_last=False)
    np.testing.assert_array_equal(short.latents_BTCHW, whole.latents_BTCHW)
    np.testing.assert_array_equal(short.frames_BTHWC, whole.frames_BTHWC)
    before = world.imagine(memory, actions[:, :2], noise[:, :2]).memory
    assert snapshot(short.memory) == snapshot(before) != snapshot(whole.memory)
    one = world.imagine(memory, actions[:1, :1], noise[:1, :1], write_last=False)
    assert snapshot(one.memory) == snapshot(memory)


@pytest.mark.parametrize('at', range(5))
def test_an_action_moves_the_frame_that_follows_it_and_none_before(world: WorldModel,
                                                                   at: int) -> None:
    memory = observed(world)
    still = np.zeros((1, 5, WIDTH), np.float32)
    pushed = still.copy()
    pushed[0, at] = 1
    noise = world.noise(np.random.default_rng(0), 1, 5)
    base = world.imagine(memory, still, noise).latents_BTCHW
    moved = world.imagine(memory, pushed, noise).latents_BTCHW
    change = np.abs(moved - base).max((2, 3, 4))[0]
    assert not change[:at].any()
    np.testing.assert_allclose(change[at], ACTION_GAIN, rtol=1e-4)


def test_the_memory_carries_the_action_that_led_to_its_last_frame(world: WorldModel) -> None:
    rollout = world.imagine(observed(world), np.linspace(0, 1, 3 * WIDTH, dtype=np.float32)
                            .reshape(1, 3, WIDTH), world.noise(np.random.default_rng(0), 1, 3))
    np.testing.assert_array_equal(
        rollout.memory.arrays['action'][0],
        np.linspace(0, 1, 3 * WIDTH, dtype=np.float32).reshape(3, WIDTH)[2])


def test_the_same_noise_gives_the_same_dream_and_other_noise_another(world: WorldModel) -> None:
    memory = observed(world)
    actions = np.zeros((1, 3, WIDTH), np.float32)
    dreams = [world.imagine(memory, actions, world.noise(np.random.default_rng(seed), 1, 3))
              for seed in (0, 0, 1)]
    np.testing.assert_array_equal(dreams[0].latents_BTCHW, dreams[1].latents_BTCHW)
    assert not np.array_equal(dreams[0].latents_BTCHW, dreams[2].latents_BTCHW)


def test_states_side_by_side_are_written_one_to_one(world: WorldModel) -> None:
    rng = np.random.default_rng(5)
    latents = rng.standard_normal((3, 8, 8, 8), np.float32)
    actions = rng.uniform(-1, 1, (3, WIDTH)).astype(np.float32)
    together = world.observe_latent(world.reset(3), latents, actions, stamp_ns=9)
    assert (together.batch, together.frames, together.stamp_ns) == (3, 1, 9)
    for k in range(3):
        alone = world.observe_latent(world.reset(), latents[k:k + 1], actions[k:k + 1], stamp_ns=9)
        assert snapshot(alone) == snapshot(memories.select(together, [k]))


def test_wrong_shapes_are_refused_with_what_was_found(world: WorldModel) -> None:
    memory = observed(world)
    actions = np.zeros((1, 2, WIDTH), np.float32)
    noise = world.noise(np.random.default_rng(0), 1, 2)
    with pytest.raises(ValueError, match=r'actions: found float32 \(1, 2, 3\)'):
        world.imagine(memory, actions[..., :3], noise)
    with pytest.raises(ValueError, match='actions: found float64'):
        world.imagine(memory, actions.astype(np.float64), noise)
    with pytest.raises(ValueError, match='noise: found'):
        world.imagine(memory, actions, noise[:, :1])
    with pytest.raises(ValueError, match='batch 2 does not fit 3'):
        world.imagine(memories.fork(memory, 2), np.zeros((3, 2, WIDTH), np.float32),
                      world.noise(np.random.default_rng(0), 3, 2))
    with pytest.raises(ValueError, match=r'expected uint8 \[batch, 64, 64, 3\]'):
        world.encode(np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match='action: found'):
        world.observe_latent(memory, np.zeros((1, 8, 8, 8), np.float32),
                             np.zeros((1, 3), np.float32))


class Poisoned:
    """An engine of which one graph returns NaN in one output."""

    name, precision, reason = 'poisoned', 'fp32', ''

    def __init__(self, backend: Backend, graph: str) -> None:
        self.backend, self.graph = backend, graph

    def run(self, graph: str, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        outputs = self.backend.run(graph, inputs)
        if graph == self.graph:
            outputs = {name: array.copy() for name, array in outputs.items()}
            next(reversed(outputs.values())).flat[0] = np.nan
        return outputs


@pytest.mark.parametrize(('graph', 'message'), [
    ('encode', 'latent: 1 of 512'),
    ('write', 'memory tensor fast_weights: 1 of 8192'),
    ('predict', 'predicted latent: 1 of 512'),
    ('decode', 'decoded image: 1 of 12288'),
])
def test_outputs_that_are_not_finite_raise_and_spare_the_memory(world: WorldModel, graph: str,
                                                               message: str) -> None:
    memory = observed(world)
    before = snapshot(memory)
    poisoned = WorldModel(world.package, Poisoned(world.backend, graph))
    with pytest.raises(NonFiniteError, match=message):
        poisoned.observe(memory, step(5))
        poisoned.imagine(memory, np.zeros((1, 1, WIDTH), np.float32),
                         world.noise(np.random.default_rng(0)))
    assert snapshot(memory) == before


def test_frames_survive_the_way_through_the_model_range(world: WorldModel) -> None:
    image = step(0, grey=200).frame.image_HWC
    np.testing.assert_array_equal(world.decode(world.encode(image[None]))[0], image)
