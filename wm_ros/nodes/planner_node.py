"""`planner_node`: reaches what goal pictures show, by asking the world model. Reference planner.

It knows pictures, commands, costs and the arm's skills as command sequences; no pose of anything.
One goal at a time, as an action (ReachGoal): search a skill's parameters with EvaluateCandidates,
carry the winner out, look, search again, until nothing better than holding still is found.

Commands are stamped with the instant from which they are in force: the frame after the newest one
that the world model has seen. While it thinks, the robot holds.
"""

from __future__ import annotations

import threading
import traceback
from typing import TYPE_CHECKING, Any

import numpy as np
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile
from wm_ros_msgs.action import ReachGoal
from wm_ros_msgs.msg import Action, ModelInfo, Prediction

from wm_ros.config import PlannerConfig
from wm_ros.messages import stamp_to_ns
from wm_ros.nodes import convert, params, spin
from wm_ros.nodes.inputs import LATCHED
from wm_ros.nodes.planner_client import WorldModelClient
from wm_ros.planning.errors import QueryError
from wm_ros.planning.pursuit import Attempts, Choice, Effort, Priced, compare, decide
from wm_ros.planning.solvers import Cem, Mppi, RandomShooting, Solver
from wm_ros.planning.spaces import ActionSpace, Knots
from wm_ros.sim.skills import SPACES, SkillSpace

if TYPE_CHECKING:
    from wm_ros.datatypes import FloatArray

CODES = ReachGoal.Result
SOLVERS = ('cem', 'mppi', 'random')


