"""Ask a running world model about possible futures, in three lines:

    client = WorldModelClient(node)
    answer = client.evaluate(actions_KTA, [goal_image(picture), smoothness(0.1)])
    robot.follow(actions_KTA[answer.best])

`evaluate`, `imagine` and the calls about states block the thread that calls them, and nothing
else: they have a node and an executor of their own, so they may be called whether or not `node`
is being spun, from its callbacks or from any thread (one call at a time, further ones wait).
`evaluate_async` returns a future that `node`'s own executor completes; await it in a coroutine.
What the world model refuses is raised as QueryError, with code, message and `needed_ms`; a world
model that is not there, or does not answer, as TimeoutError. Evaluations carry the client's time
limit as their deadline, so the world model does not work for somebody who has gone.

Axes: K candidates, T time, A action, H W pixels, C channels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
from wm_ros_msgs.action import Imagine
from wm_ros_msgs.msg import ImaginedFrame, ObjectiveTerm, StateHandle
from wm_ros_msgs.srv import DropState, EvaluateCandidates, ForkState, KeepState, ListStates

from wm_ros.datatypes import ImageArray
from wm_ros.nodes import convert
from wm_ros.nodes.objective_terms import (
    action_limits,
    goal_image,
    goal_region,
    reward,
    smoothness,
)
from wm_ros.nodes.planner_answers import (
    Answer,
    Dreamt,
    Place,
    evaluation_request,
    limit,
    picture,
    raise_refusal,
)
from wm_ros.nodes.planner_async import PlannerQuestions
from wm_ros.nodes.planner_link import PlannerLink, Wanted, always
from wm_ros.planning.errors import QueryCode, QueryError

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.task import Future

__all__ = [
    'Answer',
    'Dreamt',
    'QueryCode',
    'QueryError',
    'WorldModelClient',
    'action_limits',
    'goal_image',
    'goal_region',
    'reward',
    'smoothness',
]

FRAMES_S = 1.0  # how long frames may come after the answer
FRAMES_DEPTH = 256
DREAM_S = 60.0


class WorldModelClient:
    """A planner's view of a `world_model_node`. See the module text.

    Args:
        node: the planner's; its name is the queries' owner, it completes `evaluate_async`.
        name: of the world model's node.
        timeout_s: for a world model to appear, and for its answers.
    """

    def __init__(self, node: Node, name: str = '/world_model', timeout_s: float = 10.0) -> None:
        self.owner = node.get_fully_qualified_name()
        self._name = name
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._link = PlannerLink(node, name, timeout_s)
        topic = f'{name}/evaluate_candidates'
        self._questions = PlannerQuestions(node, EvaluateCandidates, topic, timeout_s)
        self._query = ''  # whose frames are kept
        self._frames: dict[Place, ImageArray] = {}

    def close(self) -> None:
        """Take the helper node down; futures that wait are cancelled."""
        self._questions.close()
        self._link.close()

    def evaluate(
        self,
        actions_KTA: npt.ArrayLike,
        objective: Sequence[ObjectiveTerm],
        *,
        wanted: Wanted = always,
        **options: Any,
    ) -> Answer:
        """Return what candidates cost, with the frames asked for that have come within a second of
        the answer.

        Args:
            actions_KTA: [K, T, A] in physical units, as commands are published.
            objective: what is wanted: `goal_image`, `goal_region`, `smoothness`, `action_limits`,
                `reward`.
            wanted: asked while the call waits; at False it is given up.
            **options: further fields of the EvaluateCandidates request: `state`, `draws`, `seed`,
                `deadline_ms`, `allow_partial`, `frames_wanted`, `frames_every`, `owner`. A
                deadline beyond the client's time limit, or none, becomes that limit.

        Raises:
            QueryError: refused; DEADLINE where it is not done within the client's time limit;
                CANCELLED when it was given up.
            TimeoutError: no world model, or no answer.
        """
        request = evaluation_request(actions_KTA, objective, self.owner, options)
        read = limit(request, self._timeout_s)
        with self._lock:
            if request.frames_wanted == request.FRAMES_NONE:
                return read(self._evaluate(request, wanted))
            self._query = request.query = request.query or uuid4().hex
            self._link.listen(ImaginedFrame, 'imagined', self._take_frame, FRAMES_DEPTH)
            try:
                answer = read(self._evaluate(request, wanted))
                places = answer.places(request)
                # Costs are not lost with a frame: a deadline stops the decoding, topics lose some.
                with suppress(TimeoutError):
                    self._link.until(
                        lambda: places <= self._frames.keys(), 'imagined: no frames', FRAMES_S
                    )
                return replace(answer, frames=dict(self._frames))
            finally:
                self._query = ''
                self._frames.clear()

    def evaluate_async(
        self, actions_KTA: npt.ArrayLike, objective: Sequence[ObjectiveTerm], **options: Any
    ) -> Future:
        """Ask as `evaluate` does and return at once; frames are for whoever hears ~/imagined.

        Returns:
            A future of an Answer, or of what `evaluate` raises: of TimeoutError too, where no
            world model appears. Cancel it to have the answer dropped.
        """
        request = evaluation_request(actions_KTA, objective, self.owner, options)
        return self._questions.ask(request, limit(request, self._timeout_s))

    def imagine(
        self,
        actions_TA: npt.ArrayLike,
        *,
        on_step: Callable[[Imagine.Feedback], None] | None = None,
        timeout_s: float = DREAM_S,
        **options: Any,
    ) -> Dreamt:
        """Dream on under a sequence of actions, to its end.

        Args:
            actions_TA: [T, A] in physical units.
            on_step: told about each imagined frame.
            timeout_s: after which the dream is cancelled.
            **options: further fields of the Imagine goal: `state`, `seed`, `frames`, `query`,
                `keep_state`, `keep_s`.

        Raises:
            QueryError: refused.
            TimeoutError: no world model, or not done in time.
        """
        actions = np.asarray(actions_TA, np.float32)
        if actions.ndim != 2:
            raise QueryError(QueryCode.WRONG_DIMS, f'actions of shape {list(actions.shape)}')
        goal = Imagine.Goal(
            owner=self.owner,
            actions=convert.float_array(actions),
            steps=actions.shape[0],
            action_width=actions.shape[1],
            **options,
        )

        with self._lock:
            result = self._link.carry_out(
                Imagine, 'imagine', goal, on_step or (lambda _: None), timeout_s
            )
        return Dreamt.read(result)

    def fork(self, state: int = 0, keep_s: float = 0.0, wanted: Wanted = always) -> StateHandle:
        """Keep a copy of the live memory (0) or of a kept state; raises as `evaluate`."""
        request = ForkState.Request(owner=self.owner, state=state, keep_s=keep_s)
        return self._ask(ForkState, 'fork_state', request, wanted=wanted).handle

    def keep(self, state: int, keep_s: float = 0.0) -> StateHandle:
        """Keep a kept state for this long from now; raises as `evaluate`."""
        request = KeepState.Request(state=state, keep_s=keep_s)
        return self._ask(KeepState, 'keep_state', request).handle

    def states(self, owner: str = '') -> list[StateHandle]:
        """Return what is kept, oldest first; '' for everybody's. Raises as `evaluate`."""
        request = ListStates.Request(owner=owner)
        return list(self._ask(ListStates, 'list_states', request).states)

    def drop(self, state: int = 0, timeout_s: float | None = None) -> int:
        """Give a kept state back, with 0 all of this planner's; return how many. Raises as
        `evaluate`.
        """
        request = DropState.Request(state=state, owner=self.owner)
        return int(self._ask(DropState, 'drop_state', request, timeout_s).dropped)

    def _evaluate(self, request: EvaluateCandidates.Request, wanted: Wanted) -> Any:
        return self._link.call(EvaluateCandidates, 'evaluate_candidates', request, wanted=wanted)

    def _ask(
        self,
        kind: Any,
        service: str,
        request: Any,
        timeout_s: float | None = None,
        wanted: Wanted = always,
    ) -> Any:
        with self._lock:
            response = self._link.call(kind, service, request, timeout_s, wanted)
        raise_refusal(response)
        return response

    def _take_frame(self, message: ImaginedFrame) -> None:
        if message.query == self._query:
            self._frames[message.candidate, message.step] = picture(message)
