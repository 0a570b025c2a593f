"""The robot and judge of a planning run: plays a goal's past, gives the goal to the planner, does
what it commands, and says where that ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from wm_ros_msgs.action import ReachGoal
from wm_ros_msgs.msg import Prediction

from wm_ros.messages import stamp_to_ns
from wm_ros.nodes.objective_terms import goal_image, goal_region
from wm_ros.nodes.stage import Stage, StageTimeout, wait_for
from wm_ros.sim.goals import Goal

START_S, FRAME_S, THINK_S = 90.0, 20.0, 120.0
SETTLE_FRAMES = 3


class Judge:
    """The robot, and who asks the planner; one process, one executor.

    Args:
        image_size: side of the picture, px.
        check: called while it waits; raises where there is nobody left to wait for.
    """

    def __init__(self, image_size: int, check: Callable[[], None] = lambda: None) -> None:
        self.stage = Stage(image_size)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.stage)
        self.seen_ns = 0
        self._check = check
        self.stage.create_subscription(
            Prediction, '/world_model/prediction', self.receive, QoSProfile(depth=10)
        )
        self.planner = ActionClient(self.stage, ReachGoal, '/planner/reach_goal')

    def receive(self, message: Prediction) -> None:
        """Note what the world model has seen."""
        self.seen_ns = stamp_to_ns(message.source_stamp)

    def spin(self, timeout_s: float) -> None:
        """Handle one event; raises what `check` raises."""
        self._check()
        self.executor.spin_once(timeout_sec=timeout_s)

    def wait_seen(self, timeout_s: float = FRAME_S) -> None:
        """Wait until the world model has seen the newest frame."""
        stage = self.stage
        wait_for(lambda: self.seen_ns >= stage.stamp_ns, self.spin, timeout_s, 'a prediction')

    def play_past(self, goal: Goal) -> None:
        """Lead the world from its first frame to the goal's start; the world model watches."""
        stage = self.stage
        stage.begin(goal)
        for index, command_A in enumerate(goal.past_TA):
            if index:
                stage.advance()
            stage.show(command_A)
            self.wait_seen(START_S if stage.frames == 1 else FRAME_S)

    def pursue(self, goal: Goal, solver: str, seed: int) -> ReachGoal.Result:
        """Give the planner a goal and be its robot until it is done, and a little longer."""
        stage = self.stage
        asked = self.planner.send_goal_async(request(goal, solver, seed))
        wait_for(asked.done, self.spin, FRAME_S, 'the planner')
        done = asked.result().get_result_async()
        patience_s = time.monotonic() + THINK_S
        while not done.done():
            self.spin(0.05)
            if stage.take_command():
                stage.follow()
                self.wait_seen()
                patience_s = time.monotonic() + THINK_S
            if time.monotonic() > patience_s:
                raise StageTimeout(f'no command and no result for {THINK_S:g} s')
        for _ in range(SETTLE_FRAMES):
            stage.advance()
            stage.show(stage.command_A)
            self.wait_seen()
        return done.result().result

    def ready(self) -> None:
        """Wait for the planner and for everyone who watches."""
        stage = self.stage
        wait_for(self.planner.server_is_ready, self.spin, START_S, 'the planner')
        wait_for(
            lambda: (
                stage.camera.get_subscription_count() >= 1
                and stage.commands.get_subscription_count() >= 3
            ),
            self.spin,
            START_S,
            'the world model',
        )
        end_s = time.monotonic() + 1.0
        while time.monotonic() < end_s:
            self.spin(0.05)

    def close(self) -> None:
        """Take everything down."""
        self.executor.shutdown()
        self.planner.destroy()
        self.stage.destroy_node()


def request(goal: Goal, solver: str, seed: int) -> ReachGoal.Goal:
    """Return the planner's goal: pictures, region, skill; no pose."""
    pictures = list(goal.pictures_GHWC)
    if goal.region is None:
        term = goal_image(pictures, over=goal.over)
    else:
        term = goal_region(pictures, goal.region, over=goal.over)
    return ReachGoal.Goal(
        objective=[term],
        skill=goal.skill,
        most_skills=goal.most_skills,
        solver=solver,
        seed=seed,
    )