class PursuitError(Exception):
    """A goal that cannot be pursued further: the code and the reason."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class PlannerNode(Node):
    """See the module text."""

    def __init__(self) -> None:
        super().__init__('planner')
        params.declare(self, PlannerConfig)
        self.config = params.read(self, PlannerConfig)
        self.client = WorldModelClient(self, self.config.world_model, self.config.answer_s)
        self.info: ModelInfo | None = None
        self.command_A: FloatArray | None = None
        self.seen_ns = 0
        self.news = threading.Condition()
        self.pursuing = threading.Lock()
        self.stopping = False
        group = ReentrantCallbackGroup()
        name = self.config.world_model
        self.create_subscription(
            ModelInfo, f'{name}/model_info', self.receive_info, LATCHED, callback_group=group
        )
        self.create_subscription(
            Prediction,
            f'{name}/prediction',
            self.receive_prediction,
            QoSProfile(depth=10),
            callback_group=group,
        )
        self.create_subscription(
            Action,
            self.config.command_topic,
            self.receive_command,
            QoSProfile(depth=10),
            callback_group=group,
        )
        self.commands = self.create_publisher(
            Action, self.config.command_topic, QoSProfile(depth=10)
        )
        self.server = ActionServer(
            self,
            ReachGoal,
            '~/reach_goal',
            self.pursue,
            callback_group=group,
            goal_callback=lambda _: GoalResponse.ACCEPT,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )

    # --- what it hears ---

    def receive_info(self, message: ModelInfo) -> None:
        """Keep the names and limits of commands, and the rate."""
        self.info = message

    def receive_command(self, message: Action) -> None:
        """Keep the command in force, whoever gave it."""
        values_A = np.asarray(message.values, np.float32)
        if self.info is not None and values_A.size != len(self.info.action_names):
            return  # the world model refuses and counts it
        self.command_A = values_A

    def receive_prediction(self, message: Prediction) -> None:
        """Note which frame the world model has seen."""
        if message.horizon == 1:
            with self.news:
                self.seen_ns = stamp_to_ns(message.source_stamp)
                self.news.notify_all()

    # --- one goal ---

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
        goal = handle.request
        space, solver = self.space(goal.skill), self.solver(goal.solver, goal.skill)
        if goal.most_skills < 1:
            raise PursuitError(CODES.INVALID_GOAL, 'most_skills is 0: expected 1 or more')
        effort = Effort(
            self.config.rounds,
            self.config.finalists,
            self.config.draws,
            self.config.final_draws,
            self.config.margin,
        )
        rng = np.random.default_rng(goal.seed)
        attempts = Attempts()
        while result.skills < goal.most_skills:
            choice = self.decide(handle, space, solver, rng, effort, attempts)
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
            if not len(choice.actions_TA):
                return
            self.act(handle, choice.actions_TA)
            result.skills += 1

    def decide(
        self,
        handle: Any,
        space: ActionSpace,
        solver: Solver,
        rng: np.random.Generator,
        effort: Effort,
        attempts: Attempts,
    ) -> Choice:
        """Search from what the world model has seen by now.

        Raises:
            PursuitError: a query is refused, or nobody answers.
        """
        command_A = self.command()

        def price(actions_KTA: FloatArray, seed: int, draws: int) -> Priced:
            self.require_wanted(handle)
            try:
                answer = self.client.evaluate(
                    actions_KTA, handle.request.objective, seed=seed, draws=draws
                )
            except QueryError as error:
                text = f'{error.code.name} ({error.code.value}): {error}'
                raise PursuitError(CODES.QUERY_REFUSED, text) from error
            except TimeoutError as error:
                raise PursuitError(CODES.NO_WORLD_MODEL, str(error)) from error
            return Priced(answer.costs_K, answer.cost_steps_K, answer.uncertainty_K)

        if isinstance(space, SkillSpace) and space.settings is not None:
            actions_KTA = space.decode(space.settings, command_A)
            return compare(price, actions_KTA, command_A, rng, effort)
        return decide(price, space, solver, command_A, rng, effort, attempts)

    def act(self, handle: Any, actions_TA: FloatArray) -> None:
        """Give one command per frame, each for the frame after the newest one seen.

        Raises:
            PursuitError: cancelled, or no more predictions come.
        """
        period_ns = round(1e9 / self.model().rate_hz)
        for action_A in actions_TA:
            self.require_wanted(handle)
            stamp_ns = self.seen_ns + period_ns
            self.commands.publish(
                Action(header=convert.header(stamp_ns, ''), values=convert.float_array(action_A))
            )
            self.command_A = action_A
            self.wait_for_frame(stamp_ns - period_ns // 2)

    def wait_for_frame(self, stamp_ns: int) -> None:
        """Wait until the world model has seen a frame of that stamp or later.

        Raises:
            PursuitError: it does not come.
        """
        with self.news:
            if not self.news.wait_for(
                lambda: self.stopping or self.seen_ns >= stamp_ns, self.config.answer_s
            ):
                raise PursuitError(
                    CODES.NO_WORLD_MODEL,
                    f'no prediction from {self.config.world_model} for {self.config.answer_s:g} s',
                )

    def require_wanted(self, handle: Any) -> None:
        """Raise PursuitError when the goal was cancelled or the node is ending."""
        if handle.is_cancel_requested or self.stopping:
            raise PursuitError(CODES.CANCELLED, 'cancelled: the robot holds still')

    def end_waiting(self) -> None:
        """Let a goal that is being pursued end at its next step; called before the node ends."""
        with self.news:
            self.stopping = True
            self.news.notify_all()

    def destroy_node(self) -> None:
        """Give the client back, then the node."""
        self.client.close()
        super().destroy_node()

    # --- what it was given ---

    def model(self) -> ModelInfo:
        """Return what the world model says of itself.

        Raises:
            PursuitError: it has not said anything yet.
        """
        if self.info is None:
            raise PursuitError(
                CODES.NO_WORLD_MODEL, f'no {self.config.world_model}/model_info: is it active?'
            )
        return self.info

    def command(self) -> FloatArray:
        """Return the command in force.

        Raises:
            PursuitError: nobody has commanded anything yet.
        """
        if self.command_A is None:
            raise PursuitError(
                CODES.NO_WORLD_MODEL, f'no command on {self.config.command_topic} yet'
            )
        return self.command_A

    def space(self, skill: str) -> ActionSpace:
        """Return the space of a skill.

        Raises:
            PursuitError: unknown skill.
        """
        if skill == 'knots':
            return self.knots()
        if skill not in SPACES:
            raise PursuitError(
                CODES.INVALID_GOAL, f'skill {skill!r}: expected knots, {", ".join(SPACES)}'
            )
        return SPACES[skill]

    def knots(self) -> Knots:
        """Return free motions of the entries that the node is set to.

        Raises:
            PursuitError: an entry that the robot has not got.
        """
        info, names = self.model(), list(self.model().action_names)
        try:
            entries = tuple(names.index(name) for name in self.config.knot_entries)
        except ValueError as error:
            raise PursuitError(CODES.INVALID_GOAL, f'knot_entries: {error}') from error
        limits_A2 = np.stack([info.action_low, info.action_high], 1).astype(np.float64)
        step_A = self.config.knot_step * (limits_A2[:, 1] - limits_A2[:, 0])
        return Knots(self.config.knot_frames, self.config.knots, entries, limits_A2, step_A)

    def solver(self, name: str, skill: str) -> Solver:
        """Return a solver for a skill.

        Raises:
            PursuitError: unknown solver.
        """
        name, dims = name or self.config.solver, self.space(skill).dims
        candidates = self.config.candidates
        if name == 'cem':
            return Cem(dims, candidates, max(2, candidates // 8))
        if name == 'mppi':
            return Mppi(dims, candidates)
        if name == 'random':
            return RandomShooting(dims, candidates)
        raise PursuitError(
            CODES.INVALID_GOAL, f'solver {name!r}: expected one of {", ".join(SOLVERS)}'
        )


def main() -> int:
    """Run the node until SIGINT or SIGTERM."""
    return spin.run(PlannerNode, threads=3)


if __name__ == '__main__':
    raise SystemExit(main())
