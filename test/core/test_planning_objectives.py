"""What futures cost, against arithmetic by hand; goals that are none are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from planning_world import A, toy_model

from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.planning.goals import GoalPictures, Region
from wm_ros.planning.objectives import ActionLimits, GoalImage, Outlook, Reward, Smoothness
from wm_ros.sources import CropBox
from wm_ros.world_model import WorldModel


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> WorldModel:
    return toy_model(tmp_path_factory.mktemp('package') / 'toy')


def refusal(work: Callable[[], object]) -> QueryError:
    with pytest.raises(QueryError) as caught:
        work()
    return caught.value


def outlook(k: int = 2, m: int = 3, t: int = 4, **options: object) -> Outlook:
    rng = np.random.default_rng(1)
    actions = rng.uniform(-1, 1, (k, t, A)).astype(np.float32)
    return Outlook(actions, rng.standard_normal((k, m, t, 8, 8, 8), np.float32), **options)


def blocks(values: np.ndarray) -> np.ndarray:
    """Mean over blocks of 2 x 2 cells."""
    return sum(values[..., i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4


def pictures(count: int = 1, size: int = 64, seed: int = 0) -> np.ndarray:
    """Blocks of one colour: what the toy tokenizer can represent."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 255, (count, size // 8, size // 8, 3), np.uint8)
    return blocks.repeat(8, 1).repeat(8, 2)


def test_the_nearest_goal_counts_at_every_instant() -> None:
    look = outlook()
    goals = np.random.default_rng(2).standard_normal((3, 8, 8, 8), np.float32)
    gaps = look.latents_KMTCHW[None] - goals[:, None, None, None]
    by_hand = np.square(gaps).mean((4, 5, 6)) + np.square(blocks(gaps)).mean((4, 5, 6))
    nearest_KMT = by_hand.min(0)
    steps_K = nearest_KMT.mean(1).argmin(1)  # one instant for all draws: it is carried out once
    for over, expected in (
        ('last', nearest_KMT[..., -1]),
        ('mean', nearest_KMT.mean(2)),
        ('best', np.stack([nearest_KMT[k, :, steps_K[k]] for k in range(2)])),
    ):
        goal = GoalImage(goals, over=over)
        np.testing.assert_allclose(goal.costs(look), expected, rtol=1e-5)
        found_K = goal.cost_steps(look)
        assert found_K.tolist() == ((steps_K + 1).tolist() if over == 'best' else [4, 4])


def test_seen_coarsely_near_is_nearer_than_far() -> None:
    goal, latents = np.zeros((1, 8, 8, 8), np.float32), np.zeros((3, 1, 1, 8, 8, 8), np.float32)
    goal[0, :, 2, 2] = 1.0
    latents[0, ..., 3, 3] = 1.0  # in the same block of 2 x 2
    latents[1, ..., 6, 6] = 1.0
    costs = GoalImage(goal).costs(Outlook(np.zeros((3, 1, A), np.float32), latents))[:, 0]
    assert costs[0] < costs[1]


def test_a_goal_that_is_met_costs_nothing() -> None:
    look = outlook()
    costs = GoalImage(look.latents_KMTCHW[1, 2, -1][None]).costs(look)
    assert costs[1, 2] == 0.0
    assert (np.delete(costs, 5) > 0.5).all()


def test_weights_of_cells_are_relative() -> None:
    look = outlook()
    goal = np.zeros((1, 8, 8, 8), np.float32)
    mask = np.zeros((8, 8), np.float32)
    mask[2, 5], mask[6, 1] = 1.0, 0.25
    squares = np.square(look.latents_KMTCHW[:, :, -1]).mean(2)
    # Each cell is alone in its block, so the coarse part says the same once more.
    expected = 2 * (squares[..., 2, 5] + 0.25 * squares[..., 6, 1]) / 1.25
    for scale in (1, 7):
        np.testing.assert_allclose(
            GoalImage(goal, mask_HW=scale * mask).costs(look), expected, rtol=1e-5
        )


