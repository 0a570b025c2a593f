"""What callbacks leave for the inference thread: newest frame, every command, a wish to restart.

A frame that the thread has not taken yet is replaced by a newer one and counted: an overloaded
machine skips frames, it does not fall behind. Commands are small and none is skipped.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from wm_ros.datatypes import Frame, MemoryState, ResetReason
from wm_ros.messages import Command
from wm_ros.rejection import RejectedInput

MOST_COMMANDS = 4096  # while the thread is busy; about 40 s of commands at 100 Hz


@dataclass(frozen=True)
class ArrivedFrame:
    """A converted frame, when it was received by the node's clock, and by the monotonic one."""

    frame: Frame
    receive_ns: int
    monotonic_ns: int


@dataclass(frozen=True)
class ArrivedCommands:
    """The commands of one message, and when it was received by the node's clock."""

    source_index: int
    commands: tuple[Command, ...]
    receive_ns: int


@dataclass(frozen=True)
class Refusal:
    """A message that could not be converted. `kind` is `frame` or `action`."""

    kind: str
    error: RejectedInput
    stamp_ns: int


@dataclass(frozen=True)
class Restart:
    """Start afresh before the next frame, from `memory` or from nothing."""

    reason: ResetReason
    memory: MemoryState | None = None


@dataclass(frozen=True)
class Mail:
    """Everything that has come since the last look; `dropped_ns` are stamps of dropped frames."""

    frame: ArrivedFrame | None = None
    commands: tuple[ArrivedCommands, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    restart: Restart | None = None
    dropped_ns: tuple[int, ...] = ()


@dataclass
class Inbox:
    """A slot of depth one for frames, a queue for the rest. Any thread may put, one thread takes.

    Attributes:
        dropped_frames: frames that a newer one replaced.
        dropped_commands: commands beyond the length of the queue.
    """

    dropped_frames: int = 0
    dropped_commands: int = 0
    _ready: threading.Condition = field(default_factory=threading.Condition)
    _frame: ArrivedFrame | None = None
    _commands: deque[ArrivedCommands] = field(default_factory=lambda: deque(maxlen=MOST_COMMANDS))
    _refusals: deque[Refusal] = field(default_factory=lambda: deque(maxlen=MOST_COMMANDS))
    _dropped_ns: deque[int] = field(default_factory=lambda: deque(maxlen=MOST_COMMANDS))
    _restart: Restart | None = None
    _closed: bool = False

    def put_frame(self, frame: ArrivedFrame) -> None:
        """Leave a frame; one that is still here is dropped."""
        with self._ready:
            if self._frame is not None:
                self.dropped_frames += 1
                self._dropped_ns.append(self._frame.frame.stamp_ns)
            self._frame = frame
            self._ready.notify()

    def put_commands(self, commands: ArrivedCommands) -> None:
        """Leave the commands of one message."""
        with self._ready:
            self.dropped_commands += len(self._commands) == MOST_COMMANDS
            self._commands.append(commands)
            self._ready.notify()

    def put_refusal(self, refusal: Refusal) -> None:
        """Leave word of a message that was refused."""
        with self._ready:
            self._refusals.append(refusal)
            self._ready.notify()

    def put_restart(self, restart: Restart) -> None:
        """Ask for a restart before the next frame; the newest wish counts."""
        with self._ready:
            self._restart = restart
            self._ready.notify()

    @property
    def restart(self) -> Restart | None:
        """The restart that has been asked for and not taken yet."""
        return self._restart

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
        """Wait until something is here, the time is over or the box is closed; take everything."""
        with self._ready:
            if not (self._closed or self._anything()):
                self._ready.wait(timeout_s)
            mail = Mail(
                self._frame,
                tuple(self._commands),
                tuple(self._refusals),
                self._restart,
                tuple(self._dropped_ns),
            )
            self._frame = self._restart = None
            for queue in (self._commands, self._refusals, self._dropped_ns):
                queue.clear()
            return mail

    def _anything(self) -> bool:
        return bool(self._frame or self._commands or self._refusals or self._restart)
