"""Which facts show a pixel, told from the state alone.

Holds for every state a script can reach: openings in steps of 1/8, the camera turned in steps of
PAN_GRID_RAD while all else is closed, the arm kept out of the way (`script.py`). The thresholds
lie between two grid steps, far from the pixel where the answer flips; `test_sim_visibility`
compares them with segmentation renders. Facts come in the order of FACTS.
"""

from __future__ import annotations

from wm_ros.sim.world import WorldState

PAN_GRID_RAD = 0.11
LARGE_FRACTION = 0.05
SHOWS_OPENING = 0.06
LARGE_OPENING = 0.69
SHOWS_PAN_RAD = 0.165
LARGE_PAN_RAD = 0.275


def openings(state: WorldState) -> tuple[float, ...]:
    """Return how far each fact is uncovered: 0..1 for containers, radians of pan for views."""
    return (*state.lids, state.drawer, state.occluder, -state.pan_rad, state.pan_rad)


def facts_showing(state: WorldState) -> tuple[bool, ...]:
    """Return per fact whether it has at least one pixel in the frame."""
    values = openings(state)
    return (*(v > SHOWS_OPENING for v in values[:5]), *(v > SHOWS_PAN_RAD for v in values[5:]))


def facts_large(state: WorldState) -> tuple[bool, ...]:
    """Return per fact whether it covers at least LARGE_FRACTION of the frame."""
    values = openings(state)
    return (*(v > LARGE_OPENING for v in values[:5]), *(v > LARGE_PAN_RAD for v in values[5:]))
