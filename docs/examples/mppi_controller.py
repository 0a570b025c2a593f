"""Follow a goal picture with MPPI: one query per control cycle, within a deadline.

    python docs/examples/mppi_controller.py

While the commands of one cycle are carried out, the next ones are searched. Candidates begin with
the commands that are still to come, so that they act when the answer is there. The search begins
with the last plan, shifted by a cycle. An answer that looks less far than asked is used; where
none comes in time, the robot holds still.

Axes: K candidates, T time, A action, P parameters.
"""

from __future__ import annotations

import signal
from array import array
from collections import deque
from functools import partial
from threading import Condition, Event, Thread
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from sensor_msgs.msg import Image
from wm_ros_msgs.msg import Action, ModelInfo, Prediction

from wm_ros.nodes.planner_client import QueryError, WorldModelClient, goal_image, smoothness
from wm_ros.planning.solvers import Mppi
from wm_ros.planning.spaces import Knots

Array = npt.NDArray[np.floating]
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
JOINTS = ('x', 'y', 'z')  # action entries that move; the others are held
CYCLE, AHEAD = 8, 10  # frames of a cycle, and of a plan for the time after it
CANDIDATES = 8  # one sub-batch: what a busy core answers in a cycle; take more if you can
MOST_STEP = 0.1  # from frame to frame, as a share of an entry's range
MARGIN = 0.8  # share of a cycle that an answer may take; the rest is for its way


def stamp_ns(message: Action) -> int:
    """Return the instant from which a command is in force."""
    return int(Time.from_msg(message.header.stamp).nanoseconds)


class Controller(Node):
    """One thread hears and commands, frame by frame; another one plans, cycle by cycle."""

    def __init__(self) -> None:
        super().__init__('mppi_controller')
        self.client = WorldModelClient(self)
        self.info: Any = None
        self.goal: Any = None
        self.command: Any = None  # in force, or given for the next frame
        self.seen_ns = 0  # stamp of the newest frame that the world model has seen
        self.todo: deque[Array] = deque()  # commands for the frames after the next one
        self.news = Condition()  # guards the last three
        self.over = Event()
        hear = self.create_subscription
        hear(ModelInfo, '/world_model/model_info', partial(setattr, self, 'info'), LATCHED)
        hear(Prediction, '/world_model/prediction', self.hear_frame, 10)
        hear(Action, '/command', self.hear_command, 10)
        hear(Image, '~/goal', partial(setattr, self, 'goal'), 1)
        self.commands = self.create_publisher(Action, '/command', 10)

    def hear_frame(self, message: Prediction) -> None:
        """Give the command for the frame after the one that the world model has just seen: stamped
        in the middle between the two, where a camera that is early or late moves it to neither.
        """
        seen_ns = Time.from_msg(message.source_stamp).nanoseconds
        with self.news:
            if seen_ns == self.seen_ns:
                return  # a prediction further ahead: nothing new has been seen
            self.seen_ns = seen_ns
            if self.todo:
                self.command = Action(values=array('f', self.todo.popleft()))
                half_ns = round(0.5e9 / self.info.rate_hz + 1e6 * self.info.action_lead_ms)
                self.command.header.stamp = Time(nanoseconds=seen_ns + half_ns).to_msg()
                self.commands.publish(self.command)
            self.news.notify_all()

    def hear_command(self, message: Action) -> None:
        """Keep the newest by its stamp: an echo of an own command may come after the next one."""
        with self.news:
            if not self.command or stamp_ns(message) >= stamp_ns(self.command):
                self.command = message

    def begin_cycle(self) -> tuple[int, Array]:
        """Wait until a cycle begins; return the stamp of the frame that it begins with, and the
        commands [CYCLE, A] that act from the next frame on, whatever comes of planning.
        """
        with self.news:
            begun_ns = self.seen_ns
            while (self.seen_ns == begun_ns or len(self.todo) >= CYCLE) and not self.over.is_set():
                self.news.wait(0.1)
            coming = [np.array(self.command.values), *self.todo]
            coming += [coming[-1]] * (CYCLE - len(coming))  # nothing planned: hold
            self.todo = deque(coming[1:])
            return self.seen_ns, np.stack(coming)

    def control(self) -> None:
        """Plan until it is over."""
        while not (self.info and self.goal and self.command):
            if self.over.wait(0.1):
                return
        limits_A2 = np.stack([self.info.action_low, self.info.action_high], 1).astype(np.float64)
        step_A = MOST_STEP * (limits_A2[:, 1] - limits_A2[:, 0])
        entries = tuple(self.info.action_names.index(joint) for joint in JOINTS)
        space = Knots(AHEAD, 2, entries, limits_A2, step_A)
        solver = Mppi(space.dims, CANDIDATES, temperature=0.05)
        rng = np.random.default_rng(0)
        deadline_ms = MARGIN * CYCLE * 1e3 / self.info.rate_hz
        while True:
            seen_ns, coming_TA = self.begin_cycle()
            if self.over.is_set():
                return
            plans_KTA = space.decode(solver.ask(rng), coming_TA[-1])
            coming_KTA = np.repeat(coming_TA[None], CANDIDATES, 0)
            try:
                answer = self.client.evaluate(
                    np.concatenate([coming_KTA, plans_KTA], 1),
                    [goal_image(self.goal), smoothness(0.01)],
                    draws=1,
                    seed=int(rng.integers(2**31)),
                    deadline_ms=deadline_ms,
                    allow_partial=True,
                )
            except (QueryError, TimeoutError) as error:
                self.get_logger().warning(f'no plan: {error}')
                continue
            if answer.state_stamp_ns != seen_ns:
                self.get_logger().warning('no plan: it begins at another frame than this cycle')
                continue
            steps = answer.horizon - CYCLE
            if steps < 1:
                self.get_logger().warning('no plan: all that was imagined is decided already')
                continue
            solver.tell(answer.costs_K)
            plan_TA = space.decode(solver.mean_P[None], coming_TA[-1])[0]
            self.get_logger().info(f'{steps} steps, cost {answer.costs_K.min():.3f}')
            with self.news:
                self.todo.extend(plan_TA[:CYCLE])
            solver.restart(space.shift(solver.mean_P, CYCLE))


def main() -> None:
    """Follow the newest goal until Ctrl-C."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Controller()
    # Not a KeyboardInterrupt, which could come between a lock and what gives it back.
    signal.signal(signal.SIGINT, lambda *_: node.over.set())
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = Thread(target=executor.spin)
    thread.start()
    try:
        node.control()
    finally:
        executor.shutdown()
        thread.join()
        node.client.close()
        node.destroy_node()
        rclpy.shutdown()


if __name__ == '__main__':
    main()
