"""StepSynchronizer: frames and commands in any order of arrival, steps of the world model out.

`a_t` of a frame is the newest command of every source stamped at or before the frame's stamp +
lead; `a_{t-1}` is the same rule at the step before, so a command that came too late for its own
frame still reaches the next. Frames are the first camera's; the views of others join them
(views.py). Live, replay and training use this object; only the time they let a
frame wait differs. Values and stamps only: no ROS, no clock, no threads (a caller with several
threads holds a lock).
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from wm_ros.arrivals import FrameArrivals
from wm_ros.checks import (
    refused_command_stamp,
    refused_frame_stamp,
    refused_order,
    refused_values,
)
from wm_ros.contract import StreamContract
from wm_ros.datatypes import FloatArray, Frame, ResetReason, Step
from wm_ros.messages import Command
from wm_ros.rejection import RejectedInput, Rejection, RejectReason
from wm_ros.tracks import make_track
from wm_ros.views import SHORTEST_PERIODS, Views

END_OF_STREAM_NS = 2**63 - 1
MOST_BRIDGED = 2  # steps filled in for frames that a busy consumer dropped


@dataclass(frozen=True)
class _Waiting:
    frame: Frame
    receive_ns: int
    jumped: bool


class StepSynchronizer:
    """Joins frames with the commands in force. See the module text.

    Args:
        contract: the robot's streams.
        wait_ns: how long a frame waits for a newer command or view; None takes the contract's
            `action_wait_ms`.

    Attributes:
        counts: what happened, by `kind.event`: every refused input under its `RejectReason`
            (`frame.backward_stamp`, `action.not_finite`, `frame.no_action`, ...), and
            `frame.missing` (steps filled in), `frame.dropped` (told by `push_dropped`),
            `frame.unbridged` (left out without a step), `frame.rate_off` (seconds in which the
            camera's rate was more than 10 % off the contract's), `action.late` (stamped before a
            step already given out), `action.early` (stamped ahead of its receipt),
            `action.duplicate`, `action.backward` (both still used by their stamps),
            `action.clock_jump` (a source's clock that stepped back is believed from here),
            `action.clipped` (entries beyond the limits), `reset.<reason>`; and of every further
            camera by its topic `view.held <topic>` (steps that show its last view again),
            `view.lost <topic>` (steps without a frame because that is too old), `view.late
            <topic>` (came after its step), `view.clock_jump <topic>`.
    """

    def __init__(self, contract: StreamContract, wait_ns: int | None = None) -> None:
        self.contract = contract
        self.counts: Counter[str] = Counter()
        self._wait_ns = round(contract.action_wait_ms * 1e6) if wait_ns is None else wait_ns
        self._lead_ns = round(contract.action_lead_ms * 1e6)
        self._gap_ns = round(contract.reset.gap_s * 1e9)
        self._period_ns = contract.period_ns
        self._tracks = [make_track(source, self._period_ns) for source in contract.actions]
        self._views = Views(contract)
        self._waiting: deque[_Waiting] = deque()
        self._done: list[Step | Rejection] = []
        self._arrivals = FrameArrivals(contract.rate_hz)
        self._overloaded = False  # frames were dropped before the last step
        self._newest_frame_ns: int | None = None
        self._last_step_ns: int | None = None
        self._index = 0
        self._reset: ResetReason | None = ResetReason.START

    def push_action(
        self,
        source_index: int,
        values: npt.ArrayLike,
        stamp_ns: int,
        receive_ns: int | None = None,
    ) -> None:
        """Take one command of one source, in its own units; see `push_commands`."""
        command = Command(np.asarray(values, np.float64), stamp_ns)
        self.push_commands(source_index, (command,), receive_ns)

    def push_commands(
        self, source_index: int, commands: tuple[Command, ...], receive_ns: int | None = None
    ) -> None:
        """Take the commands of one message (several for a trajectory).

        Refused, and reported by the next `poll`: zero or future stamps, values that are not
        finite, twists above `checks.FASTEST`, and stamps further behind than `gap_s`; where all of
        `gap_s` brings only such stamps the source's clock has jumped, and they are used.

        Args:
            source_index: index into the contract's action sources.
            commands: in the order of their stamps.
            receive_ns: time of receipt, for judging stamps ahead of it; None to trust the stamps.

        Raises:
            ValueError: wrong number of values (a caller's mistake; messages are checked on
                reading).
        """
        source, track = self.contract.actions[source_index], self._tracks[source_index]
        first_ns = commands[0].stamp_ns
        refused = [refused_values(source, command) for command in commands]
        refused.append(refused_command_stamp(source, first_ns, receive_ns, self._gap_ns))
        for rejection in refused:
            if rejection is not None:
                return self._refuse(rejection)
        if receive_ns is not None and first_ns > receive_ns and not commands[0].planned:
            self.counts['action.early'] += 1
        newest_ns = track.newest_ns
        note = track.push(commands, self._gap_ns, receive_ns)
        if isinstance(note, RejectReason) and newest_ns is not None:
            detail = f'{source.topic}: {(newest_ns - first_ns) / 1e9:.3f} s backwards'
            return self._refuse(Rejection('action', note, first_ns, detail))
        if self._last_step_ns is not None and first_ns <= self._last_step_ns + self._lead_ns:
            self.counts['action.late'] += 1
        if note:
            self.counts[f'action.{note}'] += 1
        return None

    def push_frame(self, frame: Frame, receive_ns: int) -> None:
        """Take one frame; the next `poll` gives its step, or says why there is none.

        Args:
            frame: the frame of the (first) camera.
            receive_ns: time of receipt, on the clock of `poll`; its wait for a command begins
                here.
        """
        stamp_ns, newest_ns = frame.stamp_ns, self._newest_frame_ns
        if (refused := refused_frame_stamp(stamp_ns, receive_ns, self._gap_ns)) is not None:
            return self._refuse(refused)
        jumped = False
        self._count_rate(self._arrivals.add(stamp_ns))
        if newest_ns is not None and stamp_ns < newest_ns + SHORTEST_PERIODS * self._period_ns:
            jumped = self.contract.reset.clock_jump and stamp_ns < newest_ns - self._gap_ns
            if not jumped:
                return self._refuse(refused_order(stamp_ns, newest_ns, self._period_ns))
            self._give_out_all()
            self._arrivals.jump()
            self._arrivals.add(stamp_ns)
            for track in self._tracks:
                track.jump(stamp_ns + self._gap_ns)
            self._views.jump(stamp_ns + self._gap_ns)
        self._newest_frame_ns = stamp_ns
        self._waiting.append(_Waiting(frame, receive_ns, jumped))
        return None

    def push_view(self, camera_index: int, view: Frame, receive_ns: int) -> None:
        """Take one picture of a further camera; what is refused is reported by the next `poll`.

        Args:
            camera_index: index into the contract's cameras, 1 or more.
            view: its picture, of the size of a tile.
            receive_ns: time of receipt, for judging stamps ahead of it.
        """
        topic = self.contract.cameras[camera_index].topic
        note = self._views.push(camera_index, view, receive_ns)
        if isinstance(note, Rejection):
            return self._refuse(note)
        if note:
            self.counts[f'view.{note} {topic}'] += 1
        elif self._last_step_ns is not None and view.stamp_ns <= self._last_step_ns:
            self.counts[f'view.late {topic}'] += 1
        return None

    def push_dropped(self, stamp_ns: int) -> None:
        """Tell of a frame that came but was dropped: it is no silence of the camera.

        Between two frames with dropped ones at most `MOST_BRIDGED` steps are filled in, and none
        while frames were dropped before the last frame too: bridging costs as much as a frame, so
        it would make an overloaded consumer drop more.

        Args:
            stamp_ns: its stamp; to be told before the `push_frame` of a newer frame.
        """
        self.counts['frame.dropped'] += 1
        self._count_rate(self._arrivals.add_dropped(stamp_ns))

    @property
    def camera_rate_hz(self) -> float | None:
        """The camera's rate by the median of its last 50 periods; None before the fifth."""
        return self._arrivals.rate_hz

    def push_rejection(self, kind: str, error: RejectedInput, stamp_ns: int) -> None:
        """Report an input that was refused before it became a frame or a command."""
        self._refuse(Rejection(kind, error.reason, stamp_ns, error.detail))

    def reset(self, reason: ResetReason) -> None:
        """Start afresh with the next step: index 0, twists integrated from zero."""
        self._give_out_all()
        self._reset = reason

    @property
    def next_deadline_ns(self) -> int | None:
        """When `poll` has something to do at the latest; None while nothing waits."""
        if self._done:
            return 0
        return self._waiting[0].receive_ns + self._wait_ns if self._waiting else None

    def poll(self, now_ns: int) -> list[Step | Rejection]:
        """Return what is decided by now, in order of arrival.

        A frame is decided once every source has sent a command stamped at its bound or later and
        no nearer view of any camera can come, or when it has waited long enough.

        Args:
            now_ns: the time, on the clock of `receive_ns`; END_OF_STREAM_NS when nothing more
            will come.
        """
        while self._waiting and self._decided(self._waiting[0], now_ns):
            self._give_out(self._waiting.popleft())
        done, self._done = self._done, []
        return done

    def _decided(self, waiting: _Waiting, now_ns: int) -> bool:
        bound_ns = waiting.frame.stamp_ns + self._lead_ns
        if all(
            track.newest_ns is not None and track.newest_ns >= bound_ns for track in self._tracks
        ) and self._views.settled(waiting.frame.stamp_ns):
            return True
        return not waiting.receive_ns <= now_ns < waiting.receive_ns + self._wait_ns

    def _give_out_all(self) -> None:
        while self._waiting:
            self._give_out(self._waiting.popleft())

    def _give_out(self, waiting: _Waiting) -> None:
        frame = waiting.frame
        last_ns = self._last_step_ns
        dropped = self._arrivals.dropped_between(last_ns, frame.stamp_ns)
        if waiting.jumped:
            self._reset = self._reset or ResetReason.CLOCK_JUMP
        elif last_ns is not None and self._silence_ns(last_ns, dropped, frame) > self._gap_ns:
            self._reset = self._reset or ResetReason.GAP
        if self._reset is not None:
            if last_ns is not None:  # once: while frames are refused, views gather
                self._views.reset(frame.stamp_ns)
            last_ns = self._last_step_ns = None
            for track in self._tracks:
                track.reset(frame.stamp_ns + self._lead_ns)
        if self._raw_action(frame.stamp_ns) is None:
            topics = ', '.join(self._silent_topics(frame.stamp_ns))
            detail = f'no command yet from {topics}'
            return self._refuse(Rejection('frame', RejectReason.NO_ACTION, frame.stamp_ns, detail))
        absent = self._views.absent(frame.stamp_ns)
        if absent and self._reset is not None:
            detail = f'no view yet from {", ".join(absent)}'
            return self._refuse(Rejection('frame', RejectReason.NO_VIEW, frame.stamp_ns, detail))
        if last_ns is not None:
            between = max(0, round((frame.stamp_ns - last_ns) / self._period_ns) - 1)
            bridged = between
            if dropped:
                bridged = 0 if self._overloaded else min(between, MOST_BRIDGED)
            if between > bridged:
                self.counts['frame.unbridged'] += between - bridged
            periods = bridged + 1
            for k in range(1, periods):
                self.counts['frame.missing'] += 1
                self._append_step(None, last_ns + (frame.stamp_ns - last_ns) * k // periods)
        self._append_observed(frame, absent)
        self._overloaded = bool(dropped)
        return None

    def _append_observed(self, frame: Frame, absent: list[str]) -> None:
        """Append the step of a frame: without it where a view is too old to be shown with it."""
        if not absent:
            return self._append_step(self._views.complete(frame, self.counts), frame.stamp_ns)
        self.counts['frame.missing'] += 1
        for topic in absent:
            self.counts[f'view.lost {topic}'] += 1
        return self._append_step(None, frame.stamp_ns)

    @staticmethod
    def _silence_ns(last_ns: int, dropped: list[int], frame: Frame) -> int:
        """Return the longest time without a frame since the last step."""
        stamps = [last_ns, *dropped, frame.stamp_ns]
        return max(after - before for before, after in pairwise(stamps))

    def _append_step(self, frame: Frame | None, stamp_ns: int) -> None:
        action_A = self._action(stamp_ns)
        prev_ns = self._last_step_ns
        prev_A = action_A if prev_ns is None else self._action(prev_ns)
        clipped = self.contract.count_clipped(self._known_action(stamp_ns))
        # Nothing has changed so far: an error above leaves a reset that is due in place.
        reset, self._reset = self._reset, None
        if reset is not None:
            self._index = 0
            self.counts[f'reset.{reset.value}'] += 1
        self.counts['action.clipped'] += clipped
        self._done.append(Step(frame, prev_A, action_A, stamp_ns, self._index, reset))
        self._index += 1
        self._last_step_ns = stamp_ns
        for track in self._tracks:
            track.forget(stamp_ns + self._lead_ns)
        self._views.forget(stamp_ns)

    def _raw_action(self, stamp_ns: int) -> npt.NDArray[np.float64] | None:
        parts = [track.at(stamp_ns + self._lead_ns) for track in self._tracks]
        known = [part for part in parts if part is not None]
        return np.concatenate(known) if len(known) == len(parts) else None

    def _known_action(self, stamp_ns: int) -> npt.NDArray[np.float64]:
        raw_A = self._raw_action(stamp_ns)
        if raw_A is None:
            raise RuntimeError(f'no command in force at {stamp_ns} ns')
        return raw_A

    def _action(self, stamp_ns: int) -> FloatArray:
        return self.contract.normalise(self._known_action(stamp_ns))

    def _silent_topics(self, stamp_ns: int) -> list[str]:
        pairs = zip(self.contract.actions, self._tracks, strict=True)
        return [
            source.topic for source, track in pairs if track.at(stamp_ns + self._lead_ns) is None
        ]

    def _count_rate(self, off: bool) -> None:
        if off:
            self.counts['frame.rate_off'] += 1

    def _refuse(self, rejection: Rejection) -> None:
        self.counts[f'{rejection.kind}.{rejection.reason.value}'] += 1
        self._done.append(rejection)
