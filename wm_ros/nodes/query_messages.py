"""Between the messages of planner queries and plain values. Refuses what cannot be a query.

Axes: K candidates, T time, A action.
"""

from __future__ import annotations

import array
import math
from typing import Any

import numpy as np
from wm_ros_msgs.msg import ImaginedFrame as ImaginedFrameMessage
from wm_ros_msgs.msg import StateHandle

from wm_ros.contract import StreamContract
from wm_ros.datatypes import FloatArray
from wm_ros.nodes import convert
from wm_ros.nodes.objective_messages import terms
from wm_ros.planning.query import (
    Evaluation,
    FramesWanted,
    ImaginedFrame,
    Limits,
    Query,
    QueryCode,
    QueryError,
    Start,
    check_candidates,
)
from wm_ros.planning.states import LONGEST_KEEP_S, OWNER_CHARACTERS, Handle


def query(
    request: Any, start: Start, contract: StreamContract, limits: Limits, draws: int
) -> Query:
    """Return the query of an EvaluateCandidates request.

    Args:
        request: as it came.
        start: where it begins.
        contract: of this robot.
        limits: of this node.
        draws: M where the request asks for none.

    Raises:
        QueryError: whatever is wrong with it.
    """
    dims = (request.candidates, request.steps, request.action_width)
    actions_KTA = check_candidates(request.actions, dims, contract, limits)
    if request.frames_wanted not in tuple(FramesWanted):
        known = ', '.join(f'{wanted.value} ({wanted.name})' for wanted in FramesWanted)
        raise QueryError(
            QueryCode.INVALID_REQUEST,
            f'frames_wanted is {request.frames_wanted}: expected one of {known}',
        )
    return Query(
        start,
        actions_KTA,
        terms(request.objective, contract, limits),
        draws=request.draws or draws,
        seed=request.seed,
        frames=FramesWanted(request.frames_wanted),
        every=max(request.frames_every, 1),
    )


def dream_actions(goal: Any, contract: StreamContract, limits: Limits) -> FloatArray:
    """Return the actions of an Imagine goal, float32 [T, A] in [-1, 1]; raises as `query`."""
    dims = (1, goal.steps, goal.action_width)
    actions_TA: FloatArray = check_candidates(goal.actions, dims, contract, limits)[0]
    return actions_TA


def deadline_ns(deadline_ms: float, received_ns: int) -> int | None:
    """Return a deadline by the clock of `received_ns`, None for none.

    Raises:
        QueryError: INVALID_REQUEST, it is negative or not a number.
    """
    if not (math.isfinite(deadline_ms) and deadline_ms >= 0):
        raise QueryError(
            QueryCode.INVALID_REQUEST, f'deadline_ms is {deadline_ms}: expected 0 or more'
        )
    return received_ns + round(deadline_ms * 1e6) if deadline_ms else None


def check_keeping(owner: str, keep_s: float) -> None:
    """Refuse an owner or a time that no state can be kept with: before the work, not after it."""
    if len(owner) > OWNER_CHARACTERS:
        raise QueryError(
            QueryCode.INVALID_REQUEST,
            f'owner of {len(owner)} characters: at most {OWNER_CHARACTERS}',
        )
    if not (math.isfinite(keep_s) and 0 <= keep_s <= LONGEST_KEEP_S):
        raise QueryError(
            QueryCode.INVALID_REQUEST,
            f'keep_s is {keep_s}: expected 0 (the default) to {LONGEST_KEEP_S:g}',
        )


def fill_evaluation(response: Any, evaluation: Evaluation) -> None:
    """Write costs and what belongs to them into an EvaluateCandidates response."""
    response.success = True
    response.costs = convert.float_array(evaluation.costs_K)
    response.cost_steps = array.array('I', evaluation.cost_steps_K.astype(np.uint32).tobytes())
    response.term_names = list(evaluation.terms)
    response.term_costs = convert.float_array(np.concatenate(list(evaluation.terms.values())))
    response.uncertainty = convert.float_array(evaluation.uncertainty_K)
    response.calibrated = evaluation.calibrated
    response.best = evaluation.best
    response.horizon = evaluation.horizon
    response.partial = evaluation.partial


def state_handle(handle: Handle, now_s: float) -> StateHandle:
    """Return what is told about a kept state.

    Args:
        handle: of the store.
        now_s: by the clock of the store.
    """
    return StateHandle(
        id=handle.id,
        owner=handle.owner,
        frames=handle.frames,
        imagined=handle.imagined,
        stamp=convert.ns_to_stamp(handle.stamp_ns),
        latched=handle.latched,
        age_s=handle.age_s(now_s),
        expires_in_s=handle.expires_s - now_s,
        bytes=handle.nbytes,
    )


def frame_message(
    frame: ImaginedFrame, query_name: str, stamp_ns: int, frame_id: str
) -> ImaginedFrameMessage:
    """Return an imagined frame as a message; `stamp_ns` is the instant that it shows."""
    head = convert.header(stamp_ns, frame_id)
    picture = convert.image_message(frame.image_HWC, head)
    return ImaginedFrameMessage(
        header=head, query=query_name, candidate=frame.candidate, step=frame.step, image=picture
    )
