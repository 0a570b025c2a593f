"""What planners may ask of a node: EvaluateCandidates, Imagine, kept states, imagined frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from rclpy.qos import QoSProfile
from wm_ros_msgs.srv import EvaluateCandidates

from wm_ros.nodes import query_messages
from wm_ros.nodes.convert import ns_to_stamp
from wm_ros.nodes.query_desk import QueryDesk, Turn, since_ms
from wm_ros.nodes.query_dreams import DreamAction
from wm_ros.nodes.query_jobs import Evaluated, EvaluationJob
from wm_ros.nodes.query_queue import QueryQueue
from wm_ros.nodes.query_states import StateServices, as_refusal, refuse
from wm_ros.nodes.services import start_of_now
from wm_ros.planning.query_checks import check_query
from wm_ros.planning.states import StateStore

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode

    from wm_ros.config import RuntimeConfig
    from wm_ros.nodes.inbox import Inbox
    from wm_ros.nodes.loading import Loaded
    from wm_ros.nodes.outputs import Outputs
    from wm_ros.nodes.session import Session


# Requests that come while the queue is full are refused. By default the middleware keeps 10 that
# have not been looked at, and drops the rest without a word.
MORE_REQUESTS = 100
LAST_TURNS = 3  # the result of an action is sent some turns after its coroutine has ended


class QueryServer:
    """Serves planners on a node. `open` and `close` follow activation. Arguments: `QueryDesk`."""

    def __init__(
        self, node: LifecycleNode, loaded: Loaded, config: RuntimeConfig, outputs: Outputs
    ) -> None:
        self._desk = QueryDesk(node, loaded, config, outputs)
        self._store = StateStore(round(config.state_budget_mib * 2**20), config.state_keep_s)
        self._states = StateServices(node, self._store)
        self._dreams = DreamAction(self._desk, self._states)
        self._service: Any = None

    def create(self) -> None:
        """Allocate, warm up, and put everything on the node; what an exception left half done is
        for `destroy`. Raises as `QueryDesk.create`.
        """
        desk = self._desk
        desk.create()
        self._states.create(desk.group)
        self._dreams.create()
        self._service = desk.node.create_service(
            EvaluateCandidates,
            '~/evaluate_candidates',
            self.evaluate,
            qos_profile=QoSProfile(depth=desk.config.query_queue + MORE_REQUESTS),
            callback_group=desk.group,
        )

    def open(self, session: Session, inbox: Inbox, on_error: Callable[[str], None]) -> QueryQueue:
        """Serve from now on; return the queue for the inference thread."""
        desk = self._desk
        share = session.statistics.stream_share
        queue = desk.queue = QueryQueue(desk.config.query_queue, share, inbox.wake, on_error)
        self._states.open(partial(start_of_now, session, inbox))
        return queue

    def close(self) -> None:
        """Answer NOT_ACTIVE from now on, whatever waits included, and forget kept states."""
        if self._desk.queue is not None:
            self._desk.queue.close()
        self._desk.queue = None
        self._states.close()

    def destroy(self) -> None:
        """Take everything off the node, once what `close` answered has been sent. Nothing is taken
        in from now on: the services of the next configuration have the same names.
        """
        self.close()
        self._desk.group.shut = True
        executor = self._desk.node.executor
        if self._desk.waiting and executor is not None:
            executor.create_task(self._take_down_later)
        else:
            self._take_down()

    async def _take_down_later(self) -> None:
        while self._desk.waiting:
            await Turn()
        for _ in range(LAST_TURNS):
            await Turn()
        self._take_down()

    def _take_down(self) -> None:
        if self._service is not None:
            self._desk.node.destroy_service(self._service)
        self._service = None
        self._dreams.destroy()
        self._states.destroy()
        self._desk.destroy()

    def report(self) -> Mapping[str, object]:
        """Return what the diagnostics say; lets go of states whose time is over."""
        self._store.expire(time.monotonic())
        desk = self._desk
        return {
            'queries_answered': desk.answered,
            'queries_partial': desk.partial,
            'queries_refused': desk.refused,
            'query_unit_ms': f'{desk.evaluator.pace.unit_ms("rollout"):.2f}',
            'kept_states': len(self._store),
            'kept_bytes': self._store.nbytes,
        }

    async def evaluate(
        self, request: EvaluateCandidates.Request, response: EvaluateCandidates.Response
    ) -> EvaluateCandidates.Response:
        """Price candidate actions."""
        received_ns = time.monotonic_ns()
        desk = self._desk
        try:
            answer: Evaluated = await self._evaluate(request, received_ns)
        except Exception as problem:
            error = as_refusal(problem, desk.node, request.owner)
            desk.refused += 1
            response.needed_ms = error.needed_ms
            response.latency_ms = since_ms(received_ns)
            return refuse(response, error)
        desk.answered += 1
        desk.partial += answer.evaluation.partial
        query_messages.fill_evaluation(response, answer.evaluation)
        memory = answer.start.memory
        response.state_stamp = ns_to_stamp(memory.stamp_ns)
        response.state_frames = memory.frames
        now_ns = desk.node.get_clock().now().nanoseconds
        response.state_age_ms = (now_ns - memory.stamp_ns) / 1e6
        response.latency_ms = since_ms(received_ns)
        return response

    async def _evaluate(self, request: EvaluateCandidates.Request, received_ns: int) -> Evaluated:
        desk = self._desk
        contract, package = desk.loaded.contract, desk.loaded.model.package
        limits, draws = desk.evaluator.limits, desk.config.query_draws
        source = self._states.source(request.state)
        # Everything that can be refused is refused now, rather than at its turn.
        query = query_messages.query(request, source(), contract, limits, draws)
        check_query(query, package, limits)
        deadline_ns = query_messages.deadline_ns(request.deadline_ms, received_ns)
        ticket, future = desk.ticket(deadline_ns, request.allow_partial)
        show = partial(desk.show, request.query)
        job = EvaluationJob(ticket, desk.evaluator, query, source, show)
        answer: Evaluated = await desk.ask(job, future)
        return answer
