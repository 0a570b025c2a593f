"""The Imagine action: long dreams with progress, cancel, and a kept state at the end."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from rclpy.action import ActionServer, CancelResponse
from wm_ros_msgs.action import Imagine

from wm_ros.nodes import query_messages
from wm_ros.nodes.convert import ns_to_stamp
from wm_ros.nodes.query_desk import since_ms
from wm_ros.nodes.query_jobs import DreamJob, Dreamt
from wm_ros.nodes.query_states import as_refusal, refuse
from wm_ros.planning.query import QueryCode, Start

if TYPE_CHECKING:
    from rclpy.action.server import ServerGoalHandle

    from wm_ros.nodes.query_desk import QueryDesk
    from wm_ros.nodes.query_queue import Ticket
    from wm_ros.nodes.query_states import StateServices
    from wm_ros.planning.dream import Dream

RESULT_KEPT_S = 60  # a client asks for the result as soon as its goal is accepted


class DreamAction:
    """Offers the action on a node. Goals are accepted, and refused with a code in their result."""

    def __init__(self, desk: QueryDesk, states: StateServices) -> None:
        self._desk = desk
        self._states = states
        self._tickets: dict[bytes, Ticket] = {}
        self._server: Any = None

    def create(self) -> None:
        """Put the action on the node."""
        self._server = ActionServer(
            self._desk.node,
            Imagine,
            '~/imagine',
            self.imagine,
            callback_group=self._desk.group,
            cancel_callback=self.cancel,
            result_timeout=RESULT_KEPT_S,
        )

    def destroy(self) -> None:
        """Take the action off the node."""
        if self._server is not None:
            self._server.destroy()
        self._server = None

    async def imagine(self, handle: ServerGoalHandle) -> Imagine.Result:
        """Dream on, with progress; the goal's state follows the result."""
        received_ns = time.monotonic_ns()
        desk, result, name = self._desk, Imagine.Result(), bytes(handle.goal_id.uuid)
        ticket, future = desk.ticket()
        ticket.cancelled = handle.is_cancel_requested
        self._tickets[name] = ticket
        try:
            job = self._job(handle, ticket)
            answer: Dreamt = await desk.ask(job, future, dream=True)
        except Exception as problem:
            error = as_refusal(problem, desk.node, handle.request.owner)
            desk.refused += 1
            if error.code is QueryCode.CANCELLED:
                handle.canceled()
            else:
                handle.abort()
            result.latency_ms = since_ms(received_ns)
            return refuse(result, error)
        finally:
            del self._tickets[name]
        desk.answered += 1
        handle.succeed()
        result.success = True
        result.state, result.horizon = answer.handle, answer.steps
        result.state_stamp = ns_to_stamp(answer.start.memory.stamp_ns)
        result.latency_ms = since_ms(received_ns)
        return result

    def _job(self, handle: ServerGoalHandle, ticket: Ticket) -> DreamJob:
        desk, goal = self._desk, handle.request
        source = self._states.source(goal.state)
        source()  # refused now rather than at its turn
        query_messages.check_keeping(goal.owner, goal.keep_s)
        keep = partial(self._states.keep_dream, owner=goal.owner, keep_s=goal.keep_s)
        return DreamJob(
            ticket,
            desk.loaded.model,
            source,
            query_messages.dream_actions(goal, desk.loaded.contract, desk.evaluator.limits),
            goal.seed,
            frames=goal.frames,
            show=partial(desk.show, goal.query),
            progress=partial(self._progress, handle),
            keep=keep if goal.keep_state else None,
        )

    def cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        """Have a dream stop before its next frame."""
        ticket = self._tickets.get(bytes(handle.goal_id.uuid))
        if ticket is not None:
            ticket.cancelled = True
        return CancelResponse.ACCEPT

    def _progress(self, handle: ServerGoalHandle, dream: Dream, start: Start) -> None:
        """Tell the client; called in the inference thread."""
        if not dream.steps_done:
            return  # the shared transition under the command in force
        stamp_ns = self._desk.instant_ns(start, start.frames_ahead(dream.steps_done))
        handle.publish_feedback(
            Imagine.Feedback(step=dream.steps_done, steps=dream.steps, stamp=ns_to_stamp(stamp_ns))
        )
