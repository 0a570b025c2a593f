"""Requests and answers of planners as values: what `planner_client.py` sends and returns.

Axes: K candidates, T time, A action, H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from wm_ros_msgs.action import Imagine
from wm_ros_msgs.msg import ImaginedFrame, ObjectiveTerm
from wm_ros_msgs.srv import EvaluateCandidates

from wm_ros.datatypes import FloatArray, ImageArray
from wm_ros.messages import stamp_to_ns
from wm_ros.nodes import convert
from wm_ros.planning.errors import QueryCode, QueryError

Place = tuple[int, int]  # candidate, step
WAY_SHARE = 0.05  # of a client's time limit, for the way there and back


@dataclass(frozen=True, eq=False)
class Answer:
    """What candidates cost.

    Attributes:
        costs_K: float32, lower is better.
        cost_steps_K: int64, after how many actions each cost is reached.
        terms: name -> float32 [K], before the weight.
        uncertainty_K: float32; NaN with one draw.
        calibrated: whether it is the expected RMS error of the last latent, or only comparable.
        best: index of the lowest cost.
        horizon: steps that the costs are taken over.
        partial: whether the deadline came first.
        state_stamp_ns: stamp of the state that the query started from.
        state_age_ms: its age when the answer was ready.
        state_frames: observed frames in it.
        latency_ms: in the world model's node.
        frames: (candidate, step) -> uint8 RGB [S, S, 3], those asked for that came.
    """

    costs_K: FloatArray
    cost_steps_K: npt.NDArray[np.int64]
    terms: Mapping[str, FloatArray]
    uncertainty_K: FloatArray
    calibrated: bool
    best: int
    horizon: int
    partial: bool
    state_stamp_ns: int
    state_age_ms: float
    state_frames: int
    latency_ms: float
    frames: Mapping[Place, ImageArray] = field(default_factory=dict)

    @classmethod
    def read(cls, response: EvaluateCandidates.Response) -> Answer:
        """Return what a response holds, or raise the QueryError that it carries."""
        raise_refusal(response, response.needed_ms)
        costs_K = np.array(response.costs, np.float32)
        terms_NK = np.array(response.term_costs, np.float32).reshape(-1, len(costs_K))
        return cls(
            costs_K,
            np.array(response.cost_steps, np.int64),
            dict(zip(response.term_names, terms_NK, strict=True)),
            np.array(response.uncertainty, np.float32),
            response.calibrated,
            response.best,
            response.horizon,
            response.partial,
            stamp_to_ns(response.state_stamp),
            response.state_age_ms,
            response.state_frames,
            response.latency_ms,
        )

    def places(self, request: EvaluateCandidates.Request) -> set[Place]:
        """Return the candidates and steps of the frames that a request asked for."""
        every = max(request.frames_every, 1)
        done, last = range(self.horizon), self.horizon - 1
        if request.frames_wanted == request.FRAMES_LAST:
            return {(k, last) for k in range(len(self.costs_K))}
        if request.frames_wanted == request.FRAMES_BEST:
            return {(self.best, t) for t in done if (last - t) % every == 0}
        if request.frames_wanted == request.FRAMES_EVERY:
            steps = [t for t in done if (request.steps - 1 - t) % every == 0]
            return {(k, t) for k in range(len(self.costs_K)) for t in steps}
        return set()


@dataclass(frozen=True)
class Dreamt:
    """What a dream led to.

    Attributes:
        state: id of the kept state, 0 where none was asked for.
        horizon: steps done.
        state_stamp_ns: stamp of the state that it started from.
        latency_ms: in the world model's node.
    """

    state: int
    horizon: int
    state_stamp_ns: int
    latency_ms: float

    @classmethod
    def read(cls, result: Imagine.Result) -> Dreamt:
        """Return what a result holds, or raise the QueryError that it carries."""
        raise_refusal(result)
        return cls(
            result.state, result.horizon, stamp_to_ns(result.state_stamp), result.latency_ms
        )


def evaluation_request(
    actions_KTA: npt.ArrayLike,
    objective: Sequence[ObjectiveTerm],
    owner: str,
    options: Mapping[str, Any],
) -> EvaluateCandidates.Request:
    """Return a request for candidates [K, T, A]; `options` are further fields of it."""
    actions = np.asarray(actions_KTA, np.float32)
    if actions.ndim != 3:
        raise QueryError(
            QueryCode.WRONG_DIMS,
            f'actions of shape {list(actions.shape)}: expected [candidates, steps, entries]',
        )
    k, t, a = actions.shape
    fields = {'owner': owner, **options}
    return EvaluateCandidates.Request(
        actions=convert.float_array(actions),
        candidates=k,
        steps=t,
        action_width=a,
        objective=list(objective),
        **fields,
    )


def limit(
    request: EvaluateCandidates.Request, timeout_s: float
) -> Callable[[EvaluateCandidates.Response], Answer]:
    """Have the world model stop in time for a client that waits that long: set the deadline of a
    request that has none, or a later one.

    Who gave no deadline gets no refusal by an estimate: the node may begin, and stop at the
    deadline; what it then has is less than was asked for, and refused here.

    Returns:
        What reads the response; raises as `Answer.read`, and DEADLINE for such a rest.
    """
    latest_ms = timeout_s * 1e3 * (1 - WAY_SHARE)
    only_whole = request.deadline_ms == 0 and not request.allow_partial
    if request.deadline_ms == 0 or request.deadline_ms > latest_ms:
        request.deadline_ms = latest_ms
    if only_whole:
        request.allow_partial = True

    def read(response: EvaluateCandidates.Response) -> Answer:
        answer = Answer.read(response)
        if only_whole and answer.partial:
            text = f'{answer.horizon} of {request.steps} steps within {latest_ms:.0f} ms'
            needed_ms = answer.latency_ms * request.steps / answer.horizon
            raise QueryError(QueryCode.DEADLINE, text, needed_ms)
        return answer

    return read


def picture(message: ImaginedFrame) -> ImageArray:
    """Return the picture of an imagined frame, uint8 RGB [S, S, 3]."""
    image = message.image
    return np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)


def raise_refusal(response: Any, needed_ms: float = 0.0) -> None:
    """Raise the QueryError that a response or result carries, if it does."""
    if response.success:
        return
    known = response.error_code in tuple(QueryCode)
    code = QueryCode(response.error_code) if known else QueryCode.UNKNOWN
    raise QueryError(code, response.message, needed_ms)
