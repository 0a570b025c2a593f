"""The services of kept states: fork, keep, list, drop. A callback asks the store and returns."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wm_ros_msgs.srv import DropState, ForkState, KeepState, ListStates

from wm_ros.nodes.query_messages import check_keeping, state_handle
from wm_ros.planning.query import QueryCode, QueryError, Start
from wm_ros.planning.states import Handle, StateStore

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup
    from rclpy.node import Node


class StateServices:
    """Offers the four services on a node. `open` and `close` follow activation.

    Args:
        node: who offers them.
        store: where states are kept; `close` empties it.
    """

    def __init__(self, node: Node, store: StateStore) -> None:
        self._node = node
        self._store = store
        self._live: Callable[[], Start] | None = None
        self._services: list[Any] = []

    def create(self, group: CallbackGroup) -> None:
        """Put the services on the node."""
        for kind, name, answer in (
            (ForkState, '~/fork_state', self.fork),
            (KeepState, '~/keep_state', self.keep),
            (ListStates, '~/list_states', self.list),
            (DropState, '~/drop_state', self.drop),
        ):
            service = self._node.create_service(kind, name, answer, callback_group=group)
            self._services.append(service)

    def open(self, live: Callable[[], Start]) -> None:
        """Serve from now on; `live` returns where a query about now begins."""
        self._store.clear()
        self._live = live

    def close(self) -> None:
        """Answer NOT_ACTIVE from now on, and forget what is kept."""
        self._live = None
        self._store.clear()

    def destroy(self) -> None:
        """Take the services off the node."""
        self.close()
        while self._services:
            self._node.destroy_service(self._services.pop())

    def source(self, state: int) -> Callable[[], Start]:
        """Return what returns the start of a query: of the live memory when the query begins, or
        a kept state, which is held from now on.

        Raises:
            QueryError: NOT_ACTIVE, UNKNOWN_STATE, EXPIRED_STATE.
        """
        live = self._require_active()
        if not state:
            return live
        kept = self._store.get(state, time.monotonic())
        return lambda: kept

    def keep_dream(self, start: Start, owner: str, keep_s: float) -> int:
        """Keep the end of a dream and return its id; called by the inference thread.

        Raises:
            QueryError: STATE_BUDGET; NOT_ACTIVE, `close` came meanwhile, and nothing is kept.
        """
        handle = self._store.keep(start, owner, time.monotonic(), keep_s)
        if self._live is None:  # read after keeping: what `close` did not clear is dropped here
            self._store.clear()
        self._require_active()
        return handle.id

    def fork(self, request: ForkState.Request, response: ForkState.Response) -> ForkState.Response:
        """Keep a copy of the live memory or of a kept state."""

        def fork(now_s: float) -> Handle:
            check_keeping(request.owner, request.keep_s)
            start = self.source(request.state)()
            return self._store.keep(start, request.owner, now_s, request.keep_s)

        return self._handle(response, fork, request.owner)

    def keep(self, request: KeepState.Request, response: KeepState.Response) -> KeepState.Response:
        """Prolong a kept state."""

        def extend(now_s: float) -> Handle:
            check_keeping('', request.keep_s)
            return self._store.extend(request.state, now_s, request.keep_s)

        return self._handle(response, extend, '')

    def list(
        self, request: ListStates.Request, response: ListStates.Response
    ) -> ListStates.Response:
        """Say what is kept."""
        now_s = time.monotonic()
        try:
            self._require_active()
        except QueryError as error:
            return refuse(response, error)
        handles = self._store.list(now_s, request.owner)
        response.states = [state_handle(handle, now_s) for handle in handles]
        response.used_bytes = self._store.nbytes
        response.budget_bytes = self._store.budget_bytes
        response.success = True
        return response

    def drop(self, request: DropState.Request, response: DropState.Response) -> DropState.Response:
        """Forget a state, or all of an owner."""
        try:
            self._require_active()
            if request.state:
                self._store.drop(request.state, time.monotonic())
                response.dropped = 1
            elif request.owner:
                response.dropped = self._store.drop_owner(request.owner)
            else:
                raise QueryError(QueryCode.INVALID_REQUEST, 'neither a state nor an owner')
        except QueryError as error:
            return refuse(response, error)
        response.success = True
        return response

    def _require_active(self) -> Callable[[], Start]:
        if self._live is None:
            raise QueryError(QueryCode.NOT_ACTIVE, 'the node is not active')
        return self._live

    def _handle(self, response: Any, act: Callable[[float], Handle], owner: str) -> Any:
        now_s = time.monotonic()
        try:
            self._require_active()
            response.handle = state_handle(act(now_s), now_s)
        except Exception as problem:
            return refuse(response, as_refusal(problem, self._node, owner))
        response.success = True
        return response


def as_refusal(problem: Exception, node: Node, owner: str) -> QueryError:
    """Return the refusal that a planner is told: what is no QueryError is UNKNOWN, and logged as
    an error.
    """
    if isinstance(problem, QueryError):
        text = f'{problem.code.name} to a query of {owner!r}: {problem.message}'
        node.get_logger().debug(text)
        return problem
    node.get_logger().error(f'a query of {owner!r} failed:\n{traceback.format_exc()}')
    return QueryError(QueryCode.UNKNOWN, repr(problem))


def refuse(response: Any, error: QueryError) -> Any:
    """Fill in a refusal."""
    response.success = False
    response.error_code = int(error.code)
    response.message = error.message
    return response