def test_smoothness_is_the_second_difference_and_knows_the_command_in_force() -> None:
    ramp = np.linspace(0.1, 0.4, 4, dtype=np.float32)[None, :, None].repeat(A, 2)
    latents = np.zeros((1, 2, 4, 8, 8, 8), np.float32)
    straight = Smoothness().costs(Outlook(ramp, latents))
    np.testing.assert_allclose(straight, np.zeros((1, 2)), atol=1e-12)
    # From rest at 0 the ramp begins with one kink of 0.1 in 4 second differences.
    from_rest = Smoothness().costs(Outlook(ramp, latents, latched_A=np.zeros(A, np.float32)))
    np.testing.assert_allclose(from_rest, np.full((1, 2), 0.01 / 4), rtol=1e-4)
    short = Outlook(ramp[:, :2], latents[:, :, :2])
    np.testing.assert_array_equal(Smoothness().costs(short), np.zeros((1, 2)))


def test_action_limits_are_a_squared_hinge() -> None:
    actions = np.zeros((2, 2, A), np.float32)
    actions[1, 0, 3], actions[1, 1, 0] = 0.9, -0.7
    look = Outlook(actions, np.zeros((2, 1, 2, 8, 8, 8), np.float32))
    limits = ActionLimits(np.full(A, -0.5, np.float32), np.full(A, 0.5, np.float32))
    expected = (0.4**2 + 0.2**2) / (2 * A)
    np.testing.assert_allclose(limits.costs(look), [[0], [expected]], rtol=1e-5)


def test_reward_is_negative_cost() -> None:
    rewards = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_allclose(
        Reward().costs(outlook(rewards_KMT=rewards)), -rewards.mean(2), rtol=1e-6
    )
    assert refusal(lambda: Reward().costs(outlook())).code is QueryCode.NO_REWARD_HEAD


@pytest.mark.parametrize(
    ('make', 'code', 'text'),
    [
        (
            lambda: GoalImage(np.zeros((0, 8, 8, 8), np.float32)),
            QueryCode.INVALID_GOAL,
            'at least',
        ),
        (lambda: GoalImage(np.zeros((8, 8, 8), np.float32)), QueryCode.INVALID_GOAL, 'shape'),
        (
            lambda: GoalImage(np.full((1, 8, 8, 8), np.nan, np.float32)),
            QueryCode.INVALID_GOAL,
            'not finite',
        ),
        (
            lambda: GoalImage(
                np.zeros((1, 8, 8, 8), np.float32), mask_HW=np.zeros((8, 8), np.float32)
            ),
            QueryCode.INVALID_GOAL,
            'some above',
        ),
        (
            lambda: GoalImage(np.zeros((1, 8, 8, 8), np.float32), over='first'),
            QueryCode.INVALID_OBJECTIVE,
            "over 'first': expected one of last, mean, best",
        ),
        (
            lambda: ActionLimits(np.zeros(3, np.float32), np.zeros(4, np.float32)),
            QueryCode.INVALID_OBJECTIVE,
            '3 low and 4 high',
        ),
        (
            lambda: ActionLimits(np.ones(3, np.float32), np.zeros(3, np.float32)),
            QueryCode.INVALID_OBJECTIVE,
            'entry 0 is limited to 1 to 0',
        ),
        (
            lambda: ActionLimits(np.full(3, np.nan, np.float32), np.zeros(3, np.float32)),
            QueryCode.INVALID_OBJECTIVE,
            'entry 0',
        ),
    ],
)
def test_terms_that_make_no_sense_are_refused(
    make: Callable[[], object], code: QueryCode, text: str
) -> None:
    error = refusal(make)
    assert error.code is code
    assert text in error.message


@pytest.mark.parametrize(
    ('term', 'code'),
    [
        (GoalImage(np.zeros((1, 8, 4, 4), np.float32)), QueryCode.INVALID_GOAL),
        (
            ActionLimits(np.zeros(3, np.float32), np.zeros(3, np.float32)),
            QueryCode.INVALID_OBJECTIVE,
        ),
        (Reward(), QueryCode.NO_REWARD_HEAD),
        (GoalPictures(pictures(size=128)), QueryCode.INVALID_GOAL),
        (GoalPictures(pictures(), region=Region(60, 0, 8, 8)), QueryCode.INVALID_GOAL),
    ],
)
def test_terms_that_do_not_fit_the_package_are_refused(
    model: WorldModel, term: object, code: QueryCode
) -> None:
    assert refusal(lambda: term.check(model.package)).code is code


