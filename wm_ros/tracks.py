"""The commands of one source over time: which one was in force at an instant.

`CommandTrack` holds the newest command; `TwistTrack` integrates velocities to the pose that they
command. Plain stamps in, plain values out; the synchroniser decides what a stamp means.

Axes: E entries of one source.
"""

from __future__ import annotations

import bisect

import cv2
import numpy as np
import numpy.typing as npt

from wm_ros.messages import Command, CommandValues
from wm_ros.rejection import RejectReason
from wm_ros.sources import POSE_ENTRIES, TWIST_TYPES, ActionSource

Matrix = npt.NDArray[np.float64]
MOST_COMMANDS = 4096  # held while no frame comes that would let go of the older half


def make_track(source: ActionSource, period_ns: int) -> CommandTrack:
    """Return the track that fits a source's type."""
    if source.type in TWIST_TYPES:
        return TwistTrack(source, period_ns)
    return CommandTrack()


class CommandTrack:
    """Commands of one source in the order of their stamps; the newest of equal stamps wins."""

    def __init__(self) -> None:
        self.newest_ns: int | None = None  # newest stamp received; a plan counts with its start
        self._commands: list[Command] = []
        self._after_jump: list[Command] = []  # of a clock that may have jumped backwards
        self._newest_after_ns: int | None = None  # as newest_ns, of `_after_jump`
        self._backward_since_ns = 0  # receipt of the first of them

    def push(
        self, commands: tuple[Command, ...], jump_ns: int, receive_ns: int | None = None
    ) -> RejectReason | str | None:
        """Add one message's commands; a plan replaces what was planned from its start on.

        Commands further behind the newest than `jump_ns` are held back. Once nothing else has
        come for `jump_ns`, their clock is the source's new clock, and what was received by the old
        one is forgotten. A frame that jumps backwards takes them over at once (`jump`).

        Args:
            commands: in the order of their stamps.
            jump_ns: how far a stamp may run backwards, and how long until a clock is believed.
            receive_ns: time of receipt; None to go by the stamps.

        Returns:
            None, or what is odd: `duplicate` or `backward` when the first stamp repeats or
            precedes one already held, BACKWARD_STAMP when the commands were held back,
            `clock_jump` when a new clock begins with them.
        """
        first_ns = commands[0].stamp_ns
        if self.newest_ns is not None and first_ns < self.newest_ns - jump_ns:
            return self._push_backward(commands, jump_ns, receive_ns)
        self._forget_after_jump()
        note = None
        if self.newest_ns is not None and first_ns < self.newest_ns:
            note = 'backward'
        elif first_ns == self.newest_ns:
            note = 'duplicate'
        self._commands = _merged(self._commands, commands)
        if len(self._commands) > MOST_COMMANDS:
            self.forget(self._commands[MOST_COMMANDS // 2].stamp_ns)
        self.newest_ns = first_ns if self.newest_ns is None else max(self.newest_ns, first_ns)
        return note

    def _push_backward(
        self, commands: tuple[Command, ...], jump_ns: int, receive_ns: int | None
    ) -> RejectReason | str:
        first_ns = commands[0].stamp_ns
        now_ns = first_ns if receive_ns is None else receive_ns
        if self._newest_after_ns is None or now_ns < self._backward_since_ns:
            self._backward_since_ns = now_ns
        self._newest_after_ns = max(first_ns, self._newest_after_ns or 0)
        self._after_jump = _merged(self._after_jump, commands)
        del self._after_jump[:-MOST_COMMANDS]
        if now_ns - self._backward_since_ns < jump_ns:
            return RejectReason.BACKWARD_STAMP
        self._commands, self.newest_ns = self._after_jump, self._newest_after_ns
        self._forget_after_jump()
        return 'clock_jump'

    def _forget_after_jump(self) -> None:
        self._after_jump, self._newest_after_ns = [], None

    def _in_force(self, at_ns: int) -> Command | None:
        place = bisect.bisect_right(self._commands, at_ns, key=_stamp)
        return self._commands[place - 1] if place else None

    def at(self, at_ns: int) -> CommandValues | None:
        """Return what is commanded at an instant, float64 [E]; None before the first command."""
        command = self._in_force(at_ns)
        return None if command is None else command.values_E

    def forget(self, before_ns: int) -> None:
        """Drop the commands that were replaced at or before an instant."""
        place = bisect.bisect_right(self._commands, before_ns, key=_stamp)
        del self._commands[: max(place - 1, 0)]

    def jump(self, latest_ns: int) -> None:
        """Follow a clock that jumped backwards: forget all commands after `latest_ns`."""
        kept = [held for held in self._commands if held.stamp_ns <= latest_ns]
        newest = [kept[-1].stamp_ns] if kept else []
        newest += [self._newest_after_ns] if self._newest_after_ns is not None else []
        self._commands = sorted(kept + self._after_jump, key=_stamp)
        self.newest_ns = max(newest, default=None)
        self._forget_after_jump()

    def reset(self, at_ns: int) -> None:
        """Start afresh at an instant. Absolute commands stay in force."""


class TwistTrack(CommandTrack):
    """Velocities integrated to a pose, zero at the last reset.

    The pose in force at an instant is where the twist in force leads within one period, so that
    the step from `a_{t-1}` to `a_t` is the motion commanded from this frame to the next.
    """

    def __init__(self, source: ActionSource, period_ns: int) -> None:
        super().__init__()
        self._parts = [POSE_ENTRIES.index(entry.name) for entry in source.entries]
        self._in_body = source.integrate == 'body'
        self._period_ns = period_ns
        self._anchor_ns: int | None = None
        self._anchor: tuple[Matrix, Matrix] = (np.zeros(3), np.eye(3))

    def at(self, at_ns: int) -> CommandValues | None:
        """Return the commanded pose, float64 [E]: m, and rad as roll, pitch, yaw."""
        twist = self._in_force(at_ns)
        if twist is None:
            return None
        pose = self._moved(self._pose_at(at_ns), twist, self._period_ns)
        return np.concatenate([pose[0], _roll_pitch_yaw(pose[1])])[self._parts]

    def forget(self, before_ns: int) -> None:
        """Move the start of the integration to an instant."""
        self._anchor = self._pose_at(before_ns)
        self._anchor_ns = before_ns
        super().forget(before_ns)

    def jump(self, latest_ns: int) -> None:
        """Follow a clock that jumped backwards; the pose starts from zero."""
        super().jump(latest_ns)
        self._anchor_ns, self._anchor = None, (np.zeros(3), np.eye(3))

    def reset(self, at_ns: int) -> None:
        """Set the pose at an instant to zero."""
        self._anchor_ns, self._anchor = at_ns, (np.zeros(3), np.eye(3))

    def _pose_at(self, at_ns: int) -> tuple[Matrix, Matrix]:
        pose = self._anchor
        starts = [max(held.stamp_ns, self._anchor_ns or 0) for held in self._commands]
        for held, start_ns, end_ns in zip(
            self._commands, starts, [*starts[1:], at_ns], strict=True
        ):
            if min(end_ns, at_ns) > start_ns:
                pose = self._moved(pose, held, min(end_ns, at_ns) - start_ns)
        return pose

    def _moved(
        self, pose: tuple[Matrix, Matrix], twist: Command, time_ns: int
    ) -> tuple[Matrix, Matrix]:
        position_3, rotation_33 = pose
        linear_3, angular_3 = twist.values_E[:3], twist.values_E[3:]
        time_s = time_ns * 1e-9
        half_33 = _rotation(angular_3 * time_s / 2)
        whole_33 = half_33 @ half_33
        if self._in_body:
            return (position_3 + rotation_33 @ half_33 @ linear_3 * time_s, rotation_33 @ whole_33)
        return (position_3 + linear_3 * time_s, whole_33 @ rotation_33)


def _merged(held: list[Command], commands: tuple[Command, ...]) -> list[Command]:
    """Add one message's commands to others; both in the order of their stamps."""
    if commands[0].planned:
        held = [command for command in held if command.stamp_ns < commands[0].stamp_ns]
    for command in commands:
        place = bisect.bisect_left(held, command.stamp_ns, key=_stamp)
        if place < len(held) and held[place].stamp_ns == command.stamp_ns:
            held[place] = command
        else:
            held.insert(place, command)
    return held


def _stamp(command: Command) -> int:
    return command.stamp_ns


def _rotation(vector_3: Matrix) -> Matrix:
    return np.asarray(cv2.Rodrigues(vector_3.reshape(3, 1))[0], np.float64)


def _roll_pitch_yaw(rotation_33: Matrix) -> Matrix:
    """Return the angles about fixed x, y, z, rad."""
    roll = np.arctan2(rotation_33[2, 1], rotation_33[2, 2])
    pitch = -np.arcsin(np.clip(rotation_33[2, 0], -1, 1))
    yaw = np.arctan2(rotation_33[1, 0], rotation_33[0, 0])
    return np.array([roll, pitch, yaw])
