"""One worker of the quality run: the arms loaded once, the simulator once, then job after job.

In: jobs (which episode, which question, which arms). Out: their outcomes, small enough to send
between processes. Arms with the same tokenizer on the same engine share the latents of an
episode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from wm_ros.backends.resolve import resolve_backend
from wm_ros.datatypes import FloatArray
from wm_ros.evaluation import counterfactual, horizons, recall
from wm_ros.evaluation.clips import render_clip
from wm_ros.evaluation.counterfactual import ForkOutcome
from wm_ros.evaluation.horizons import HorizonSample
from wm_ros.evaluation.recall import RecallOutcome
from wm_ros.evaluation.subject import Subject, encode_all
from wm_ros.model_package import ModelPackage, find_package
from wm_ros.sim.config import SimConfig
from wm_ros.sim.episodes import plan_episode
from wm_ros.sim.recall import LAGS
from wm_ros.sim.scene import TableTop
from wm_ros.world_model import WorldModel

RECALL, HORIZON, ACTION = 'recall', 'horizon', 'action'
NONE_REACH_FRAMES = 2  # the two latents that every arm sees


@dataclass(frozen=True)
class ArmSpec:
    """Which package stands for an arm, and on which engine it runs."""

    name: str
    package: str
    backend: str = 'auto'
    precision: str = 'auto'


@dataclass(frozen=True)
class Job:
    """One episode and the question asked of it: `what` is RECALL, HORIZON or ACTION."""

    what: str
    kind: str
    seed: int
    arms: tuple[str, ...]
    keep_pictures: bool = False


@dataclass(frozen=True)
class Result:
    """Outcomes of one job by arm; the lists of the other two questions are empty."""

    job: Job
    recall: dict[str, list[RecallOutcome]] = field(default_factory=dict)
    horizon: dict[str, list[HorizonSample]] = field(default_factory=dict)
    action: dict[str, list[ForkOutcome]] = field(default_factory=dict)


@dataclass(frozen=True)
class Arm:
    """A loaded arm. `encoder` is equal for arms whose latents are the same."""

    name: str
    subject: Subject
    reach_frames: int | None
    image_size: int
    encoder: tuple[str, ...]
    engine: str


def load_arm(spec: ArmSpec, threads: int = 1) -> Arm:
    """Load a package into an engine.

    Raises:
        PackageError: no such package, or it is damaged.
        EngineUnavailable: the engine does not run here.
    """
    package = ModelPackage.load(find_package(spec.package))
    backend = resolve_backend(spec.backend, package, threads, precision=spec.precision)
    model = package.model
    reach = {'none': NONE_REACH_FRAMES, 'window': max(NONE_REACH_FRAMES, model.window)}.get(
        model.arm
    )
    engine = f'{backend.name} {backend.precision}'
    graphs = package.manifest.graphs
    encoder = (engine, graphs['encode'].sha256, graphs['decode'].sha256)
    return Arm(spec.name, WorldModel(package, backend), reach, model.image_size, encoder, engine)


class Bench:
    """The arms and the simulator of one process."""

    def __init__(self, arms: Sequence[Arm]) -> None:
        sizes = {arm.image_size for arm in arms}
        if len(sizes) != 1:
            raise ValueError(f'arms take frames of {sorted(sizes)} px: expected one size for all')
        self._arms = {arm.name: arm for arm in arms}
        self._table = TableTop(SimConfig(image_size=sizes.pop()))
        self._questions: dict[str, Callable[[Job], Result]] = {
            RECALL: self._recall,
            HORIZON: self._horizon,
            ACTION: self._action,
        }

    def run(self, job: Job) -> Result:
        """Answer one job.

        Raises:
            LeakError: a model that cannot know told two worlds apart.
        """
        return self._questions[job.what](job)

    def close(self) -> None:
        """Free the simulator."""
        self._table.close()

    def _recall(self, job: Job) -> Result:
        clip = render_clip(plan_episode(job.kind, job.seed), self._table, LAGS)
        result, latents = Result(job), dict[tuple[str, ...], FloatArray]()
        for arm in self._of(job):
            if arm.encoder not in latents:
                latents[arm.encoder] = recall.encode_clip(arm.subject, clip)
            result.recall[arm.name] = recall.run_clip(
                arm.subject,
                clip,
                latents[arm.encoder],
                reach_frames=arm.reach_frames,
                keep_pictures=job.keep_pictures,
            )
        return result

    def _horizon(self, job: Job) -> Result:
        plan = plan_episode(job.kind, job.seed, frames=horizons.EPISODE_FRAMES)
        film, _ = horizons.play(plan, self._table)
        result = Result(job)
        for arm in self._of(job):
            rng = np.random.default_rng([job.seed, 0])
            anchors = horizons.draw_anchors(rng)
            latents = encode_all(arm.subject, film.frames_THWC)
            result.horizon[arm.name] = horizons.measure(arm.subject, film, anchors, rng, latents)
        return result

    def _action(self, job: Job) -> Result:
        plan = plan_episode(job.kind, job.seed, frames=counterfactual.EPISODE_FRAMES)
        forks = counterfactual.make_forks(plan, self._table, np.random.default_rng([job.seed, 1]))
        result = Result(job)
        for arm in self._of(job):
            rng = np.random.default_rng([job.seed, 2])
            result.action[arm.name] = [
                counterfactual.run_fork(arm.subject, fork, rng, keep_pictures=job.keep_pictures)
                for fork in forks
            ]
        return result

    def _of(self, job: Job) -> list[Arm]:
        return [self._arms[name] for name in job.arms]