def test_pictures_become_latents_one_at_a_time(model: WorldModel) -> None:
    images = pictures(3)
    draft = GoalPictures(images, weight=0.5, region=Region(0, 8, 16, 8), over='best')
    *waiting, term = draft.prepare(model)
    assert waiting == [None, None] and draft.units == 3
    np.testing.assert_allclose(term.latents_GCHW, model.encode(images), atol=1e-6)
    assert (term.weight, term.over, term.name) == (0.5, 'best', 'goal_image')
    assert term.mask_HW.sum() == 2 and (term.mask_HW[1, :2] == 1).all()
    assert draft.encoded(model).latents_GCHW.tobytes() == term.latents_GCHW.tobytes()


@pytest.mark.parametrize(
    ('images', 'text'),
    [
        (pictures()[:0], 'no goal picture'),
        (pictures()[0], 'expected uint8 RGB'),
        (pictures()[..., :1], 'expected uint8 RGB'),
        (pictures().astype(np.float32), 'float32'),
        (np.full((1, 64, 64, 3), 130, np.uint8), 'goal 0 is flat: its values vary by 0.00'),
        (np.concatenate([pictures(), np.zeros((1, 64, 64, 3), np.uint8)]), 'goal 1 is flat'),
    ],
)
def test_pictures_that_are_none_are_refused(images: np.ndarray, text: str) -> None:
    error = refusal(lambda: GoalPictures(images))
    assert error.code is QueryCode.INVALID_GOAL
    assert text in error.message


def test_a_picture_that_the_tokenizer_cannot_represent_is_refused(model: WorldModel) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    draft = GoalPictures(np.stack([pictures()[0], noise]))
    error = refusal(lambda: list(draft.prepare(model)))
    assert error.code is QueryCode.INVALID_GOAL
    assert "goal 1 is not of this robot's world" in error.message


def test_a_region_weighs_a_cell_by_the_share_that_it_covers() -> None:
    weights = Region(left=4, top=8, width=12, height=6).weights_HW(64, 8)
    expected = np.zeros((8, 8))
    expected[1, 0], expected[1, 1] = 0.5 * 0.75, 0.75
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    assert Region(0, 0, 64, 64).weights_HW(64, 8).min() == 1


@pytest.mark.parametrize(
    'region',
    [Region(0, 0, 0, 8), Region(0, 0, 8, -1), Region(-1, 0, 8, 8), Region(0, 60, 8, 8)],
)
def test_a_region_without_size_or_outside_is_refused(region: Region) -> None:
    assert refusal(lambda: region.weights_HW(64, 8)).code is QueryCode.INVALID_GOAL


def test_a_region_of_the_camera_is_brought_into_the_picture_of_the_model() -> None:
    whole = {'image_width': 640, 'image_height': 480, 'crop': None, 'size': 64}
    # The largest centred square is 480 px wide and begins at column 80.
    assert Region.of_camera(80, 0, 480, 480, **whole) == Region(0, 0, 64, 64)
    assert Region.of_camera(200, 60, 75, 30, **whole) == Region(16, 8, 10, 4)
    assert Region.of_camera(0, 0, 95, 15, **whole) == Region(0, 0, 2, 2)  # what is seen of it
    cropped = whole | {'crop': CropBox(100, 100, 128, 128)}
    assert Region.of_camera(116, 100, 32, 64, **cropped) == Region(8, 0, 16, 32)
    for wrong in ((0, 0, 80, 480), (600, 0, 41, 10), (-1, 0, 9, 9), (0, 0, 0, 10)):
        error = refusal(lambda: Region.of_camera(*wrong, **whole))  # noqa: B023
        assert error.code is QueryCode.INVALID_GOAL


def test_the_toy_knows_its_pictures(tmp_path: Path) -> None:
    """The refusals above are not refusals of everything."""
    model = toy_model(tmp_path / 'toy')
    for seed in range(3):
        GoalPictures(pictures(seed=seed)).encoded(model)
