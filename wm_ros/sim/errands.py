"""Errands of the arm: iterators that move the commanded gripper pose and yield once per frame.

The lanes are what keeps an open container in sight: see `script.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from wm_ros.sim import world as w

Point = tuple[float, float, float]
GRIP_Z_M = w.CUP_HEIGHT_M + 0.012
BACK_Y_M = (0.105, 0.16)
BACK_LANE_Y_M = 0.115
FRONT_Y_M = 0.09
CARRY_Z_M = 0.20
REACH_Z_M = 0.32
PUSH_Z_M = 0.025
REACH_M = w.BLOCK_HALF_M + w.TIP_RADIUS_M + 0.012


class Arm:
    """Moves the entries x, y, z, gripper of a command that it shares with its script."""

    def __init__(self, command: dict[str, float], rng: np.random.Generator) -> None:
        self._command, self._rng = command, rng

    def wander(self) -> Iterator[None]:
        """Go to some place behind the cups and stay for a moment."""
        rng = self._rng
        goal = (rng.uniform(-0.21, 0.21), rng.uniform(*BACK_Y_M), rng.uniform(0.03, 0.22))
        self._command['gripper'] = float(rng.integers(0, 5)) / 4
        yield from self._go(goal, rng.uniform(0.02, w.ARM_STEP_M))
        for _ in range(int(rng.integers(0, 3))):
            yield

    def reach(self) -> Iterator[None]:
        """Go straight to some place anywhere in the workspace and stay for a moment."""
        rng = self._rng
        (x_low, x_high), (y_low, y_high), (z_low, _) = w.ACTION_LIMITS[:3]
        goal = (rng.uniform(x_low, x_high), rng.uniform(y_low, y_high),
                rng.uniform(z_low, REACH_Z_M))
        self._command['gripper'] = float(rng.integers(0, 5)) / 4
        yield from self._go(goal, rng.uniform(0.01, w.ARM_STEP_M))
        for _ in range(int(rng.integers(0, 3))):
            yield

    def push(self, block_x_m: float, block_y_m: float) -> Iterator[None]:
        """Push the block toward the camera or away from it, coming down the middle."""
        rng, speed = self._rng, self._rng.uniform(0.03, w.ARM_STEP_M)
        sign = -1.0 if block_y_m > sum(w.BLOCK_Y_M) / 2 else 1.0
        x = _clip(block_x_m + rng.uniform(-0.015, 0.015), *w.BLOCK_X_M)
        start_y = block_y_m - sign * REACH_M
        end_y = _clip(start_y + sign * rng.uniform(0.05, 0.10), -0.20, -0.10)
        yield from self._stroke((x, start_y), (x, end_y), speed)

    def push_sideways(self, block_x_m: float, block_y_m: float) -> Iterator[None]:
        """Push the block to the side on which there is more room."""
        rng, speed = self._rng, self._rng.uniform(0.03, w.ARM_STEP_M)
        sign = -1.0 if block_x_m > 0 else 1.0
        y = block_y_m + rng.uniform(-0.012, 0.012)
        start_x = block_x_m - sign * REACH_M
        end_x = start_x + sign * rng.uniform(0.03, 0.06)
        yield from self._stroke((start_x, y), (end_x, y), speed)

    def hold_lid(self, x_m: float) -> Iterator[None]:
        """Go and grip the lid at `x_m`, then stay; the way takes `frames_to_lid`."""
        yield from self._way_to_lid(x_m)
        while True:
            yield

    def frames_to_lid(self, x_m: float) -> int:
        """Return the frames from the commanded pose of now to a gripped lid at `x_m`."""
        return sum(1 for _ in Arm(dict(self._command), self._rng)._way_to_lid(x_m))

    def retreat(self) -> Iterator[None]:
        """Go up and back, behind the cups."""
        x, y, z = self._command['x'], self._command['y'], max(self._command['z'], CARRY_Z_M)
        yield from self._go((x, y, z), w.ARM_STEP_M)
        yield from self._go((x, BACK_LANE_Y_M, z), w.ARM_STEP_M)

    def _way_to_lid(self, x_m: float) -> Iterator[None]:
        if self._command['y'] < FRONT_Y_M:
            yield from self.retreat()
        self._command['gripper'] = 1.0
        yield from self._go((x_m, BACK_LANE_Y_M, CARRY_Z_M), w.ARM_STEP_M)
        yield from self._go((x_m, 0.0, GRIP_Z_M + 0.02), w.ARM_STEP_M)
        self._command['gripper'] = 0.0
        yield from self._go((x_m, 0.0, GRIP_Z_M), w.ARM_STEP_M)

    def leave_lid(self) -> Iterator[None]:
        """Let the lid go and return behind the cups."""
        self._command['gripper'] = 1.0
        yield from self.retreat()

    def _stroke(self, start: tuple[float, float], end: tuple[float, float],
                speed_m: float) -> Iterator[None]:
        self._command['gripper'] = 0.0
        yield from self._go((start[0], BACK_LANE_Y_M, 0.24), speed_m)
        yield from self._go((*start, 0.16), speed_m)
        yield from self._go((*start, PUSH_Z_M), speed_m)
        yield from self._go((*end, PUSH_Z_M), 0.02)
        yield from self._go((*end, 0.16), speed_m)
        yield from self.retreat()

    def _go(self, goal: Point, speed_m: float) -> Iterator[None]:
        start = (self._command['x'], self._command['y'], self._command['z'])
        steps = max(1, math.ceil(math.dist(start, goal) / speed_m - 1e-9))
        for k in range(1, steps + 1):
            for name, a, b in zip('xyz', start, goal, strict=True):
                self._command[name] = a + (b - a) * k / steps
            yield


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
