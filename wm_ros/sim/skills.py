"""Skills of the table-top's arm: a few numbers become a command sequence.

What a planner searches and what practice shows: both come from here, so a planner asks the model
about motions of the kind that it has seen. Pure arithmetic on commands; where things are is not
known here. The spaces at the end are what `wm_ros.planning.spaces.ActionSpace` asks for.

Axes: K candidates, P parameters, T frames, A action.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wm_ros.datatypes import FloatArray
from wm_ros.sim import world as w

REST_M = (0.0, 0.115, 0.24)
OVER_Z_M = 0.16
TOUCH_Z_M = 0.025
STROKE_STEP_M = 0.02
STROKE_M = (0.01, 0.10)  # shortest and longest
# Where a stroke may begin: the block's area and a hand's breadth around it.
AREA_X_M = (-0.10, 0.10)
AREA_Y_M = (-0.25, -0.09)
GRIPPER = w.ACTION_NAMES.index('gripper')
LID_0 = w.ACTION_NAMES.index('lid_0')

Point = tuple[float, float, float]


def rest_command() -> FloatArray:
    """Return the command of rest, float32 [A]: arm back and up, everything closed."""
    command_A = np.zeros(len(w.ACTION_NAMES), np.float32)
    command_A[:3] = REST_M
    return command_A


def reach(command_A: FloatArray, x_m: float, y_m: float, z_m: float) -> FloatArray:
    """Move the hand straight to a point; float32 [T, A]."""
    return _along(command_A, [((x_m, y_m, z_m), w.ARM_STEP_M)])


def stroke(
    command_A: FloatArray, x_m: float, y_m: float, angle_rad: float, length_m: float
) -> FloatArray:
    """Come down at a point, push a little way over the table, go up and back to rest.

    Args:
        command_A: the command in force, float32 [A]; entries beyond the arm are kept.
        x_m, y_m: where the finger comes down.
        angle_rad: direction of the push, 0 to the right, pi/2 away from the camera.
        length_m: how far.

    Returns:
        float32 [T, A].
    """
    end = (x_m + math.cos(angle_rad) * length_m, y_m + math.sin(angle_rad) * length_m)
    fast = w.ARM_STEP_M
    return _along(
        command_A,
        [
            ((x_m, y_m, OVER_Z_M), fast),
            ((x_m, y_m, TOUCH_Z_M), fast),
            ((*end, TOUCH_Z_M), STROKE_STEP_M),
            ((*end, OVER_Z_M), fast),
            (REST_M, fast),
        ],
    )


def open_cup(command_A: FloatArray, cup: int, frames: int = 4) -> FloatArray:
    """Open one cup and leave it open; float32 [T, A] with T = frames (it takes four)."""
    rows_TA = np.repeat(command_A[None], frames, 0).astype(np.float32)
    rows_TA[:, LID_0 + cup] = np.minimum(np.arange(1, frames + 1) * w.OPENING_STEP, 1.0)
    return rows_TA


def lasting(rows_TA: FloatArray, frames: int) -> FloatArray:
    """Return exactly `frames` rows: the last one is held, or what is beyond is cut off."""
    if len(rows_TA) >= frames:
        return rows_TA[:frames]
    return np.concatenate([rows_TA, np.repeat(rows_TA[-1:], frames - len(rows_TA), 0)])


def _along(command_A: FloatArray, legs: list[tuple[Point, float]]) -> FloatArray:
    """Lead the hand along straight legs, gripper closed, inside its limits; steps at most as long
    as said.
    """
    here = np.asarray(command_A[:3], np.float64)
    points: list[np.ndarray] = []
    for goal, step_m in legs:
        there = np.asarray(goal, np.float64)
        steps = max(1, math.ceil(float(np.linalg.norm(there - here)) / step_m - 1e-6))
        points += [here + (there - here) * k / steps for k in range(1, steps + 1)]
        here = there
    rows_TA = np.repeat(np.asarray(command_A, np.float32)[None], len(points), 0)
    low_3, high_3 = np.asarray(w.ACTION_LIMITS[:3]).T
    rows_TA[:, :3] = np.clip(points, low_3, high_3)
    rows_TA[:, GRIPPER] = 0.0
    return rows_TA


@dataclass(frozen=True)
class SkillSpace:
    """A skill as a box of parameters.

    Attributes:
        name: of the skill.
        dims: number of parameters, each in [-1, 1].
        frames: length of every candidate; the last command is held, what is longer is cut off.
        skill: makes one command sequence of the command in force, float32 [A], and parameters [P].
        settings: parameter vectors to enumerate, float32 [K, P], where there are only so many;
            None where a solver searches.
    """

    name: str
    dims: int
    frames: int
    skill: Callable[[FloatArray, FloatArray], FloatArray]
    settings: FloatArray | None = None

    def decode(self, params_KP: FloatArray, command_A: FloatArray) -> FloatArray:
        """Return the commands of every candidate in physical units, float32 [K, T, A]."""
        rows = [lasting(self.skill(command_A, params_P), self.frames) for params_P in params_KP]
        return np.stack(rows)


def _spread(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return low + (float(value) + 1.0) / 2.0 * (high - low)


def _reach(command_A: FloatArray, params_P: FloatArray) -> FloatArray:
    x, y, z = (_spread(value, pair) for value, pair in zip(params_P, REACH_M, strict=True))
    return reach(command_A, x, y, z)


def _stroke(command_A: FloatArray, params_P: FloatArray) -> FloatArray:
    x, y, right, away, length = params_P
    angle = math.atan2(float(away), float(right))  # a direction, not an angle: no seam to cross
    return stroke(
        command_A, _spread(x, AREA_X_M), _spread(y, AREA_Y_M), angle, _spread(length, STROKE_M)
    )


def _open(command_A: FloatArray, params_P: FloatArray) -> FloatArray:
    return open_cup(command_A, round(float(params_P[0])) + 1)


REACH_M = (w.ACTION_LIMITS[0], w.ACTION_LIMITS[1], (0.06, 0.32))
REACH = SkillSpace('reach', 3, 14, _reach)
STROKE = SkillSpace('stroke', 5, 27, _stroke)
OPEN = SkillSpace('open', 1, 6, _open, np.array([[-1.0], [0.0], [1.0]], np.float32))
SPACES = {space.name: space for space in (REACH, STROKE, OPEN)}
