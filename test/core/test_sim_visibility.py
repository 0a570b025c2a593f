"""What a plan says shows is what the segmentation render finds, to the pixel and to the frame."""

import numpy as np
import pytest

from wm_ros.sim.config import SimConfig
from wm_ros.sim.episodes import plan_episode, play
from wm_ros.sim.scene import FACTS, Layout, TableTop
from wm_ros.sim.visibility import (
    LARGE_FRACTION,
    PAN_GRID_RAD,
    facts_large,
    facts_showing,
)
from wm_ros.sim.world import WorldState

LAYOUT = Layout(colours=(0, 1, 2, 3, 4, 5, 0))


def grid_states(table: TableTop) -> list[WorldState]:
    """Return every opening in steps of 1/8 and every pan on the grid, with tilts and glances."""
    start = table.world_state.vector()
    states = []
    for level in range(9):
        vector = start.copy()
        vector[4:9] = level / 8
        states.append(WorldState.from_vector(vector))
    for step in range(-6, 7):
        vector = start.copy()
        vector[9] = step * PAN_GRID_RAD
        states.append(WorldState.from_vector(vector))
    for pan in (-PAN_GRID_RAD, 0.0, PAN_GRID_RAD):
        for tilt in (-0.1, 0.1):
            vector = start.copy()
            vector[9:11] = pan, tilt
            states.append(WorldState.from_vector(vector))
    return states


@pytest.mark.parametrize('image_size', [64, 96, 256])
def test_the_rule_holds_on_the_grid(image_size: int) -> None:
    with TableTop(SimConfig(image_size=image_size)) as table:
        table.reset(LAYOUT)
        for state in grid_states(table):
            table.restore(state.vector())
            pixels_F = table.truth().visible_px
            assert pixels_F is not None
            assert tuple((pixels_F > 0).tolist()) == facts_showing(state)
            large_F = pixels_F >= LARGE_FRACTION * image_size**2
            assert tuple(large_F.tolist()) == facts_large(state)


@pytest.mark.parametrize('kind, seed', [('practice', 11), ('free', 12), ('view', 100)])
def test_a_plan_knows_what_shows_in_every_frame(kind: str, seed: int) -> None:
    plan = plan_episode(kind, seed, None if kind == 'view' else 500)
    edges_T = np.flatnonzero(np.diff(plan.visible_TF, axis=0).any(axis=1)) + 1
    near = {int(edge) + step for edge in edges_T for step in range(-1, 7)}
    asked = (near | set(range(0, plan.frames, 25))) & set(range(plan.frames))
    pixels = {}
    with TableTop() as table:
        for frame in play(plan, table, asked, truth=True):
            assert frame.truth is not None
            assert frame.truth.visible_px is not None
            pixels[frame.index] = frame.truth.visible_px
            shown_F = frame.truth.visible_px > 0
            np.testing.assert_array_equal(shown_F, plan.visible_TF[frame.index])
    assert len(plan.reveals) >= 10
    for reveal in plan.reveals:
        column, first = FACTS.index(reveal.fact), reveal.frame_first_visible
        large = [frame for frame in range(first, first + 8)
                 if frame in pixels and pixels[frame][column] >= 205]
        if reveal.frame_first_5pct is not None:
            assert large[0] == reveal.frame_first_5pct
            assert reveal.frame_first_5pct - first < 8


def test_a_fully_opened_fact_covers_six_percent() -> None:
    with TableTop() as table:
        for entry, columns in ((slice(4, 9), range(5)), ((9, -0.55), [5]), ((9, 0.55), [6])):
            table.reset(LAYOUT)
            vector = table.state()
            if isinstance(entry, slice):
                vector[entry] = 1.0
            else:
                vector[entry[0]] = entry[1]
            table.restore(vector)
            pixels_F = table.truth().visible_px
            assert pixels_F is not None
            assert all(pixels_F[column] >= 0.06 * 64 * 64 for column in columns)
