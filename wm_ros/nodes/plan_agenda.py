"""What a planning run is to do, and what of that is left when it was cut."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wm_ros.config import PlannerConfig
from wm_ros.evaluation import machine
from wm_ros.evaluation.plan_kept import Kept
from wm_ros.evaluation.plan_oracle import HOLD, ORACLE, run_beside
from wm_ros.evaluation.plan_results import Episode
from wm_ros.model_package import ModelPackage, find_package
from wm_ros.nodes.plan_goals import Part, pursue_parts
from wm_ros.nodes.plan_jobs import Job
from wm_ros.sim.goals import TASKS

MEMORY = ('ttt', 'none')  # planners of memory goals: the package, and the one without
WIDTH = 2  # jobs side by side: lockstep does not care how long anything takes


@dataclass(frozen=True)
class Bench:
    """What to run.

    Attributes:
        out: where to write.
        package, without: directory or shipped name; the second has no long memory.
        goals: how many of each task.
        first: number of the first goal of each task.
        searches: of every `free` and `push` goal.
        load_s: length of the load test.
        settings: of the planner node, over its defaults; the oracle searches as hard.
        fresh: forget what an earlier call has finished.
    """

    out: Path
    package: str
    without: str
    goals: Mapping[str, int]
    first: int
    searches: tuple[str, ...]
    load_s: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    fresh: bool = False

    @property
    def paths(self) -> dict[str, str]:
        """Directories of the packages that are asked; the second for memory goals only."""
        names = {'ttt': self.package, 'none': self.without}
        asked = names if self.numbers('memory') else ('ttt',)
        return {name: str(find_package(names[name])) for name in asked}

    def numbers(self, task: str) -> tuple[int, ...]:
        """Numbers of a task's goals."""
        return tuple(range(self.first, self.first + self.goals.get(task, 0)))

    @property
    def parts(self) -> dict[str, list[Part]]:
        """What is asked of world models, by the planner's name in the results."""
        found = {
            search: [Part(task, self.numbers(task), search, search) for task in ('free', 'push')]
            for search in self.searches
        }
        if numbers := self.numbers('memory'):
            found |= {name: [Part('memory', numbers, 'cem', name)] for name in MEMORY}
        return found

    @property
    def made_of(self) -> dict[str, dict[str, Any]]:
        """What an episode depends on, beside its task, number and planner; by package."""
        alike = {
            'code': code_digest(),
            'settings': dict(self.settings),
            'libraries': machine.describe()['libraries'],
        }
        return {
            name: {'package': ModelPackage.load(path).sha256, **alike}
            for name, path in self.paths.items()
        }


@dataclass(frozen=True)
class Shelves:
    """What is kept of a run: episodes with another package have a folder of their own."""

    folders: Mapping[str, Kept]

    @classmethod
    def open(cls, bench: Bench, made_of: Mapping[str, Mapping[str, Any]]) -> Shelves:
        """Return what an earlier call with the same packages, code and settings has left."""
        kept = bench.out / 'kept'
        return cls({name: Kept.open(kept, made, bench.fresh) for name, made in made_of.items()})

    def of(self, planner: str) -> Kept:
        """Return where a planner's episodes are kept."""
        return self.folders[package_of(planner)]


def package_of(planner: str) -> str:
    """Return which package a planner asks, by its name in `Bench.paths`."""
    return 'none' if planner == 'none' else 'ttt'


def code_digest() -> str:
    """Return a hash of the robot's side as it is on disk; a commit would say less where there are
    changes and more where only a text is new.
    """
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob('*.py')):
        digest.update(f'{path.relative_to(root)}\n'.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def jobs_of(bench: Bench, shelves: Shelves) -> list[Job]:
    """Return what is left to do; what does not touch each other are jobs of their own."""
    jobs = []
    for planner, whole in bench.parts.items():
        kept = shelves.of(planner)
        parts = [part for part in (part.left(kept) for part in whole) if part.numbers]
        if parts:
            path = bench.paths[package_of(planner)]
            logs = bench.out / 'logs' / planner
            work = (path, parts, dict(bench.settings), logs, kept)
            jobs.append(Job(planner, pursue_parts, work))
    goals = [(task, number) for task in bench.goals for number in bench.numbers(task)]
    kept = shelves.of(ORACLE)
    left = [goal for goal in goals if not all(kept.find(*goal, name) for name in (HOLD, ORACLE))]
    if left:
        knobs = PlannerConfig(**bench.settings)
        # After the first two, so that it fills the time that the others leave.
        jobs.insert(WIDTH, Job(ORACLE, run_beside, (bench.paths['ttt'], left, knobs, kept)))
    return jobs


def collect(bench: Bench, shelves: Shelves) -> list[Episode]:
    """Return the run's episodes that are finished, in the order of tasks and goals."""
    asked = [(part.task, planner) for planner, parts in bench.parts.items() for part in parts]
    beside = [(task, planner) for task in bench.goals for planner in (HOLD, ORACLE)]
    found = [
        shelves.of(planner).find(task, number, planner)
        for task, planner in sorted(asked + beside, key=lambda pair: TASKS.index(pair[0]))
        for number in bench.numbers(task)
    ]
    return [episode for episode in found if episode is not None]
