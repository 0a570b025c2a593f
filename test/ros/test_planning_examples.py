"""docs/planning.md followed to the letter: its two examples beside the shipped package and the
simulator on the real clock, its code against a node.
"""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import rclpy
from planner import CONTRACT, HIGH_A, LOW_A, A, candidates, picture
from rclpy.qos import QoSProfile
from robot import PERIOD_NS, Child, Robot
from sensor_msgs.msg import Image
from wm_ros_msgs.msg import Action, Prediction

from wm_ros.config import CAMERA_TOPIC, COMMAND_TOPIC
from wm_ros.messages import stamp_to_ns
from wm_ros.nodes import convert
from wm_ros.nodes.planner_client import goal_image
from wm_ros.sim.skills import rest_command
from wm_ros.toy_package import write_toy_package

pytestmark = pytest.mark.ros

DOCS = Path(__file__).parents[2] / 'docs'
BLOCKS = re.findall(r'```python\n(.*?)```', (DOCS / 'planning.md').read_text(), re.DOTALL)
(TEACHER,) = [block for block in BLOCKS if 'rclpy.init()' in block]
EXAMPLES = ('choose_trajectory', 'mppi_controller')
GOAL_M = (-0.09, -0.1, 0.12)  # where the teacher takes its picture, and trajectory 3 leads
REST_M = (0.0, 0.115, 0.24)
FRAMES = 4500  # three minutes, longer than these tests


class Script(Child):
    """Python beside the nodes: an example, or a piece of the page."""

    def __init__(self, log: Path, *words: str) -> None:
        self.log = log
        with log.open('w') as file:
            self.process = subprocess.Popen(
                [sys.executable, *words], stdout=file, stderr=subprocess.STDOUT
            )


class World:
    """The robot as it is seen from outside.

    Attributes:
        commands: messages since the last goal was shown, the example's alone.
        pictures: the newest of the camera.
    """

    def __init__(self, robot: Robot, truth: Path, logs: Path) -> None:
        self.robot, self.truth, self.logs = robot, truth, logs
        self.commands: list[Action] = []
        self.pictures: list[Image] = []
        self.goals: dict[str, Any] = {}
        self.shown = 0
        node, deep = robot.node, QoSProfile(depth=100)
        node.create_subscription(Action, COMMAND_TOPIC, self.commands.append, deep)
        node.create_subscription(Image, CAMERA_TOPIC, self.pictures.append, 1)
        for name in EXAMPLES:
            self.goals[name] = node.create_publisher(Image, f'/{name}/goal', 1)
            node.create_subscription(Image, f'/{name}/goal', self.note_goal, 1)

    def note_goal(self, _: Image) -> None:
        """What came before was the teacher's."""
        self.commands.clear()
        self.shown += 1

    def teach(self) -> None:
        """Have a picture taken as the page says, and shown to the example."""
        self.shown = 0
        with Script(self.logs / 'teacher', '-c', TEACHER) as teacher:
            self.robot.until(lambda: teacher.process.poll() is not None, 'the teacher is done')
            assert teacher.process.returncode == 0
        self.robot.until(lambda: self.shown == len(EXAMPLES), 'both were shown the goal')

    def hand_m(self) -> tuple[float, float, float]:
        """Where the hand is."""
        state = json.loads(self.truth.read_text().split('\n')[-2])['state']
        return state['x_m'], state['y_m'], state['z_m']

    def frames(self) -> np.ndarray:
        """Periods between the commands' stamps."""
        stamps = [stamp_to_ns(command.header.stamp) for command in self.commands]
        return np.diff(stamps) / PERIOD_NS

    def steps(self) -> np.ndarray:
        """Changes from command to command, the first one from rest, as shares of the range."""
        values_TA = [rest_command(), *[np.array(command.values) for command in self.commands]]
        return np.diff(values_TA, axis=0) / (HIGH_A - LOW_A)


@pytest.fixture(scope='module')
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    logs = tmp_path_factory.mktemp('logs')
    given = {'driver': 'external', 'wait_subscribers': 2, 'frames': FRAMES}
    with (
        Robot(publishes=False) as robot,
        Child('world_model', logs / 'world_model'),
        Child('sim', logs / 'sim', kind='free', truth_file=str(logs / 'truth'), **given),
    ):
        world = World(robot, logs / 'truth', logs)
        robot.until(lambda: world.pictures, 'the camera')
        yield world


def example(name: str) -> Any:
    """The module of an example, not run."""
    return SimpleNamespace(**runpy.run_path(str(DOCS / 'examples' / f'{name}.py')))


def started(world: World, name: str) -> Script:
    script = Script(world.logs / name, str(DOCS / 'examples' / f'{name}.py'))
    world.robot.until(world.goals[name].get_subscription_count, f'{name} listens')
    return script


def told(script: Script, pattern: str, count: int = 1) -> bool:
    return len(re.findall(pattern, script.log.read_text())) >= count


