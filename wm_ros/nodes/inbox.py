"""What callbacks leave for the inference thread: newest frame, every command, a wish to restart.

A frame that the thread has not taken yet is replaced by a newer one and counted: an overloaded
machine skips frames, it does not fall behind. Commands are small and none is skipped; so are views
of further cameras, and which frame they belong to is for the synchroniser to say.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from wm_ros.feed import Arrival, ArrivedCommands, ArrivedFrame, ArrivedView, Refusal, Restart

Queued = ArrivedCommands | ArrivedView | Refusal
MOST_QUEUED = 4096  # while the thread is busy; about 40 s of commands at 100 Hz


@dataclass(frozen=True)
class Mail:
    """Everything that has come since the last look.

    Attributes:
        frame: the newest frame.
        monotonic_ns: when it was received, by the monotonic clock.
        queued: commands, views and refusals in the order of their arrival.
        restart: the newest wish.
        dropped_ns: stamps of dropped frames.
    """

    frame: ArrivedFrame | None = None
    monotonic_ns: int = 0
    queued: tuple[Queued, ...] = ()
    restart: Restart | None = None
    dropped_ns: tuple[int, ...] = ()


@dataclass
class Inbox:
    """A slot of depth one for frames, a queue for the rest. Any thread may put, one thread takes.

    Attributes:
        dropped_frames: frames that a newer one replaced.
        dropped_queued: commands, views and refusals beyond the length of the queue.
    """

    dropped_frames: int = 0
    dropped_queued: int = 0
    _ready: threading.Condition = field(default_factory=threading.Condition)
    _frame: ArrivedFrame | None = None
    _monotonic_ns: int = 0
    _queued: deque[Queued] = field(default_factory=lambda: deque(maxlen=MOST_QUEUED))
    _dropped_ns: deque[int] = field(default_factory=lambda: deque(maxlen=MOST_QUEUED))
    _restart: Restart | None = None
    _newest_restart: Restart | None = None
    _woken: bool = False
    _closed: bool = False

    def put(self, arrival: Arrival, monotonic_ns: int = 0) -> None:
        """Leave an arrival: a frame that is still here is dropped, the newest restart counts.

        Args:
            arrival: what came.
            monotonic_ns: of a frame, when it was received by the monotonic clock.
        """
        with self._ready:
            if isinstance(arrival, ArrivedFrame):
                if self._frame is not None:
                    self.dropped_frames += 1
                    self._dropped_ns.append(self._frame.frame.stamp_ns)
                self._frame, self._monotonic_ns = arrival, monotonic_ns
            elif isinstance(arrival, Restart):
                self._restart = self._newest_restart = arrival
            else:
                self.dropped_queued += len(self._queued) == MOST_QUEUED
                self._queued.append(arrival)
            self._ready.notify()

    @property
    def newest_restart(self) -> Restart | None:
        """The restart that was asked for last, taken or not: `Session.taken` tells which."""
        return self._newest_restart

    def wake(self) -> None:
        """Wake the taker once: there is other work."""
        with self._ready:
            self._woken = True
            self._ready.notify()

    def close(self) -> None:
        """Wake the taker for good."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def take(self, timeout_s: float) -> Mail:
        """Wait until something is here, the time is over, or `wake` or `close`; take all."""
        with self._ready:
            here = self._frame or self._queued or self._restart
            if not (here or self._woken or self._closed) and timeout_s > 0:
                self._ready.wait(timeout_s)
            self._woken = False
            mail = Mail(
                self._frame,
                self._monotonic_ns,
                tuple(self._queued),
                self._restart,
                tuple(self._dropped_ns),
            )
            self._frame = self._restart = None
            self._monotonic_ns = 0
            self._queued.clear()
            self._dropped_ns.clear()
            return mail
