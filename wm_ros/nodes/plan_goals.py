"""Goals pursued closed loop over ROS 2: world model and planner are processes of their own, this
one is the robot (the table-top in lockstep, `stage.py`) and the judge.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from rclpy.signals import SignalHandlerOptions
from rich.console import Console

from wm_ros.evaluation.plan_kept import Kept
from wm_ros.evaluation.plan_results import Episode
from wm_ros.model_package import ModelPackage
from wm_ros.nodes.judge import Judge
from wm_ros.nodes.processes import NodeProcess, ProcessFailed, private_domain
from wm_ros.sim.goals import Goal, make_goal


@dataclass(frozen=True)
class Part:
    """Goals of one task, pursued with one search; `planner` is its name in the results."""

    task: str
    numbers: tuple[int, ...]
    search: str
    planner: str

    def left(self, kept: Kept) -> Part:
        """Return the part without what is finished."""
        numbers = (n for n in self.numbers if kept.find(self.task, n, self.planner) is None)
        return Part(self.task, tuple(numbers), self.search, self.planner)


def pursue_parts(
    package: str,
    parts: Sequence[Part],
    settings: Mapping[str, Any],
    logs: Path,
    kept: Kept,
) -> None:
    """Start world model and planner on a domain of their own and pursue goals with them.

    Args:
        package: directory.
        parts: what to pursue.
        settings: of the planner node, over its defaults.
        logs: folder of the nodes' logs.
        kept: takes every episode as soon as it has ended.

    Raises:
        ProcessFailed, StageTimeout: a part of it fails.
    """
    loaded, console = ModelPackage.load(package), Console()
    with private_domain() as environment, ExitStack() as stack:
        os.environ.update(environment)
        nodes = [
            stack.enter_context(NodeProcess(node, logs / f'{node}.log', environment, given))
            for node, given in (
                ('world_model', {'package': package, 'use_sim_time': True}),
                ('planner', {'use_sim_time': True, **settings}),
            )
        ]
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)

        def check() -> None:
            for node in nodes:
                node.check()

        judge = Judge(loaded.model.image_size, check)
        try:
            judge.ready()
            for part in parts:
                for number in part.numbers:
                    goal = make_goal(part.task, number, judge.stage.table)
                    episode = pursue(judge, goal, part.search, part.planner)
                    kept.add(episode)
                    console.print(episode.line(), highlight=False, soft_wrap=True)
        finally:
            judge.close()
            rclpy.try_shutdown()
            check()
        for node in reversed(nodes):
            node.stop()


def pursue(judge: Judge, goal: Goal, search: str, planner: str) -> Episode:
    """Pursue one goal from its first frame on.

    Raises:
        ProcessFailed: the planner gave it up.
        StageTimeout: nobody said what to do, or saw what was shown, in time.
    """
    judge.play_past(goal)
    stage, started_s = judge.stage, time.monotonic()
    before_HWC, start = stage.picture(), goal.distance(stage.state)
    result = judge.pursue(goal, search, goal.number)
    if not result.success:
        raise ProcessFailed(
            f'the planner gave up {goal.task} {goal.number}: {result.error_code} {result.message}'
        )
    return Episode(
        goal.task,
        goal.number,
        planner,
        goal.reached(stage.state),
        start,
        goal.distance(stage.state),
        result.skills,
        result.queries,
        result.candidate_steps,
        time.monotonic() - started_s,
        before_HWC,
        stage.picture(),
        goal.pictures_GHWC,
    )
