"""Planner queries as work for the inference thread: one bounded unit at a time, between frames.

Callbacks put jobs; the thread does one unit of one job, then looks at the frames again.
Evaluations are answered in the order in which they came; dreams stand in a line of their own, and
the two lines take turns. Every job is answered exactly once: by itself, or with an error when it
is cancelled, its deadline passes while it waits, or the node is deactivated. Knows nothing of ROS.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from wm_ros.memory import NonFiniteError
from wm_ros.planning.query import QueryCode, QueryError

DREAMS_SHARE = 0.5  # of the units, while there are dreams


@dataclass(eq=False)
class Ticket:
    """Where a query's answer is left, once.

    Attributes:
        deliver: called with the answer or a QueryError, in the thread that has it.
        deadline_ns: monotonic; None for none.
        allow_partial: whether less than all is an answer when the deadline comes.
        cancelled: set by whoever asked; read before each unit.
    """

    deliver: Callable[[Any], None]
    deadline_ns: int | None = None
    allow_partial: bool = False
    cancelled: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _answered: bool = False

    def answer(self, answer: Any) -> None:
        """Deliver, unless an answer went out before."""
        with self._lock:
            late, self._answered = self._answered, True
        if not late:
            self.deliver(answer)

    def left_ms(self, now_ns: int) -> float:
        """Return the time until the deadline, ms; infinite without one."""
        if self.deadline_ns is None:
            return float('inf')
        return (self.deadline_ns - now_ns) / 1e6


class Job(Protocol):
    """One query. Only `needed_ms` is called by other threads than the inference thread."""

    @property
    def ticket(self) -> Ticket:
        """Where it is answered."""
        ...

    def needed_ms(self, busy_share: float) -> float:
        """Return how long it needs from now, at this share of time for others; 0 if unknown."""
        ...

    def begin(self) -> None:
        """Take up the work, from the state of this instant."""
        ...

    def unit(self, busy_share: float) -> bool:
        """Do one bounded piece of work; False once all is done."""
        ...

    def end(self) -> None:
        """Let go of everything; called once after `begin`, however it ended."""
        ...


@dataclass(eq=False)
class _Waiting:
    job: Job
    begun: bool = False


class QueryQueue:
    """The jobs of one activation of the node. Any thread puts, one thread works.

    Args:
        most_waiting: jobs that have not begun, at most.
        stream_share: share of the inference thread's time that frames take at an instant (ns).
        wake: tells the inference thread that there is work.
        on_error: called with the text of an exception that is no refusal.
    """

    def __init__(
        self,
        most_waiting: int,
        stream_share: Callable[[int], float],
        wake: Callable[[], None],
        on_error: Callable[[str], None],
    ) -> None:
        self._most_waiting = most_waiting
        self._stream_share = stream_share
        self._wake = wake
        self._on_error = on_error
        self._lock = threading.Lock()
        self._evaluations: deque[_Waiting] = deque()
        self._dreams: deque[_Waiting] = deque()
        self._dreams_turn = False
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether there is work."""
        return not self._closed and bool(self._evaluations or self._dreams)

    def put(self, job: Job, *, dream: bool = False) -> None:
        """Leave a job.

        Raises:
            QueryError: NOT_ACTIVE; BUSY; DEADLINE, it could not be met. Then it is not answered.
        """
        with self._lock:
            if self._closed:
                raise QueryError(QueryCode.NOT_ACTIVE, 'the node is not active')
            share = self._busy_share()
            line = self._dreams if dream else self._evaluations
            ahead_ms = sum(entry.job.needed_ms(share) for entry in line)
            waiting = sum(not entry.begun for entry in self._all())
            if waiting >= self._most_waiting:
                raise QueryError(
                    QueryCode.BUSY,
                    f'{waiting} queries are waiting, at most {self._most_waiting} may',
                    ahead_ms + job.needed_ms(share),
                )
            refuse_late(job, ahead_ms, share)
            line.append(_Waiting(job))
        self._wake()

    def unit(self) -> None:
        """Do one unit of the job whose turn it is; never raises."""
        self._sweep(time.monotonic_ns())
        entry = self._next()
        if entry is None:
            return
        job, more = entry.job, False
        try:
            share = self._busy_share()
            if not entry.begun:
                refuse_late(job, 0.0, share)
                entry.begun = True
                job.begin()
            more = job.unit(share)
        except Exception as error:
            job.ticket.answer(self._refusal(error))
        if not more:
            self._remove(entry)

    def close(self) -> None:
        """Answer everything with NOT_ACTIVE, now and from now on."""
        with self._lock:
            self._closed = True
            left = list(self._all())
        for entry in left:
            error = QueryError(QueryCode.NOT_ACTIVE, 'the node was deactivated')
            entry.job.ticket.answer(error)

    def end(self) -> None:
        """Let go of the jobs that `close` answered; called by the inference thread as it ends."""
        for entry in list(self._all()):
            self._remove(entry)

    def _all(self) -> Iterator[_Waiting]:
        yield from self._evaluations
        yield from self._dreams

    def _busy_share(self) -> float:
        """Return the share of time that an evaluation does not have."""
        stream = self._stream_share(time.monotonic_ns())
        return stream + (1 - stream) * DREAMS_SHARE if self._dreams else stream

    def _next(self) -> _Waiting | None:
        with self._lock:
            if self._closed:
                return None
            lines = [line for line in (self._evaluations, self._dreams) if line]
            if not lines:
                return None
            self._dreams_turn = not self._dreams_turn
            return lines[int(self._dreams_turn and len(lines) > 1)][0]

    def _sweep(self, now_ns: int) -> None:
        """Answer those that need not go on: cancelled, or too late before they began."""
        with self._lock:
            entries = list(self._all())
        for entry in entries:
            ticket = entry.job.ticket
            if ticket.cancelled:
                ticket.answer(QueryError(QueryCode.CANCELLED, 'cancelled'))
            elif not entry.begun and ticket.left_ms(now_ns) <= 0:
                needed_ms = entry.job.needed_ms(self._busy_share())
                ticket.answer(
                    QueryError(QueryCode.DEADLINE, 'the deadline came before its turn', needed_ms)
                )
            else:
                continue
            self._remove(entry)

    def _remove(self, entry: _Waiting) -> None:
        with self._lock:
            for line in (self._evaluations, self._dreams):
                if entry in line:
                    line.remove(entry)
        if entry.begun:
            entry.job.end()

    def _refusal(self, error: Exception) -> QueryError:
        if isinstance(error, QueryError):
            return error
        if isinstance(error, NonFiniteError):
            return QueryError(QueryCode.MODEL_NOT_FINITE, str(error))
        self._on_error(traceback.format_exc())
        return QueryError(QueryCode.UNKNOWN, f'{type(error).__name__}: {error}')


def refuse_late(job: Job, ahead_ms: float, busy_share: float) -> None:
    """Refuse a job that will not be done by its deadline, unless less than all is welcome.

    Args:
        job: before it began.
        ahead_ms: what is done before it.
        busy_share: of the thread's time, for others.

    Raises:
        QueryError: DEADLINE, with the time that it needs.
    """
    left_ms = job.ticket.left_ms(time.monotonic_ns())
    needed_ms = ahead_ms + job.needed_ms(busy_share)
    if needed_ms > left_ms and not job.ticket.allow_partial:
        raise QueryError(
            QueryCode.DEADLINE,
            f'it needs about {needed_ms:.0f} ms, the deadline is in {max(left_ms, 0):.0f} ms',
            needed_ms,
        )
