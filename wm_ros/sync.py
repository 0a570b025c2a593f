"""StepSynchronizer: frames and commands in any order of arrival, steps of the world model out.

`a_t` of a frame is the newest command of every source stamped at or before the frame's stamp +
lead; `a_{t-1}` is the same rule at the step before, so a command that came too late for its own
frame still reaches the next. Live, replay and training use this object; only the time they let a
frame wait differs. Values and stamps only: no ROS, no clock, no threads (a caller with several
threads holds a lock).
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wm_ros.contract import StreamContract
from wm_ros.datatypes import FloatArray, Frame, ResetReason, Step
from wm_ros.messages import Command
from wm_ros.rejection import RejectedInput, Rejection, RejectReason
from wm_ros.tracks import make_track

END_OF_STREAM_NS = 2**63 - 1
SHORTEST_PERIODS = (
    0.6  # two frames closer than this are one frame too many for the contract's rate
)


@dataclass(frozen=True)
class _Waiting:
    frame: Frame
    receive_ns: int
    jumped: bool


class StepSynchronizer:
    """Joins frames with the commands in force. See the module text.

    Args:
        contract: the robot's streams.
        wait_ns: how long a frame waits for a newer command; None takes the contract's
        `action_wait_ms`.

    Attributes:
        counts: what happened, by `kind.event`: every refused input under its `RejectReason`
            (`frame.backward_stamp`, `action.not_finite`, `frame.no_action`, ...), and
            `frame.missing`, `action.late` (stamped before a step already given out),
            `action.early` (stamped ahead of its receipt), `action.duplicate`, `action.backward`
            (both still used by their stamps), `action.clipped` (entries beyond the limits),
            `reset.<reason>`.
    """

    def __init__(self, contract: StreamContract, wait_ns: int | None = None) -> None:
        self.contract = contract
        self.counts: Counter[str] = Counter()
        self._wait_ns = round(contract.action_wait_ms * 1e6) if wait_ns is None else wait_ns
        self._lead_ns = round(contract.action_lead_ms * 1e6)
        self._gap_ns = round(contract.reset.gap_s * 1e9)
        self._period_ns = contract.period_ns
        self._tracks = [make_track(source, self._period_ns) for source in contract.actions]
        self._waiting: deque[_Waiting] = deque()
        self._done: list[Step | Rejection] = []
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

        Zero or future stamps and values that are not finite are refused: the next `poll` reports
        them.

        Args:
            source_index: index into the contract's action sources.
            commands: in the order of their stamps.
            receive_ns: time of receipt, for judging stamps ahead of it; None to trust the stamps.

        Raises:
            ValueError: wrong number of values (a caller's mistake; messages are checked on
            reading).
        """
        source, track = self.contract.actions[source_index], self._tracks[source_index]
        width = 6 if source.integrate else len(source.entries)
        for command in commands:
            if command.values_E.shape != (width,):
                raise ValueError(
                    f'{source.topic}: command of shape {command.values_E.shape}, '
                    f'expected {width} values'
                )
            if not np.isfinite(command.values_E).all():
                return self._refuse(
                    'action',
                    RejectReason.NOT_FINITE,
                    command.stamp_ns,
                    f'{source.topic}: {command.values_E.tolist()}',
                )
        first_ns = commands[0].stamp_ns
        if first_ns <= 0:
            return self._refuse(
                'action',
                RejectReason.ZERO_STAMP,
                first_ns,
                f'{source.topic}: stamp {first_ns} ns, expected above 0',
            )
        if receive_ns is not None and first_ns > receive_ns and not commands[0].planned:
            if first_ns > receive_ns + self._gap_ns:
                return self._refuse(
                    'action',
                    RejectReason.FUTURE_STAMP,
                    first_ns,
                    f'{source.topic}: {(first_ns - receive_ns) / 1e9:.3f} s ahead',
                )
            self.counts['action.early'] += 1
        if self._last_step_ns is not None and first_ns <= self._last_step_ns + self._lead_ns:
            self.counts['action.late'] += 1
        if note := track.push(commands, self._gap_ns):
            self.counts[f'action.{note}'] += 1
        return None

    def push_frame(self, frame: Frame, receive_ns: int) -> None:
        """Take one frame; the next `poll` gives its step, or says why there is none.

        Args:
            frame: the frame.
            receive_ns: time of receipt, on the clock of `poll`; its wait for a command begins
            here.
        """
        stamp_ns, newest_ns = frame.stamp_ns, self._newest_frame_ns
        if stamp_ns <= 0:
            return self._refuse(
                'frame',
                RejectReason.ZERO_STAMP,
                stamp_ns,
                f'stamp {stamp_ns} ns, expected above 0',
            )
        if stamp_ns > receive_ns + self._gap_ns:
            return self._refuse(
                'frame',
                RejectReason.FUTURE_STAMP,
                stamp_ns,
                f'{(stamp_ns - receive_ns) / 1e9:.3f} s ahead of its receipt',
            )
        jumped = False
        if newest_ns is not None and stamp_ns < newest_ns + SHORTEST_PERIODS * self._period_ns:
            jumped = self.contract.reset.clock_jump and stamp_ns < newest_ns - self._gap_ns
            if not jumped:
                return self._refuse_order(stamp_ns, newest_ns)
            self._give_out_all()
            for track in self._tracks:
                track.jump(stamp_ns + self._gap_ns)
        self._newest_frame_ns = stamp_ns
        self._waiting.append(_Waiting(frame, receive_ns, jumped))
        return None

    def push_rejection(self, kind: str, error: RejectedInput, stamp_ns: int) -> None:
        """Report an input that was refused before it became a frame or a command."""
        self._refuse(kind, error.reason, stamp_ns, error.detail)

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

        A frame is decided once every source has sent a command stamped at its bound or later, or
        when it has waited long enough.

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
        ):
            return True
        return not waiting.receive_ns <= now_ns < waiting.receive_ns + self._wait_ns

    def _give_out_all(self) -> None:
        while self._waiting:
            self._give_out(self._waiting.popleft())

    def _give_out(self, waiting: _Waiting) -> None:
        frame = waiting.frame
        last_ns = self._last_step_ns
        if waiting.jumped:
            self._reset = ResetReason.CLOCK_JUMP
        elif last_ns is not None and frame.stamp_ns - last_ns > self._gap_ns:
            self._reset = self._reset or ResetReason.GAP
        if self._reset is not None:
            last_ns = self._last_step_ns = None
            for track in self._tracks:
                track.reset(frame.stamp_ns + self._lead_ns)
        if self._raw_action(frame.stamp_ns) is None:
            return self._refuse(
                'frame',
                RejectReason.NO_ACTION,
                frame.stamp_ns,
                'no command yet from ' + ', '.join(self._silent_topics(frame.stamp_ns)),
            )
        if last_ns is not None:
            periods = max(1, round((frame.stamp_ns - last_ns) / self._period_ns))
            for k in range(1, periods):
                self.counts['frame.missing'] += 1
                self._append_step(None, last_ns + (frame.stamp_ns - last_ns) * k // periods)
        self._append_step(frame, frame.stamp_ns)
        return None

    def _append_step(self, frame: Frame | None, stamp_ns: int) -> None:
        reset, self._reset = self._reset, None
        if reset is not None:
            self._index = 0
            self.counts[f'reset.{reset.value}'] += 1
        action_A = self._action(stamp_ns)
        prev_ns = self._last_step_ns
        prev_A = action_A if prev_ns is None else self._action(prev_ns)
        self.counts['action.clipped'] += self.contract.count_clipped(self._known_action(stamp_ns))
        self._done.append(Step(frame, prev_A, action_A, stamp_ns, self._index, reset))
        self._index += 1
        self._last_step_ns = stamp_ns
        for track in self._tracks:
            track.forget(stamp_ns + self._lead_ns)

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

    def _refuse_order(self, stamp_ns: int, newest_ns: int) -> None:
        late_ms = (newest_ns - stamp_ns) / 1e6
        if stamp_ns == newest_ns:
            self._refuse(
                'frame', RejectReason.DUPLICATE_STAMP, stamp_ns, f'stamp {stamp_ns} ns again'
            )
        elif stamp_ns < newest_ns:
            self._refuse(
                'frame', RejectReason.BACKWARD_STAMP, stamp_ns, f'{late_ms:.3f} ms backwards'
            )
        else:
            self._refuse(
                'frame',
                RejectReason.TOO_SOON,
                stamp_ns,
                f'{-late_ms:.3f} ms after the last, expected about {self._period_ns / 1e6:.3f} ms',
            )

    def _refuse(self, kind: str, reason: RejectReason, stamp_ns: int, detail: str) -> None:
        self.counts[f'{kind}.{reason.value}'] += 1
        self._done.append(Rejection(kind, reason, stamp_ns, detail))
