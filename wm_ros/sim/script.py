"""Script: writes the command sequence of an episode, frame by frame, without drawing anything.

A script has two hands: `reveal` opens and closes a container while the arm goes on with its
errands (wander behind the cups, push the block, carry a lid). The arm keeps to lanes in which it
cannot cover a fact that shows: behind the cups, or down the middle while the cups stay closed.
Axes: T frames, A action, F facts.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import FloatArray
from wm_ros.sim import world as w
from wm_ros.sim.errands import FRONT_Y_M, GRIP_Z_M, Arm
from wm_ros.sim.visibility import PAN_GRID_RAD, facts_large, facts_showing

ENTRIES = {'cup_0': 'lid_0', 'cup_1': 'lid_1', 'cup_2': 'lid_2', 'drawer': 'drawer',
           'occluder': 'occluder', 'view_left': 'pan', 'view_right': 'pan'}


class LateError(ValueError):
    """A script was asked to wait for a frame that it has already written."""


class Script:
    """Grows an action sequence; every `tick` is one frame."""

    def __init__(self, layout: w.Layout, rng: np.random.Generator, push_share: float = 0.35,
                 sideways: bool = False, reach_share: float = 0.0) -> None:
        """Start with everything closed.

        Args:
            rng: the only source of chance.
            push_share: how many of the arm's errands push the block.
            sideways: push left and right too; the hand may then cover a fact: open nothing.
            reach_share: how many of the errands that do not push go anywhere in the workspace
                while everything is closed.
        """
        self.rng = rng
        self._state = w.start_state(layout)
        self._rows: list[FloatArray] = []
        self._showing: list[tuple[bool, ...]] = []
        self._large: list[tuple[bool, ...]] = []
        self._command = dict.fromkeys(w.ACTION_NAMES, 0.0)
        self._command.update(x=w.HOME_M[0], y=w.HOME_M[1], z=w.HOME_M[2], gripper=1.0)
        self._arm = Arm(self._command, rng)
        self._errand: Iterator[None] = iter(())
        self._push_share, self._sideways, self._reach_share = push_share, sideways, reach_share
        self._may_push = True

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
        row_A = self.command_A
        self._rows.append(row_A)
        self._showing.append(facts_showing(self._state))
        self._large.append(facts_large(self._state))
        self._state = w.advance(self._state, row_A)

    def follow(self, actions_TA: FloatArray) -> None:
        """Write commands as they are, float32 [T, A]; the arm's errands pause meanwhile."""
        errand, self._errand = self._errand, repeat(None)
        for row_A in actions_TA:
            self._command.update(zip(w.ACTION_NAMES, map(float, row_A), strict=True))
            self.tick()
        self._errand = errand

    @property
    def command_A(self) -> FloatArray:
        """The newest command, float32 [A]."""
        return np.array([self._command[name] for name in w.ACTION_NAMES], np.float32)

    @property
    def block_m(self) -> tuple[float, float]:
        """Where the block is."""
        return self._state.block_x_m, self._state.block_y_m

    def wait(self, frames: int) -> None:
        """Let the arm work for some frames."""
        for _ in range(frames):
            self.tick()

    def wait_until(self, frame: int) -> None:
        """Let the arm work until `frame` is the next to be written; LateError when it is past."""
        if self.frame > frame:
            raise LateError(f'frame {frame} is past: the script is at {self.frame}')
        self.wait(frame - self.frame)

    def prepare(self, fact: str, led: bool) -> None:
        """Bring the arm where the reveal of `fact` needs it: on its lid, or out of its way."""
        if led:
            x = w.CUP_X_M[int(fact[-1])]
            frames, self._errand = self._arm.frames_to_lid(x), self._arm.hold_lid(x)
            self.wait(frames)
        elif fact.startswith('cup') or self._reach_share:
            self._may_push = False
            if self._command['y'] < FRONT_Y_M:
                self._errand = self._arm.retreat()
                while self._command['y'] < FRONT_Y_M:
                    self.tick()
            self._errand = self._arm.wander()

    def prepare_for(self, fact: str, led: bool, frame: int) -> None:
        """Prepare a reveal whose first command is that of `frame`; LateError when too near."""
        while led and self.frame + self._arm.frames_to_lid(w.CUP_X_M[int(fact[-1])]) < frame:
            self.tick()
        self.prepare(fact, led)
        self.wait_until(frame)

    def draw_levels(self, fact: str, peak: float = 1.0) -> list[float]:
        """Draw the commands of one opening and closing, one a frame; the last one is closed.

        Args:
            peak: how far a container opens, a multiple of 1/8 (views: always fully).
        """
        rng = self.rng
        hold = int(rng.integers(0, 4))
        if ENTRIES[fact] == 'pan':
            steps = int(rng.integers(5, 7))
            grid = -PAN_GRID_RAD if fact == 'view_left' else PAN_GRID_RAD
            ladder = [*range(1, steps + 1), *[steps] * hold, *range(steps - 1, -1, -1)]
            return [grid * step for step in ladder]
        up, down = (float(step) for step in rng.choice((0.25, 0.125), 2, p=(0.75, 0.25)))
        rising = [min(up * k, peak) for k in range(1, 9) if up * (k - 1) < peak]
        falling = [max(peak - down * k, 0.0) for k in range(1, 9) if down * (k - 1) < peak]
        return rising + [peak] * hold + falling

    def reveal(self, fact: str, levels: list[float], led: bool) -> None:
        """Command one container through `levels`, one a frame; `prepare` comes first.

        Args:
            led: the gripper stays on the lid (cups only).
        """
        for level in levels:
            self._command[ENTRIES[fact]] = level
            if led:
                self._command['z'] = GRIP_Z_M + level * w.CUP_LIFT_M
            self.tick()
        if led:
            self._errand = self._arm.leave_lid()
        self._may_push = True

    def reveal_two(self) -> None:
        """Open two containers (no views) at overlapping times, the arm elsewhere."""
        first, second = (w.FACTS[i] for i in self.rng.choice(5, 2, replace=False))
        for fact in (first, second):
            self.prepare(fact, False)
        late = [0.0] * int(self.rng.integers(0, 8)) + self.draw_levels(second)
        early = self.draw_levels(first)
        for index in range(max(len(early), len(late))):
            self._command[ENTRIES[first]] = early[index] if index < len(early) else 0.0
            self._command[ENTRIES[second]] = late[index] if index < len(late) else 0.0
            self.tick()
        self._may_push = True

    def glance(self) -> None:
        """Turn the camera a little and back; nothing new comes into view."""
        pan = float(self.rng.integers(-1, 2)) * PAN_GRID_RAD
        tilt = float(self.rng.choice((-0.1, -0.05, 0.05, 0.1)))
        hold = int(self.rng.integers(1, 5))
        for part in (0.5, *[1.0] * hold, 0.5, 0.0):
            self._command.update(pan=part * pan, tilt=part * tilt)
            self.tick()

    def _new_errand(self) -> Iterator[None]:
        if self._may_push and self.rng.random() < self._push_share:
            pose = (self._state.block_x_m, self._state.block_y_m)
            if self._sideways and self.rng.random() < 0.5:
                return self._arm.push_sideways(*pose)
            return self._arm.push(*pose)
        # No reach, no draw: kinds without it keep the episodes that their seeds always gave.
        if self._reach_share and self._may_push and self.rng.random() < self._reach_share:
            return self._arm.reach()
        return self._arm.wander()
