"""Start nodes of the table as processes on a ROS 2 domain of their own, and stop them cleanly."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import domain_coordinator

from wm_ros.nodes.table import PROCESSES

STOP_S = 10.0
TAIL_LINES = 15


class ProcessFailed(RuntimeError):
    """A node ended with an error, or did not end; the text holds the end of its log."""


@contextlib.contextmanager
def private_domain() -> Iterator[Mapping[str, str]]:
    """Reserve a ROS domain on this machine; yield the environment of the processes that share it.

    Discovery stays on this machine, and numeric libraries take one thread each.
    """
    with domain_coordinator.domain_id() as domain:
        yield {
            **os.environ,
            'ROS_DOMAIN_ID': str(domain),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
            'OMP_NUM_THREADS': '1',
        }


class NodeProcess:
    """One node of the table, running. Leaving the context kills what is still there.

    Args:
        name: key of the table.
        log: file for its output.
        environment: of the process, see `private_domain`.
        parameters: over those of the table.
    """

    def __init__(
        self, name: str, log: Path, environment: Mapping[str, str], parameters: Mapping[str, Any]
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        command = PROCESSES[name].command(sys.executable, parameters)
        environment = {**environment, 'ROS_LOG_DIR': str(log.parent.resolve())}
        with log.open('w') as file:
            self._process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def check(self) -> None:
        """Raise ProcessFailed when it has ended with an error."""
        status = self._process.poll()
        if status:
            raise ProcessFailed(f'{self.name} ended with status {status}:\n{self.tail()}')

    def stop(self) -> None:
        """Ask it to end, a second time if need be.

        Raises:
            ProcessFailed: it ended with an error, or not at all.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            if self.running:
                self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
                return self.check()
        raise ProcessFailed(f'{self.name} did not end within {2 * STOP_S:g} s:\n{self.tail()}')

    def tail(self) -> str:
        """The last lines of its output."""
        return '\n'.join(self.log.read_text().splitlines()[-TAIL_LINES:])

    def __enter__(self) -> NodeProcess:
        """Return the process."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it if it still runs."""
        if self.running:
            self._process.kill()
        self._process.wait()
