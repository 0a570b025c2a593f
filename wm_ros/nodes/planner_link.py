"""The wire of a planner's blocking calls: a node and an executor of their own.

Whoever waits here spins only that executor, so it does not matter whether, or by which thread, the
planner's node is spun. Every wait ends: with what was waited for, at its time limit, or as soon as
the caller does not want it any more. An answer that comes later than that is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import rclpy
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile

from wm_ros.planning.errors import QueryCode, QueryError

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.task import Future

# A server that has not yet found the client's reader drops its answer, and nobody can see that:
# what is called or subscribed for the first time waits this long.
MATCH_S = 0.3
LONGEST_SPIN_S = 0.05

Wanted = Callable[[], bool]
"""Asked while a call waits; once it says False the call is given up."""


def always() -> bool:
    """Nothing is given up."""
    return True


class PlannerLink:
    """Not for several threads at a time.

    Args:
        node: the planner's.
        name: of the world model's node.
        timeout_s: for a server to appear, and for an answer.
    """

    def __init__(self, node: Node, name: str, timeout_s: float) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._helper = rclpy.create_node(
            f'{node.get_name()}_asks',
            context=node.context,
            namespace=node.get_namespace(),
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
        )
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(self._helper)
        self._clients: dict[str, Any] = {}
        self._heard: set[str] = set()

    def call(
        self,
        kind: Any,
        service: str,
        request: Any,
        timeout_s: float | None = None,
        wanted: Wanted = always,
    ) -> Any:
        """Call a service of the world model and return its response.

        Raises:
            TimeoutError: nobody offers it, or no answer.
            QueryError: CANCELLED, it was not wanted any more.
        """
        client = self._clients.get(service)
        if client is None:
            client = self._helper.create_client(kind, f'{self._name}/{service}')
            self._clients[service] = client
        self._find(client.service_is_ready, service, timeout_s, wanted)
        future = client.call_async(request)
        try:
            return self.wait(future, service, timeout_s, wanted)
        except (TimeoutError, QueryError):
            client.remove_pending_request(future)
            raise

    def carry_out(
        self,
        kind: Any,
        action: str,
        goal: Any,
        on_feedback: Callable[[Any], None],
        timeout_s: float,
    ) -> Any:
        """Carry an action out to its end and return its result.

        Raises:
            TimeoutError: nobody offers it, or not done in time; then it is cancelled.
        """
        client = self._clients.get(action)
        if client is None:
            client = ActionClient(self._helper, kind, f'{self._name}/{action}')
            self._clients[action] = client
        self._find(client.server_is_ready, action)
        sent = client.send_goal_async(goal, lambda message: on_feedback(message.feedback))
        try:
            handle = self.wait(sent, action)
        except TimeoutError:
            sent.add_done_callback(_cancel_late)  # heard of during a later call
            raise
        try:
            return self.wait(handle.get_result_async(), action, timeout_s).result
        except TimeoutError:
            self.wait(handle.cancel_goal_async(), f'cancel of {action}')
            raise

    def listen(self, kind: Any, topic: str, callback: Callable[[Any], None], depth: int) -> None:
        """Hear a topic of the world model from now on, while a call waits; once is enough."""
        if topic not in self._heard:
            self._helper.create_subscription(
                kind, f'{self._name}/{topic}', callback, QoSProfile(depth=depth)
            )
            self._heard.add(topic)
            self._spin(MATCH_S)

    def wait(
        self,
        future: Future,
        what: str,
        timeout_s: float | None = None,
        wanted: Wanted = always,
    ) -> Any:
        """Return the result of a future; raises as `until`."""
        self.until(future.done, f'{what}: no answer', timeout_s, wanted)
        return future.result()

    def until(
        self,
        condition: Callable[[], bool],
        otherwise: str,
        timeout_s: float | None = None,
        wanted: Wanted = always,
    ) -> None:
        """Spin until a condition holds.

        Raises:
            TimeoutError: it did not come to hold in time.
            QueryError: CANCELLED, it was not wanted any more.
        """
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        end_s = time.monotonic() + limit_s
        while not condition():
            if not wanted():
                raise QueryError(QueryCode.CANCELLED, 'the call was given up')
            if time.monotonic() > end_s:
                raise TimeoutError(f'{self._name}/{otherwise} within {limit_s:g} s')
            self._executor.spin_once(timeout_sec=LONGEST_SPIN_S)

    def close(self) -> None:
        """Take the node down."""
        self._executor.shutdown()
        self._helper.destroy_node()

    def _find(
        self,
        is_there: Callable[[], bool],
        name: str,
        timeout_s: float | None = None,
        wanted: Wanted = always,
    ) -> None:
        if name not in self._heard or not is_there():
            self.until(is_there, f'{name}: nobody offers it', timeout_s, wanted)
            self._heard.add(name)
            self._spin(MATCH_S)

    def _spin(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left_s)


def _cancel_late(sent: Future) -> None:
    """Nobody waits any more for the goal that a server has accepted."""
    handle = sent.result()
    if handle is not None and handle.accepted:
        handle.cancel_goal_async()
