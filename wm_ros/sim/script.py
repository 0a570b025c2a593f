"""Script: writes the command sequence of an episode, frame by frame, without drawing anything.

A script has one cursor (the next frame) and two hands: `reveal` opens and closes one container, while the
arm goes on with its own errands (wander behind the cups, push the block, carry a lid). The arm keeps to
lanes in which it cannot cover a fact that shows: behind the cups, or down the middle in front of the middle
cup, which is then not opened. Axes: T frames, A action, F facts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import FloatArray
from wm_ros.sim import world as w
from wm_ros.sim.visibility import PAN_GRID_RAD, facts_large, facts_showing

Point = tuple[float, float, float]
FACT_ENTRY = {'cup_0': 'lid_0', 'cup_1': 'lid_1', 'cup_2': 'lid_2', 'drawer': 'drawer', 'occluder': 'occluder',
              'view_left': 'pan', 'view_right': 'pan'}
GRIP_Z_M = w.CUP_HEIGHT_M + 0.012
BACK_Y_M = (0.105, 0.16)
CARRY_Z_M = 0.20
FRONT_Y_M = 0.09


class Script:
    """Grows an action sequence; every `tick` is one frame."""

    def __init__(self, layout: w.Layout, rng: np.random.Generator, push_share: float = 0.35) -> None:
        self.rng = rng
        self.state = w.start_state(layout)
        self.push_share = push_share
        self._rows: list[list[float]] = []
        self._showing: list[tuple[bool, ...]] = []
        self._large: list[tuple[bool, ...]] = []
        self._command = dict.fromkeys(w.ACTION_NAMES, 0.0)
        self._command.update(x=w.HOME_M[0], y=w.HOME_M[1], z=w.HOME_M[2], gripper=1.0)
        self._errand: Iterator[None] = iter(())
        self._push_allowed = True

    @property
    def frame(self) -> int:
        """Index of the frame that the next tick writes."""
        return len(self._rows)

    def actions(self) -> FloatArray:
        """Return float32 [T, A] in physical units."""
        return np.array(self._rows, np.float32).reshape(-1, len(w.ACTION_NAMES))

    def showing(self) -> npt.NDArray[np.bool_]:
        """Return bool [T, F]: the fact has a pixel in the frame."""
        return np.array(self._showing, bool).reshape(-1, len(w.FACTS))

    def large(self) -> npt.NDArray[np.bool_]:
        """Return bool [T, F]: the fact covers at least 5 % of the frame."""
        return np.array(self._large, bool).reshape(-1, len(w.FACTS))

    def tick(self) -> None:
        """Write one frame: the errand moves the arm's command, then the commands act."""
        if next(self._errand, self) is self:
            self._errand = self._new_errand()
            next(self._errand)
        self._write()

    def wait(self, frames: int) -> None:
        """Let the arm work for some frames."""
        for _ in range(frames):
            self.tick()

    def prepare(self, fact: str, led: bool) -> None:
        """Bring the arm where the reveal of `fact` needs it: over its lid, or out of the way."""
        if led:
            x = w.CUP_X_M[int(fact[-1])]
            self._errand = self._finish_then(self._reach_lid(x))
            self._exhaust()
        elif fact == 'cup_1':
            self._push_allowed = False
            while self._command['y'] < FRONT_Y_M:
                self.tick()

    def reveal(self, fact: str, led: bool, up: int, hold: int, down: int) -> None:
        """Open and close one container; `prepare` comes first.

        Args:
            fact: entry of FACTS.
            led: the gripper stays on the lid (cups only).
            up, down: frames of opening and closing: 4 or 8 for containers; grid steps, 5 or 6, for views.
            hold: frames more that it stays fully open.
        """
        entry = FACT_ENTRY[fact]
        if led:
            self._errand = self._stay()
        if entry == 'pan':
            sign = -1.0 if fact == 'view_left' else 1.0
            peak, down = sign * up * PAN_GRID_RAD, up
        else:
            peak = 1.0
        levels = [peak * k / up for k in range(1, up + 1)] + [peak] * hold
        levels += [peak * k / down for k in range(down - 1, -1, -1)]
        for level in levels:
            self._command[entry] = level
            if led:
                self._command['z'] = GRIP_Z_M + level * w.CUP_LIFT_M
            self.tick()
        if led:
            self._errand = self._leave_lid()
        self._push_allowed = True

    def _exhaust(self) -> None:
        for _ in self._errand:
            self._write()
        self._errand = self._stay()

    def _write(self) -> None:
        row = [self._command[name] for name in w.ACTION_NAMES]
        self._rows.append(row)
        self._showing.append(facts_showing(self.state))
        self._large.append(facts_large(self.state))
        self.state = w.advance(self.state, np.array(row, np.float32))

    # Errands: iterators that move the arm's command a little and yield once per frame.

    def _go(self, goal: Point, speed_m: float) -> Iterator[None]:
        start = (self._command['x'], self._command['y'], self._command['z'])
        steps = max(1, math.ceil(math.dist(start, goal) / speed_m - 1e-9))
        for k in range(1, steps + 1):
            for name, a, b in zip('xyz', start, goal, strict=True):
                self._command[name] = a + (b - a) * k / steps
            yield

    def _stay(self) -> Iterator[None]:
        while True:
            yield

    def _finish_then(self, errand: Iterator[None]) -> Iterator[None]:
        if self._command['y'] < FRONT_Y_M:
            yield from self._retreat()
        yield from errand

    def _retreat(self) -> Iterator[None]:
        x, z = self._command['x'], max(self._command['z'], CARRY_Z_M)
        yield from self._go((x, self._command['y'], z), w.ARM_STEP_M)
        yield from self._go((x, 0.12, max(z, CARRY_Z_M)), w.ARM_STEP_M)

    def _reach_lid(self, x: float) -> Iterator[None]:
        self._command['gripper'] = 1.0
        yield from self._go((x, 0.115, CARRY_Z_M), w.ARM_STEP_M)
        yield from self._go((x, 0.0, GRIP_Z_M + 0.02), w.ARM_STEP_M)
        yield from self._go((x, 0.0, GRIP_Z_M), w.ARM_STEP_M)
        self._command['gripper'] = 0.0
        yield

    def _leave_lid(self) -> Iterator[None]:
        self._command['gripper'] = 1.0
        yield
        yield from self._retreat()

    def _new_errand(self) -> Iterator[None]:
        if self._push_allowed and self.rng.random() < self.push_share:
            return self._push_block()
        return self._wander()

    def _wander(self) -> Iterator[None]:
        rng = self.rng
        goal = (rng.uniform(-0.21, 0.21), rng.uniform(*BACK_Y_M), rng.uniform(0.03, 0.22))
        self._command['gripper'] = float(rng.integers(0, 5)) / 4
        yield from self._go(goal, rng.uniform(0.02, w.ARM_STEP_M))
        for _ in range(int(rng.integers(0, 3))):
            yield

    def _push_block(self) -> Iterator[None]:
        rng, speed = self.rng, self.rng.uniform(0.03, w.ARM_STEP_M)
        away = self.state.block_y_m > sum(w.BLOCK_Y_M) / 2
        lateral = min(max(self.state.block_x_m + rng.uniform(-0.015, 0.015), -0.03), 0.03)
        reach = w.BLOCK_HALF_M + w.TIP_RADIUS_M + 0.012
        sign = -1.0 if away else 1.0
        start_y = self.state.block_y_m - sign * reach
        end_y = min(max(start_y + sign * rng.uniform(0.05, 0.10), -0.20), -0.10)
        self._command['gripper'] = 0.0
        yield from self._go((lateral, 0.115, 0.24), speed)
        yield from self._go((lateral, start_y, 0.16), speed)
        yield from self._go((lateral, start_y, 0.025), speed)
        yield from self._go((lateral, end_y, 0.025), 0.02)
        yield from self._go((lateral, end_y, 0.16), speed)
        yield from self._retreat()
