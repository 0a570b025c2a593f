"""Jobs of a planning run side by side, each a process of its own with children of its own.

The first that fails ends all: those that run are asked to end, then killed with everything that
they started, those that wait are not begun. A job also ends when whoever started it is gone, so
that a run that was killed leaves no node behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from wm_ros.model_package import PackageError
from wm_ros.nodes.processes import ProcessFailed
from wm_ros.nodes.stage import StageTimeout

END_S = 15.0  # for a job to take its nodes down
EXPECTED = (PackageError, ProcessFailed, StageTimeout)  # their text says what to do


class JobFailed(RuntimeError):
    """A job failed; the text names it and says why."""


@dataclass(frozen=True)
class Job:
    """A function to call in a process of its own; both it and its arguments can be pickled."""

    name: str
    work: Callable[..., None]
    arguments: tuple[Any, ...] = ()


class Worker:
    """One job, running."""

    def __init__(self, job: Job) -> None:
        spawn = get_context('spawn')
        self._job = job
        self._told, tell = spawn.Pipe(duplex=False)
        self._process = spawn.Process(target=_work, args=(job, tell), name=job.name)
        self._process.start()
        tell.close()

    @property
    def sentinel(self) -> int:
        """Becomes ready when the process has ended."""
        return self._process.sentinel

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def check(self) -> None:
        """Raise JobFailed when it has ended in any way but well."""
        if not self._process.exitcode:
            return
        text = f'ended with status {self._process.exitcode}'
        with contextlib.suppress(EOFError):
            if self._told.poll():
                text = self._told.recv()
        raise JobFailed(f'{self._job.name}: {text}')

    def end(self) -> None:
        """End it, and whatever it started and left behind."""
        if self.running:
            self._process.terminate()
            self._process.join(END_S)
        if self._process.ident is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.ident, signal.SIGKILL)
        self._process.kill()  # where it had no group yet
        self._process.join()


def run_side_by_side(jobs: Sequence[Job], width: int) -> None:
    """Carry out all jobs, in their order, `width` at a time.

    Raises:
        JobFailed: one of them failed; none runs any more.
    """
    waiting, running = list(jobs), list[Worker]()
    try:
        while waiting or running:
            while waiting and len(running) < width:
                running.append(Worker(waiting.pop(0)))
            connection.wait([worker.sentinel for worker in running])
            for worker in [worker for worker in running if not worker.running]:
                worker.check()
                worker.end()
                running.remove(worker)
    finally:
        for worker in running:
            worker.end()


@contextlib.contextmanager
def ended_by_signal() -> Iterator[None]:
    """Let SIGTERM unwind the stack, as Ctrl-C does, so that what was started is taken down."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _work(job: Job, tell: Connection) -> None:
    """Be the process of one job."""
    os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with ended_by_signal():
        try:
            job.work(*job.arguments)
        except EXPECTED as error:
            tell.send(str(error))
            sys.exit(1)
        except Exception:
            tell.send(traceback.format_exc())
            sys.exit(1)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
