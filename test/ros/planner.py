"""A planner for tests: makes requests for the table-top contract, and dreams, on a `Robot`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from action_msgs.msg import GoalStatus
from lifecycle_msgs.srv import ChangeState
from rclpy.action import ActionClient
from rclpy.qos import QoSProfile
from robot import MATCH_S, Robot
from wm_ros_msgs.action import Imagine
from wm_ros_msgs.msg import ImaginedFrame, ObjectiveTerm
from wm_ros_msgs.srv import EvaluateCandidates

from wm_ros.contract import StreamContract
from wm_ros.nodes import convert
from wm_ros.nodes.objective_terms import goal_image, smoothness

CONTRACT = StreamContract.load(Path(__file__).parents[2] / 'contracts' / 'tabletop.yaml')
A = CONTRACT.action_width
LOW_A, HIGH_A = CONTRACT.limits_A2.T
EVALUATE = '/world_model/evaluate_candidates'
CANDIDATES, STEPS = 32, 16  # of the nodes under test, at most


def candidates(k: int = 4, t: int = 3, seed: int = 0) -> np.ndarray:
    """Actions [K, T, A] in physical units, well inside the limits."""
    share_KTA = np.random.default_rng(seed).uniform(0.1, 0.9, (k, t, A))
    return (LOW_A + share_KTA * (HIGH_A - LOW_A)).astype(np.float32)


def picture(shade: int = 0, side: int = 64) -> np.ndarray:
    """A picture of blocks as large as a latent cell: the toy tokenizer repeats it exactly."""
    rng = np.random.default_rng(5)
    small = rng.integers(60, 160, (8, 8, 3)).astype(np.int64) + shade
    return cv2.resize(small.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)


def request(actions: Any = None, **fields: Any) -> dict[str, Any]:
    """The fields of a good EvaluateCandidates request, some of them changed."""
    actions_KTA = candidates() if actions is None else np.asarray(actions, np.float32)
    k, t, a = actions_KTA.shape
    return {
        'owner': 'test',
        'actions': convert.float_array(actions_KTA),
        'candidates': k,
        'steps': t,
        'action_width': a,
        'objective': [goal_image(picture()), smoothness(0.1)],
    } | fields


class Planner:
    """Queries on a robot's node."""

    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        self.frames: list[ImaginedFrame] = []
        robot.node.create_subscription(
            ImaginedFrame, '/world_model/imagined', self.frames.append, QoSProfile(depth=1000)
        )
        self.dreams = ActionClient(robot.node, Imagine, '/world_model/imagine')
        self.feedback: list[Any] = []
        self.asker: Any = None
        robot.until(self.dreams.server_is_ready, 'the imagine action')
        robot.spin(MATCH_S)

    def evaluate(self, actions: Any = None, **fields: Any) -> EvaluateCandidates.Response:
        """Ask and wait."""
        return self.robot.call(EvaluateCandidates, EVALUATE, **request(actions, **fields))

    def ask(self, actions: Any = None, **fields: Any) -> Any:
        """Ask and return the future; for many questions at once."""
        if self.asker is None:
            self.asker = self.robot.node.create_client(
                EvaluateCandidates, EVALUATE, qos_profile=QoSProfile(depth=1000)
            )
            self.robot.until(self.asker.service_is_ready, 'the service')
            self.robot.spin(MATCH_S)
        return self.asker.call_async(EvaluateCandidates.Request(**request(actions, **fields)))

    def dream(self, length: int = 5, /, **fields: Any) -> Any:
        """Begin a dream of so many steps and return its goal handle."""
        actions_TA = candidates(1, length)[0]
        goal = Imagine.Goal(
            **{
                'owner': 'test',
                'actions': convert.float_array(actions_TA),
                'steps': length,
                'action_width': A,
            }
            | fields
        )
        self.feedback.clear()
        future = self.dreams.send_goal_async(goal, lambda m: self.feedback.append(m.feedback))
        self.robot.until(future.done, 'the goal is accepted')
        handle = future.result()
        assert handle.accepted
        return handle

    def result(self, handle: Any) -> tuple[int, Imagine.Result]:
        """Wait for the end of a dream; return goal status and result."""
        future = handle.get_result_async()
        self.robot.until(future.done, 'the dream ends')
        answer = future.result()
        if answer.result.success:
            assert answer.status == GoalStatus.STATUS_SUCCEEDED
        return answer.status, answer.result

    def imagine(self, length: int = 5, /, **fields: Any) -> Imagine.Result:
        """Dream to the end."""
        return self.result(self.dream(length, **fields))[1]

    def change(self, transition: int) -> None:
        """Have the node go through a lifecycle transition."""
        request_ = ChangeState.Request()
        request_.transition.id = transition
        service = '/world_model/change_state'
        assert self.robot.call(ChangeState, service, transition=request_.transition).success


def costs(response: EvaluateCandidates.Response) -> bytes:
    """All numbers of an answer, to be compared bit by bit."""
    assert response.success, response.message
    parts = (response.costs, response.term_costs, response.uncertainty)
    return b''.join(np.array(part, np.float32).tobytes() for part in parts)


node_parameters = functools.partial(
    dict,
    backend='toy',
    seed=7,
    status_period_s=0.1,
    query_candidates=CANDIDATES,
    query_steps=STEPS,
)


def term(kind: str, **fields: Any) -> ObjectiveTerm:
    """A term as a message, whether it makes sense or not."""
    return ObjectiveTerm(**{'kind': kind, 'weight': 1.0} | fields)
