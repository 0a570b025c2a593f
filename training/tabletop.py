"""The simulated table-top as a `World`: rendered directly, through the contract and
preprocessing of a live robot.

A test plays sample episodes into a bag and holds what the bag reader returns equal to what is
rendered here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from training.fingerprint import array_digest, digest
from training.world import SKILL_SEED, Clip, ProbeEpisode, ProbeTest
from wm_ros.contract import StreamContract
from wm_ros.sim.config import SimConfig
from wm_ros.sim.episodes import EpisodePlan, plan_episode, play, twin
from wm_ros.sim.mjcf import model_xml
from wm_ros.sim.scene import TableTop
from wm_ros.sim.world import FACTS

PROBE_KINDS = ('cup', 'drawer', 'view')
# Mostly revealing, with some clips of nothing but motion.
KINDS = ('practice',) * 7 + ('push', 'free', 'push')


class TabletopWorld:
    """Practice clips and recall probes of `wm_ros.sim`."""

    clips = 0

    def __init__(self, contract: Path, image_size: int) -> None:
        self.contract = StreamContract.load(contract)
        self.action_width = self.contract.action_width
        self.image_size = image_size
        self._sim: TableTop | None = None

    def __getstate__(self) -> dict[str, object]:
        """A rendering context belongs to its process: workers make their own."""
        return {**self.__dict__, '_sim': None}

    @property
    def renderer(self) -> str:
        """What draws the frames, as the manifest names it."""
        return self._table().renderer

    def _table(self) -> TableTop:
        if self._sim is None:
            self._sim = TableTop(SimConfig(image_size=self.image_size))
        return self._sim

    def _images(self, plan: EpisodePlan, frames: Iterable[int] | None = None) -> np.ndarray:
        return np.stack([frame.image_HWC for frame in play(plan, self._table(), frames)])

    def made_of(self, skills: bool = False) -> dict[str, Any]:
        """Name the world by its contract, its scene and a short plan of every kind that is
        practised. Pictures are left out: they depend a little on what draws them.
        """
        kinds = ('skills',) if skills else dict.fromkeys(KINDS)
        plans = [plan_episode(kind, 0, 400) for kind in kinds]
        return {
            'name': 'tabletop',
            'contract': digest(self.contract.to_dict()),
            'image_size': self.image_size,
            'kinds': ['skills'] if skills else list(KINDS),
            'scene': digest(model_xml(self.image_size)),
            'plans': array_digest(
                *(plan.actions_TA.round(3) for plan in plans),
                *(plan.visible_TF for plan in plans),
            ),
        }

    def practice(self, seed: int, frames: int) -> Clip:
        """Return one training clip: seven in ten reveal things all the time, and from SKILL_SEED
        on all practise what a planner may ask for.
        """
        kind = 'skills' if seed >= SKILL_SEED else KINDS[seed % len(KINDS)]
        plan = plan_episode(kind, seed, frames)
        return Clip(self._images(plan), self.contract.normalise(plan.actions_TA), plan.visible_TF)

    def probe(self, seed: int) -> ProbeEpisode:
        """Return an evaluation episode with the twins of its tests."""
        plan = plan_episode(PROBE_KINDS[seed % len(PROBE_KINDS)], seed)
        base = self._images(plan)
        pairs = list(dict.fromkeys(frozenset((test.fact, test.partner)) for test in plan.tests))
        versions = [base]
        for pair in pairs:
            fact, partner = sorted(pair)
            other = twin(plan, fact, partner)
            shows = np.flatnonzero(
                other.visible_TF[:, [i for i, name in enumerate(FACTS) if name in pair]].any(1)
            )
            images = base.copy()
            images[shows] = self._images(other, shows.tolist())
            versions.append(images)
        tests = tuple(
            ProbeTest(
                1 + pairs.index(frozenset((test.fact, test.partner))),
                test.lag,
                test.hidden_frame,
                test.scored_frame,
            )
            for test in plan.tests
        )
        return ProbeEpisode(np.stack(versions), self.contract.normalise(plan.actions_TA), tests)