def test_code_of_the_page_does_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs first: its node and that of `world` have one name."""
    package = write_toy_package(tmp_path / 'toy', CONTRACT)
    log = tmp_path / 'log'
    with Robot() as robot, Child('world_model', log, package=str(package.path), backend='toy'):
        robot.wait_matched()
        for shade in (0, 10, 20):
            robot.step(picture(shade))
        names: dict[str, Any] = {
            'node': robot.node,
            'picture': picture(),
            'actions_KTA': candidates(8, 6),
            'actions_TA': candidates(1, 5)[0],
            'objective': [goal_image(picture())],
            'info': robot.got['model_info'][0],
            'command_A': candidates(1, 1)[0, 0],
        }
        for block in BLOCKS:
            if block != TEACHER:
                exec(block, names)
        assert names['best_TA'].shape == (6, A)
        assert [image.shape for image in names['film']] == [(64, 64, 3)] * 2
        assert len(names['mine']) == 2 and names['client'].states() == []
        assert names['again'].state_stamp_ns == robot.stamp_ns
        assert names['choice'].cost < names['choice'].hold_cost
        assert 'instead of' in capsys.readouterr().out
        names['planner'].destroy()
        names['client'].close()


def test_the_trajectory_that_leads_to_the_picture_is_chosen_and_carried_out(world: World) -> None:
    robot = world.robot
    with started(world, 'choose_trajectory') as script:
        world.teach()
        robot.until(lambda: told(script, 'uncertainty .*: '), 'a decision')
        text = script.log.read_text()
        assert 'trajectory 1 is left out: outside the limits' in text
        assert text.rstrip().endswith(': trajectory 3'), text
        robot.until(lambda: len(world.commands) == 20, 'all commands')
        robot.spin(0.5)
        assert len(world.commands) == 20 and (world.frames() >= 0.9).all()
        np.testing.assert_allclose(world.commands[-1].values[:3], GOAL_M, atol=1e-6)
        assert np.abs(world.steps()).max() <= 0.15 and not world.steps()[:, 3:].any()
        np.testing.assert_allclose(world.hand_m(), GOAL_M, atol=0.01)

        # The same picture again: it is reached, and nothing is better than to hold still.
        world.commands.clear()
        world.goals['choose_trajectory'].publish(world.pictures[-1])
        robot.until(lambda: told(script, 'uncertainty .*: ', 2), 'a decision')
        robot.spin(0.5)
        assert script.log.read_text().rstrip().endswith(': holding still') and not world.commands
        assert script.stop() == 0


def test_mppi_commands_frame_by_frame_and_plans_cycle_by_cycle(world: World) -> None:
    module = example('mppi_controller')
    robot = world.robot
    with started(world, 'mppi_controller') as script:
        world.teach()
        robot.until(lambda: told(script, 'steps, cost', 5), 'five plans', 120.0)
        moved = len(world.commands)
        assert script.stop() == 0
        cycles = len(re.findall('steps, cost|no plan', script.log.read_text()))
    assert moved >= 4 * module.CYCLE and moved <= (cycles + 2) * (module.CYCLE + 1)
    assert (world.frames() >= 0.9).all() and np.median(world.frames()) == 1
    steps_TA = np.abs(world.steps())
    assert steps_TA[:, :3].max() > 0.01 and steps_TA.max() <= module.MOST_STEP + 1e-4
    assert not steps_TA[:, 3:].any(), 'what is not its business is held'
    values_TA = np.array([command.values for command in world.commands])
    assert (values_TA >= LOW_A - 1e-6).all() and (values_TA <= HIGH_A + 1e-6).all()
    planned = [int(steps) for steps in re.findall(r'(\d+) steps, cost', script.log.read_text())]
    assert set(planned) <= set(range(1, module.AHEAD + 1))


@pytest.fixture
def alone() -> Iterator[None]:
    """For examples in this process, that nobody spins: they hear what a test tells them."""
    rclpy.init()
    yield
    rclpy.shutdown()


def seen(frame: int, horizon: int = 1) -> Prediction:
    """What the world model says when it has seen a frame."""
    stamp_ns = 10**9 + frame * PERIOD_NS
    return Prediction(source_stamp=convert.ns_to_stamp(stamp_ns), horizon=horizon)


@pytest.mark.parametrize('name', EXAMPLES)
def test_the_command_in_force_is_the_newest_by_its_stamp(alone: None, name: str) -> None:
    module = example(name)
    node = module.Chooser() if name == 'choose_trajectory' else module.Controller()
    first, second = (
        Action(header=convert.header(10**9 + frame * PERIOD_NS, '')) for frame in (0, 1)
    )
    node.hear_command(first)
    node.hear_command(second)
    node.hear_command(first)  # a late echo
    assert node.command is second
    node.client.close()
    node.destroy_node()


def test_mppi_gives_one_command_per_frame_in_the_middle_between_two(alone: None) -> None:
    node, given = example('mppi_controller').Controller(), []
    node.commands = SimpleNamespace(publish=given.append)
    node.info = SimpleNamespace(rate_hz=25.0, action_lead_ms=0.0)
    node.todo.extend(np.arange(3.0)[:, None].repeat(A, 1))
    for frame in range(2):
        for horizon in (1, 2):  # a frame is told of once for each horizon
            node.hear_frame(seen(frame, horizon))
    assert [command.values[0] for command in given] == [0.0, 1.0]
    stamps = [stamp_to_ns(command.header.stamp) - 10**9 for command in given]
    assert stamps == [PERIOD_NS // 2, PERIOD_NS + PERIOD_NS // 2]
    node.client.close()
    node.destroy_node()


def test_mppi_leaves_out_a_plan_that_begins_at_another_frame(alone: None) -> None:
    module = example('mppi_controller')
    node, frames, asked = module.Controller(), [0], []

    def wait(*_: Any) -> None:
        """Whoever waits for news gets the next frame."""
        frames[0] += 1
        node.hear_frame(seen(frames[0]))

    node.news = MagicMock(wait=wait)
    node.commands = SimpleNamespace(publish=lambda command: None)
    names = [entry.name for entry in CONTRACT.entries]
    node.info = SimpleNamespace(
        rate_hz=25.0,
        action_lead_ms=0.0,
        action_names=names,
        action_low=LOW_A,
        action_high=HIGH_A,
    )
    node.goal = convert.image_message(picture(), convert.header(0, ''))
    node.command = Action(values=array('f', rest_command()))
    node.command.header = convert.header(10**9, '')

    def evaluate(actions_KTA: np.ndarray, *_: Any, **__: Any) -> Any:
        """Two plans of another frame, one that fits, and the end."""
        asked.append(frames[0])
        if len(asked) == 4:
            node.over.set()
            raise TimeoutError
        other_ns = (-PERIOD_NS, PERIOD_NS, 0)[len(asked) - 1]
        return SimpleNamespace(
            costs_K=np.arange(len(actions_KTA), dtype=np.float32),
            horizon=actions_KTA.shape[1],
            state_stamp_ns=node.seen_ns + other_ns,
        )

    close, node.client.evaluate = node.client.close, evaluate

    node.control()
    left_out, left_out_too, carried_out = np.diff(asked)
    assert left_out == left_out_too == 1, 'it plans again at the next frame'
    assert carried_out == module.CYCLE, 'a cycle is on its way'
    close()
    node.destroy_node()


@pytest.mark.parametrize(
    ('costs', 'uncertainties', 'chosen'),
    [
        ((1.0, 0.5, 0.3), (0.1, 0.1, 0.1), 2),
        ((1.0, 0.5, 0.3), (0.1, 0.1, 0.9), 1),  # the best is too uncertain
        ((1.0, 0.9, 0.95), (0.1, 0.1, 0.1), 0),  # not worth it
        ((1.0, 0.5, 0.3), (0.1, 0.9, 0.9), 0),
        ((1.0, 0.5, 0.3), (float('nan'),) * 3, 0),  # nobody knows
        ((1.0,), (0.1,), 0),  # the motion planner had nothing to offer
    ],
)
def test_what_is_chosen(
    costs: tuple[float, ...], uncertainties: tuple[float, ...], chosen: int
) -> None:
    answer = SimpleNamespace(costs_K=np.array(costs), uncertainty_K=np.array(uncertainties))
    assert example('choose_trajectory').choose(answer) == chosen


def test_trajectories_come_to_the_rate_of_the_model_and_stay_in_its_limits() -> None:
    module = example('choose_trajectory')
    names = [entry.name for entry in CONTRACT.entries]
    info = SimpleNamespace(rate_hz=25.0, action_names=names, action_low=LOW_A, action_high=HIGH_A)
    held_A = rest_command()
    times_N, way_NJ = np.array([0.0, 0.1, 0.5]), np.array([REST_M, (0.1, 0.1, 0.2), GOAL_M])
    commands_TA = module.resample(times_N, way_NJ, info, held_A)
    assert commands_TA.shape == (13, A)  # 12.5 frames: the end is held for half of the last one
    np.testing.assert_allclose(commands_TA[-1, :3], GOAL_M, atol=1e-6)
    np.testing.assert_allclose(
        commands_TA[0, :3], np.array(REST_M) + (0.04, -0.006, -0.016), atol=1e-6
    )
    assert (commands_TA[:, 3:] == held_A[3:]).all() and not module.fault(commands_TA, info, held_A)
    assert 'fast' in module.fault(commands_TA[6:], info, held_A)
    assert 'limits' in module.fault(commands_TA + 0.3, info, held_A)
    assert 'longer' in module.fault(np.repeat(commands_TA, 10, 0), info, held_A)
