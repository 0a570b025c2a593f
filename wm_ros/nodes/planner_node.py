"""`planner_node`: reaches what goal pictures show, by asking the world model. Reference planner.

It knows pictures, commands, costs and the arm's skills as command sequences; no pose of anything.
One goal at a time, as an action (ReachGoal): search a skill's parameters with EvaluateCandidates,
carry the winner out, look, search again, until nothing better than holding still is found. While
it thinks, the robot holds.

What a goal means: planner_goals.py. Searching: planner_decision.py. Hearing and commanding:
planner_robot.py. Here is the life of a goal: accepted, pursued, ended with a code.
"""

from __future__ import annotations

import threading
import time
import traceback
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from wm_ros_msgs.action import ReachGoal

from wm_ros.config import PlannerConfig
from wm_ros.nodes import convert, params, spin
from wm_ros.nodes.planner_client import WorldModelClient
from wm_ros.nodes.planner_decision import Decisions
from wm_ros.nodes.planner_goals import CODES, PursuitError, read_task
from wm_ros.nodes.planner_robot import PlannerRobot
from wm_ros.planning.pursuit import Choice

LAST_WORD_S = 5.0  # for a goal that is being pursued to end before the node does
RESULT_S = 0.2  # for its result to be sent


class PlannerNode(Node):
    """See the module text."""

    def __init__(self) -> None:
        super().__init__('planner')
        params.declare(self, PlannerConfig)
        self.config = params.read(self, PlannerConfig)
        self.client = WorldModelClient(self, self.config.world_model, self.config.answer_s)
        self.pursuing = threading.Lock()
        self.stopping = False
        group = ReentrantCallbackGroup()
        self.robot = PlannerRobot(self, self.config, group)
        self.server = ActionServer(
            self,
            ReachGoal,
            '~/reach_goal',
            self.pursue,
            callback_group=group,
            goal_callback=lambda _: GoalResponse.ACCEPT,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )

    def pursue(self, handle: Any) -> ReachGoal.Result:
        """Carry out one action goal."""
        result = ReachGoal.Result()
        if not self.pursuing.acquire(blocking=False):
            handle.abort()
            result.error_code, result.message = CODES.BUSY, 'another goal is being pursued'
            return result
        try:
            self.pursue_alone(handle, result)
            handle.succeed()
            result.success = True
        except PursuitError as error:
            result.error_code, result.message = error.code, str(error)
            if error.code == CODES.CANCELLED and handle.is_cancel_requested:
                handle.canceled()
            else:
                handle.abort()
            self.get_logger().warning(f'goal given up: {error}')
        except Exception as error:
            result.error_code, result.message = CODES.UNKNOWN, repr(error)
            handle.abort()
            self.get_logger().error(f'goal given up:\n{traceback.format_exc()}')
        finally:
            self.pursuing.release()
        return result

    def pursue_alone(self, handle: Any, result: ReachGoal.Result) -> None:
        """Decide and act by turns.

        Raises:
            PursuitError: it cannot go on.
        """

        def wanted() -> bool:
            return not (handle.is_cancel_requested or self.stopping)

        def require_wanted() -> None:
            if not wanted():
                raise PursuitError(CODES.CANCELLED, 'cancelled: the robot holds still')

        self.robot.listen(require_wanted)
        task = read_task(handle.request, self.config, self.robot.model())
        decisions = Decisions(self.client, task, self.config.answer_s, wanted)
        while result.skills < task.most_skills:
            choice = decisions.decide(self.robot.command())
            self.tell(handle, result, choice, decisions.state_age_ms)
            if not len(choice.actions_TA):
                return
            self.robot.follow(choice.actions_TA, require_wanted)
            result.skills += 1

    def tell(
        self, handle: Any, result: ReachGoal.Result, choice: Choice, state_age_ms: float
    ) -> None:
        """Add a decision to the result, and publish it as feedback."""
        result.queries += choice.queries
        result.candidate_steps += choice.candidate_steps
        result.cost, result.hold_cost = choice.cost, choice.hold_cost
        handle.publish_feedback(
            ReachGoal.Feedback(
                skills=result.skills,
                cost=choice.cost,
                hold_cost=choice.hold_cost,
                uncertainty=choice.uncertainty,
                actions=convert.float_array(choice.actions_TA.reshape(-1)),
            )
        )
        self.get_logger().info(
            f'cost {choice.cost:.3f}, holding still {choice.hold_cost:.3f}: '
            f'{len(choice.actions_TA)} commands, from a state {state_age_ms:.0f} ms old'
        )

    def end_waiting(self) -> None:
        """End the goal that is being pursued and send its result; called before the node ends,
        by the thread that spins it.
        """
        self.stopping = True
        if self.executor is None or not self.pursuing.locked():
            return
        end_s = time.monotonic() + LAST_WORD_S
        while self.pursuing.locked() and time.monotonic() < end_s:
            spin.spin_once(self.executor, self, 0.02)
        end_s = time.monotonic() + RESULT_S
        while time.monotonic() < end_s:
            spin.spin_once(self.executor, self, 0.02)

    def destroy_node(self) -> None:
        """Give the client back, then the node."""
        self.client.close()
        super().destroy_node()


def main() -> int:
    """Run the node until SIGINT or SIGTERM."""
    return spin.run(PlannerNode, threads=3)


if __name__ == '__main__':
    raise SystemExit(main())
