"""TableTop: the same bytes for the same state, colours that stay apart, rays that fit OpenGL."""

import itertools

import numpy as np
import pytest

from wm_ros.sim.config import SimConfig
from wm_ros.sim.drawing import choose_renderer
from wm_ros.sim.episodes import plan_episode, play
from wm_ros.sim.scene import ACTION_NAMES, FACTS, PALETTE, Layout, TableTop
from wm_ros.sim.world import CUP_LIFT_M

OPEN_CUPS = dict.fromkeys(('lid_0', 'lid_1', 'lid_2', 'drawer', 'occluder'), 1.0)


def open_up(table: TableTop, **entries: float) -> None:
    """Hold a command, the arm behind the cups, until it is reached."""
    values = {'y': 0.12, 'z': 0.24} | entries
    for _ in range(8):
        table.step(np.array([values.get(name, 0.0) for name in ACTION_NAMES], np.float32))


def test_two_tables_draw_the_same_bytes() -> None:
    plan = plan_episode('practice', 3, frames=60)
    with TableTop() as one, TableTop() as two:
        first = [frame.image_HWC.tobytes() for frame in play(plan, one)]
        second = [frame.image_HWC.tobytes() for frame in play(plan, two)]
        again = [frame.image_HWC.tobytes() for frame in play(plan, one)]
    assert first == second == again
    assert len(set(first)) > 40


def test_a_restored_state_goes_on_as_before() -> None:
    plan = plan_episode('practice', 4, frames=50)
    with TableTop() as table:
        frames = [frame.image_HWC for frame in play(plan, table)]
        table.reset(plan.layout)
        for action_A in plan.actions_TA[:20]:
            table.step(action_A)
        state = table.state()
        for action_A in plan.actions_TA[20:]:
            table.step(action_A)
        table.restore(state)
        for index in range(20, 50):
            np.testing.assert_array_equal(table.render(), frames[index])
            table.step(plan.actions_TA[index])


@pytest.mark.parametrize('image_size', [64, 128])
def test_a_frame_has_the_asked_size(image_size: int) -> None:
    with TableTop(SimConfig(image_size=image_size)) as table:
        image_HWC = table.render()
        truth = table.truth()
    assert image_HWC.shape == (image_size, image_size, 3)
    assert image_HWC.dtype == np.uint8
    assert truth.fact_mask_HW is not None
    assert truth.fact_mask_HW.shape == (image_size, image_size)
    assert truth.hidden == (True,) * len(FACTS)


@pytest.mark.parametrize('shown', [('cup_0', 'cup_1', 'cup_2', 'drawer'), ('occluder',)])
def test_recolouring_changes_the_pixels_of_the_fact_and_no_other(shown: tuple[str, ...]) -> None:
    base = Layout(colours=(0, 1, 2, 3, 4, 5, 0))
    with TableTop() as table:
        table.reset(base)
        open_up(table, **{fact.replace('cup', 'lid'): 1.0 for fact in shown})
        before_HWC, truth = table.render(), table.truth()
        assert truth.visible_px is not None
        assert truth.fact_mask_HW is not None
        for index, fact in enumerate(FACTS):
            colours = list(base.colours)
            colours[index] = (colours[index] + 1) % len(PALETTE)
            table.recolour(Layout(colours=tuple(colours)))
            changed_HW = (table.render() != before_HWC).any(axis=2)
            assert (changed_HW.sum() > 200) == (fact in shown)
            assert changed_HW.sum() == truth.visible_px[index]
            np.testing.assert_array_equal(changed_HW, truth.fact_mask_HW == index + 1)


def test_the_colours_of_a_shown_fact_are_far_apart_and_nothing_else_is_saturated() -> None:
    with TableTop() as table:
        means = []
        for colour in range(len(PALETTE)):
            table.reset(Layout(colours=(colour,) * len(FACTS)))
            open_up(table, **OPEN_CUPS)
            image_HWC, mask_HW = table.render().astype(float), table.truth().fact_mask_HW
            assert mask_HW is not None
            means.append([image_HWC[mask_HW == fact].mean(axis=0) for fact in range(1, 6)])
            grey_HW = image_HWC.max(axis=2) - image_HWC.min(axis=2)
            assert grey_HW[mask_HW == 0].max() < 40
    for one, two in itertools.combinations(means, 2):
        assert min(np.linalg.norm(a - b) for a in one for b in two) > 75


def test_truth_tells_where_a_fact_is() -> None:
    with TableTop() as table:
        closed = table.truth(mask=False)
        open_up(table, drawer=1.0, lid_0=1.0)
        opened = table.truth(mask=False)
    drawer = FACTS.index('drawer')
    assert opened.positions_F3[drawer, 1] < closed.positions_F3[drawer, 1] - 0.1
    np.testing.assert_array_equal(opened.positions_F3[0], closed.positions_F3[0])
    assert opened.state.lids[0] * CUP_LIFT_M > 0.15
    assert opened.hidden == (False, True, True, False, True, True, True)


def test_rays_draw_what_opengl_draws() -> None:
    if choose_renderer('auto') == 'ray':
        pytest.skip('no OpenGL on this machine: nothing to compare the rays with')
    plan = plan_episode('practice', 6, frames=400)
    asked = range(0, 400, 13)
    with TableTop() as table, TableTop(SimConfig(renderer='ray')) as rays:
        assert rays.renderer == 'ray'
        shown = 0
        for drawn, traced in zip(play(plan, table, asked, truth=True),
                                 play(plan, rays, asked, truth=True), strict=True):
            difference = np.abs(drawn.image_HWC.astype(int) - traced.image_HWC)
            assert difference.mean() < 1.0
            assert drawn.truth is not None
            assert traced.truth is not None
            assert drawn.truth.hidden == traced.truth.hidden
            np.testing.assert_allclose(drawn.truth.visible_px, traced.truth.visible_px, atol=12)
            shown += not all(drawn.truth.hidden)
        assert shown >= 5


@pytest.mark.parametrize('action_A', [np.zeros(10, np.float32), np.full(11, np.nan, np.float32)])
def test_a_bad_action_is_refused(action_A: np.ndarray) -> None:
    with TableTop() as table, pytest.raises(ValueError, match='11 finite entries'):
        table.step(action_A)


def test_a_missing_opengl_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('wm_ros.sim.drawing.LIBRARIES', {'egl': ('libNotThere.so',)})
    monkeypatch.delenv('MUJOCO_GL', raising=False)
    with pytest.raises(RuntimeError, match='libegl1'):
        choose_renderer('egl')
    assert choose_renderer('auto') == 'ray'
