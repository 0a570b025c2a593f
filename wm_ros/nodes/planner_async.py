"""Questions to a world model whose answers the planner's own executor hands over.

Every question ends, as long as that executor spins: with its answer, or with TimeoutError where
nobody offers the service, or nobody answers, in time. An answer that comes later is dropped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.qos import QoSProfile
from rclpy.task import Future

from wm_ros.nodes.planner_link import MATCH_S

if TYPE_CHECKING:
    from rclpy.node import Node

ANSWERS_DEPTH = 100  # to queries asked at once; the middleware's default is 10, and drops the rest
TURN_S = 0.05  # between two looks at what waits


@dataclass(eq=False)
class _Question:
    request: Any
    read: Callable[[Any], Any]
    end_s: float  # of its wait: for the service, and from then on for the answer
    answer: Future = field(default_factory=Future)
    sent: Future | None = None
    over: bool = False


class PlannerQuestions:
    """One service, asked any number of questions at once, from any thread.

    Args:
        node: the planner's.
        kind: of service.
        topic: its full name.
        timeout_s: for the service to appear, and for each answer.
    """

    def __init__(self, node: Node, kind: Any, topic: str, timeout_s: float) -> None:
        self._node = node
        self._topic = topic
        self._timeout_s = timeout_s
        # A group of their own: answers come while a callback of the node awaits them.
        group = ReentrantCallbackGroup()
        self._client = node.create_client(
            kind, topic, qos_profile=QoSProfile(depth=ANSWERS_DEPTH), callback_group=group
        )
        # By the steady clock: the node's may be simulated, and stand still.
        self._timer = node.create_timer(
            TURN_S, self._turn, group, Clock(clock_type=ClockType.STEADY_TIME), autostart=False
        )
        self._lock = threading.Lock()
        self._questions: list[_Question] = []
        self._found_s: float | None = None  # when the service was first there

    def ask(self, request: Any, read: Callable[[Any], Any]) -> Future:
        """Return a future of what `read` makes of the response, or raises, or of TimeoutError."""
        question = _Question(request, read, time.monotonic() + self._timeout_s)
        with self._lock:
            self._questions.append(question)
            self._timer.reset()
        self._turn()
        if (executor := self._node.executor) is not None:
            executor.wake()  # it may sleep, and not know that the timer runs
        return question.answer

    def close(self) -> None:
        """Cancel what waits, and take everything off the node."""
        with self._lock:
            left, self._questions = self._questions, []
        for question in left:
            self._end(question, question.answer.cancel)
        self._node.destroy_timer(self._timer)
        self._node.destroy_client(self._client)

    def _turn(self) -> None:
        """Send what can be sent, end what has waited for too long."""
        now_s = time.monotonic()
        with self._lock:
            waiting = [
                question
                for question in self._questions
                if question.sent is None and not question.answer.cancelled()
            ]
            sent = waiting if self._is_found(now_s) else []
            answers = [self._client.call_async(question.request) for question in sent]
            for question, answer in zip(sent, answers, strict=True):
                question.end_s, question.sent = now_s + self._timeout_s, answer
            late = [question for question in self._questions if now_s > question.end_s]
        # Without the lock: a callback runs at once where the answer is there already.
        for question, answer in zip(sent, answers, strict=True):
            answer.add_done_callback(partial(self._take, question))
        for question in late:
            what = 'nobody offers it' if question.sent is None else 'no answer'
            error = TimeoutError(f'{self._topic}: {what} within {self._timeout_s:g} s')
            self._end(question, partial(question.answer.set_exception, error))
        self._forget()

    def _is_found(self, now_s: float) -> bool:
        """Whether the service is there, and has had time to find this client's reader."""
        if not self._client.service_is_ready():
            self._found_s = None
        elif self._found_s is None:
            self._found_s = now_s
        return self._found_s is not None and now_s >= self._found_s + MATCH_S

    def _take(self, question: _Question, sent: Future) -> None:
        try:
            answer = question.read(sent.result())
        except Exception as error:
            self._end(question, partial(question.answer.set_exception, error))
        else:
            self._end(question, partial(question.answer.set_result, answer))
        self._forget()

    def _end(self, question: _Question, settle: Callable[[], None]) -> None:
        """Settle a question, unless that was done before or its asker has cancelled it."""
        with self._lock:
            over, question.over = question.over, True
        if not over and not question.answer.cancelled():
            settle()

    def _forget(self) -> None:
        """Let go of what is over or cancelled; rest when nothing is left."""
        with self._lock:
            for question in self._questions:
                question.over = question.over or question.answer.cancelled()
                if question.over and question.sent is not None:
                    self._client.remove_pending_request(question.sent)
            self._questions = [question for question in self._questions if not question.over]
            if not self._questions:
                self._timer.cancel()
