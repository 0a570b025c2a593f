"""The one inference thread of a node: waits for mail, advances the session, hands out results.

Planner queries get one unit of work at a time, and then the mail is looked at again: a frame never
waits for more than that.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable

from wm_ros.nodes.inbox import Inbox, Mail
from wm_ros.nodes.query_queue import QueryQueue
from wm_ros.nodes.session import Outcome, Session

LONGEST_WAIT_S = 0.2
JOIN_S = 5.0


class Worker:
    """Runs a session until stopped.

    Args:
        session: the running memory; only this thread touches it while the worker runs.
        inbox: where callbacks leave mail.
        queries: planner queries, worked on between frames.
        publish: called in this thread with the predictions of each frame.
        on_error: called with the text of an exception; the thread goes on with the next mail.
    """

    def __init__(
        self,
        session: Session,
        inbox: Inbox,
        queries: QueryQueue,
        publish: Callable[[Outcome], None],
        on_error: Callable[[str], None],
    ) -> None:
        self._session = session
        self._inbox = inbox
        self._queries = queries
        self._publish = publish
        self._on_error = on_error
        self._thread = threading.Thread(target=self._run, name='inference', daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Let the step at hand finish, then end the thread.

        Raises:
            RuntimeError: it did not end in time.
        """
        self._inbox.close()
        self._thread.join(JOIN_S)
        if self._thread.is_alive():
            raise RuntimeError(f'the inference thread did not end within {JOIN_S:g} s')

    def _run(self) -> None:
        while not self._inbox.closed:
            wait_s = self._session.wait_s(time.monotonic_ns(), LONGEST_WAIT_S)
            mail = self._inbox.take(0.0 if self._queries.busy else wait_s)
            try:
                self._advance(mail)
                self._queries.unit()
            except Exception:
                self._on_error(traceback.format_exc())
        self._queries.end()

    def _advance(self, mail: Mail) -> None:
        began_ns, frames = time.monotonic_ns(), 0
        self._session.put(mail)
        for outcome in self._session.advance(time.monotonic_ns()):
            self._publish(outcome)
            frames += 1
        if frames:
            took_ms = (time.monotonic_ns() - began_ns) / 1e6
            self._session.statistics.step_ms.add(took_ms / frames)
