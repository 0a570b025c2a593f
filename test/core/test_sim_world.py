"""The table-top's arithmetic: rates, limits, the push of the block, the arm's kinematics."""

from dataclasses import replace

import numpy as np
import pytest

from wm_ros.sim import world as w
from wm_ros.sim.scene import TableTop

LAYOUT = w.Layout(colours=(0, 1, 2, 3, 4, 5, 0))


def command(**entries: float) -> np.ndarray:
    """Return an action at home with some entries changed."""
    values = dict(zip('xyz', w.HOME_M, strict=True)) | entries
    return np.array([values.get(name, 0.0) for name in w.ACTION_NAMES], np.float32)


def test_every_command_is_followed_at_its_rate_and_then_reached() -> None:
    state = w.start_state(LAYOUT)
    goal = command(x=0.2, lid_0=1.0, lid_2=0.5, occluder=1.0, drawer=1.0, pan=-0.66, tilt=0.1)
    first = w.advance(state, goal)
    assert first.x_m == pytest.approx(w.ARM_STEP_M)
    assert first.lids == (0.25, 0.0, 0.25)
    assert (first.occluder, first.drawer) == (0.25, 0.25)
    assert first.pan_rad == pytest.approx(-w.PAN_STEP_RAD)
    for _ in range(8):
        state = w.advance(state, goal)
    assert state.x_m == pytest.approx(0.2)
    assert state.lids == (1.0, 0.0, 0.5)
    assert (state.pan_rad, state.tilt_rad) == (pytest.approx(-0.66), pytest.approx(0.1))


def test_commands_outside_their_limits_are_clipped() -> None:
    state = w.start_state(LAYOUT)
    for _ in range(40):
        state = w.advance(state, command(x=9.0, y=-9.0, z=-9.0, lid_1=3.0, pan=5.0))
    limits = dict(zip(w.ACTION_NAMES, w.ACTION_LIMITS, strict=True))
    assert state.x_m == limits['x'][1]
    assert (state.y_m, state.z_m) == (limits['y'][0], limits['z'][0])
    assert state.lids[1] == 1.0
    assert state.pan_rad == limits['pan'][1]


def test_a_state_survives_its_vector() -> None:
    state = w.advance(w.start_state(LAYOUT), command(x=0.1, lid_1=1.0, pan=0.3))
    assert w.WorldState.from_vector(state.vector()) == state
    with pytest.raises(ValueError, match='expected'):
        w.WorldState.from_vector(state.vector()[:-1])


def test_the_block_gives_way_to_a_low_finger_only() -> None:
    start = replace(w.start_state(LAYOUT), x_m=0.0, y_m=-0.10, z_m=0.025, block_y_m=-0.15)
    pushed = w.advance(start, command(x=0.0, y=-0.13, z=0.025))
    assert pushed.block_y_m == pytest.approx(-0.13 - w.BLOCK_HALF_M - w.TIP_RADIUS_M, abs=1e-3)
    assert pushed.block_x_m == 0.0
    above = w.advance(replace(start, z_m=0.1), command(x=0.0, y=-0.13, z=0.1))
    assert above.block_y_m == start.block_y_m


def test_a_push_off_the_centre_turns_the_block_and_mirrors() -> None:
    turns = []
    for x in (-0.015, 0.015):
        start = replace(w.start_state(LAYOUT), x_m=x, y_m=-0.10, z_m=0.025)
        turns.append(w.advance(start, command(x=x, y=-0.13, z=0.025)).block_yaw_rad)
    assert abs(turns[0]) > 0.02
    assert turns[0] == pytest.approx(-turns[1])


def test_the_block_never_leaves_its_field() -> None:
    rng = np.random.default_rng(0)
    state, moved = replace(w.start_state(LAYOUT), y_m=-0.1, z_m=0.025), 0.0
    for _ in range(400):
        x, y = rng.uniform(-0.06, 0.06), rng.uniform(-0.24, -0.08)
        after = w.advance(state, command(x=x, y=y, z=0.025))
        moved += abs(after.block_x_m - state.block_x_m) + abs(after.block_y_m - state.block_y_m)
        state = after
        assert w.BLOCK_X_M[0] <= state.block_x_m <= w.BLOCK_X_M[1]
        assert w.BLOCK_Y_M[0] <= state.block_y_m <= w.BLOCK_Y_M[1]
    assert moved > 0.5


def test_the_arm_reaches_every_commanded_point() -> None:
    rng = np.random.default_rng(1)
    lows, highs = np.array(w.ACTION_LIMITS[:3]).T
    with TableTop() as table:
        model, data = table._model, table._data
        hand = model.jnt_bodyid[model.joint('wrist').id]
        for point in rng.uniform(lows, highs, (300, 3)):
            vector = table.state()
            vector[:3] = point
            table.restore(vector)
            table._place()
            shoulder_to_wrist = point + [0.0, 0.0, w.HAND_M - w.SHOULDER_M] - np.array(w.BASE_M)
            out_of_reach_m = np.linalg.norm(shoulder_to_wrist) - w.UPPER_M - w.LOWER_M
            tip = data.xpos[hand] + data.xmat[hand].reshape(3, 3) @ [0.0, 0.0, -w.HAND_M]
            assert out_of_reach_m < 0.03
            np.testing.assert_allclose(tip, point, atol=max(out_of_reach_m + 1e-6, 1e-6))
            assert data.xmat[hand].reshape(3, 3)[2, 2] == pytest.approx(1.0)


def test_a_layout_with_wrong_colours_is_refused() -> None:
    with pytest.raises(ValueError, match='7 facts'):
        w.Layout(colours=(0, 1))
    with pytest.raises(ValueError, match='below 6'):
        w.Layout(colours=(0, 1, 2, 3, 4, 5, 6))
