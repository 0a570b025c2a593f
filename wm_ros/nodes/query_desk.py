"""Where planners' queries are handed in: the way from a callback to the inference thread and back.

A callback leaves a job and waits for its answer as a coroutine, so the executor goes on with
frames and other queries. The thread sets the answer and triggers a guard condition, which wakes
the executor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.task import Future
from wm_ros_msgs.msg import ImaginedFrame as ImaginedFrameMessage

from wm_ros.nodes import query_messages
from wm_ros.nodes.query_queue import Job, QueryQueue, Ticket
from wm_ros.planning.evaluator import Evaluator
from wm_ros.planning.query import ImaginedFrame, Limits, QueryCode, QueryError, Start

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode

    from wm_ros.config import RuntimeConfig
    from wm_ros.nodes.loading import Loaded
    from wm_ros.nodes.outputs import Outputs

FRAMES_DEPTH = 256  # frames of one query that come faster than they are sent


class DeskGroup(ReentrantCallbackGroup):
    """The callbacks of all queries: coroutines that wait must not hold back each other.

    Attributes:
        shut: nothing is taken in any more; what was taken in is still answered.
    """

    shut = False

    def can_execute(self, entity: Any) -> bool:
        """Whether the executor may listen to one of the group."""
        return not self.shut


class QueryDesk:
    """What evaluations and dreams share.

    Args:
        node: who serves.
        loaded: model and contract.
        config: of the node: what a query may ask for.
        outputs: knows the camera's tf frame.

    Attributes:
        group: of all callbacks of queries.
        queue: of the inference thread; None while the node is not active.
        waiting: coroutines that wait for an answer.
        answered: queries answered with a result since the node was configured.
        refused: those answered with an error.
        partial: answered ones that were stopped at their deadline.
    """

    def __init__(
        self, node: LifecycleNode, loaded: Loaded, config: RuntimeConfig, outputs: Outputs
    ) -> None:
        self.node = node
        self.loaded = loaded
        self.config = config
        self.group = DeskGroup()
        self.queue: QueryQueue | None = None
        self.waiting = 0
        self.answered = self.refused = self.partial = 0
        self._outputs = outputs
        self._made: list[Callable[[], Any]] = []  # takes back what `create` made

    def create(self) -> None:
        """Allocate and warm up; what an exception left half done is for `destroy`.

        Raises:
            RuntimeError: the engine failed.
            NonFiniteError: the model's output is not finite.
        """
        node, config = self.node, self.config
        limits = Limits(candidates=config.query_candidates, steps=config.query_steps)
        self.evaluator = Evaluator(self.loaded.model, limits)
        self.evaluator.warm_up()
        self._imagined = node.create_lifecycle_publisher(
            ImaginedFrameMessage,
            '~/imagined',
            QoSProfile(depth=FRAMES_DEPTH),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._made.append(partial(node.destroy_lifecycle_publisher, self._imagined))
        self._wake = node.create_guard_condition(lambda: None, callback_group=self.group)
        self._made.append(partial(node.destroy_guard_condition, self._wake))

    def destroy(self) -> None:
        """Take everything off the node."""
        while self._made:
            self._made.pop()()

    def ticket(
        self, deadline_ns: int | None = None, allow_partial: bool = False
    ) -> tuple[Ticket, Future]:
        """Return where an answer is left, and where it is waited for."""
        future: Future = Future()
        return Ticket(partial(self._deliver, future), deadline_ns, allow_partial), future

    async def ask(self, job: Job, future: Future, *, dream: bool = False) -> Any:
        """Leave a job and wait for its answer.

        Raises:
            QueryError: why there is none.
        """
        if self.queue is None:
            raise QueryError(QueryCode.NOT_ACTIVE, 'the node is not active')
        self.queue.put(job, dream=dream)
        self.waiting += 1
        try:
            answer = await future
        finally:
            self.waiting -= 1
        if isinstance(answer, QueryError):
            raise answer
        return answer

    def show(self, query: str, frame: ImaginedFrame, start: Start) -> None:
        """Publish a frame; called in the inference thread."""
        message = query_messages.frame_message(
            frame, query, self.instant_ns(start, frame.ahead), self._outputs.frame_id
        )
        self._imagined.publish(message)

    def instant_ns(self, start: Start, ahead: int) -> int:
        """Return the instant so many frames after the newest observed one of a state."""
        return start.memory.stamp_ns + ahead * self.loaded.contract.period_ns

    def _deliver(self, future: Future, answer: Any) -> None:
        future.set_result(answer)
        self._wake.trigger()


class Turn:
    """Await it to let everything else in the executor have a turn."""

    def __await__(self) -> Generator[None]:
        yield


def since_ms(from_ns: int) -> float:
    """Return the time since an instant of the monotonic clock, ms."""
    return (time.monotonic_ns() - from_ns) / 1e6
