"""Which pictures may be goals: the shipped package on the table-top's own goals and on others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from planning_world import CONTRACT, toy_model

from wm_ros.backends import resolve_backend
from wm_ros.datatypes import ImageArray
from wm_ros.evaluation import calibration_goals
from wm_ros.evaluation.calibration_goals import WORLDS, goal_bar
from wm_ros.manifest_fields import PackageError
from wm_ros.manifest_planning import Planning
from wm_ros.model_package import ModelPackage, find_package
from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.planning.goals import GoalPictures
from wm_ros.planning.redrawing import WORST_PSNR_DB, goal_bar_db, redraw_db
from wm_ros.sim.goals import TASKS, make_goal
from wm_ros.sim.scene import TableTop
from wm_ros.world_model import WorldModel

GOALS = 6  # of each task; the figures in redrawing.py are of 30


@pytest.fixture(scope='module')
def model() -> WorldModel:
    package = ModelPackage.load(find_package('tabletop_small'))
    return WorldModel(package, resolve_backend('onnxruntime', package))


@pytest.fixture(scope='module')
def pictures() -> list[ImageArray]:
    with TableTop() as table:
        goals = [make_goal(task, 100 + n, table) for task in TASKS for n in range(GOALS)]
    return [picture for goal in goals for picture in goal.pictures_GHWC]


def accepted(model: WorldModel, picture_HWC: ImageArray) -> bool:
    try:
        GoalPictures(np.ascontiguousarray(picture_HWC)[None]).encoded(model)
    except QueryError as error:
        assert error.code is QueryCode.INVALID_GOAL and "robot's world" in error.message
        return False
    return True


def test_the_shipped_package_takes_true_goals_and_no_others(
    model: WorldModel, pictures: list[ImageArray]
) -> None:
    assert model.package.manifest.planning.goal_db is not None, 'make calibrate'
    for name, other in WORLDS.items():
        found = [accepted(model, other(picture)) for picture in pictures]
        assert set(found) == {name == 'as they are'}, name
    rng = np.random.default_rng(0)
    for picture in pictures[:GOALS]:
        noisy = np.clip(picture + rng.normal(0, 25, picture.shape), 0, 255).astype(np.uint8)
        assert not accepted(model, noisy)


def test_a_package_that_does_not_say_has_the_low_bar(tmp_path: Path) -> None:
    unsaid = {'batch': 8, 'uncertainty': None}
    assert Planning.from_dict(unsaid) == Planning.from_dict(unsaid | {'goal_db': None})
    assert goal_bar_db(toy_model(tmp_path / 'a').package) == WORST_PSNR_DB
    told = toy_model(tmp_path / 'b', planning=Planning(goal_db=31.5))
    assert goal_bar_db(told.package) == 31.5
    assert Planning.from_dict(told.package.manifest.planning.to_dict()).goal_db == 31.5
    for wrong in (-1.0, 0.0, 1e3, float('nan')):
        with pytest.raises(PackageError, match='goal_db'):
            Planning(goal_db=wrong)
    with pytest.raises(PackageError, match='goal_db'):
        Planning.from_dict(unsaid | {'goal_db': 'high'})


def test_the_bar_is_set_on_one_half_and_judged_on_the_other(
    model: WorldModel, pictures: list[ImageArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 1st percentile of the frames of the even bags, less 2 dB."""
    halves = [pictures[::2], pictures[1::2]]

    def steps(bag: Path, contract: Any) -> Iterator[Any]:
        yield SimpleNamespace(frame=None)
        for picture in halves[int(bag.name)]:
            yield SimpleNamespace(frame=SimpleNamespace(image_HWC=picture))

    monkeypatch.setattr(calibration_goals, 'iter_steps', steps)
    found = goal_bar(model, CONTRACT, [Path('0'), Path('1')], 2)
    own = [redraw_db(model, picture) for picture in halves[0][::2]]
    other = [redraw_db(model, picture) for picture in halves[1][::2]]
    assert found.goal_db == round(float(np.quantile(own, 0.01)) - 2, 1)
    assert (found.lowest_db, found.frames) == (min(other), len(other))
    assert found.refused['upside down'] == found.refused['negative'] == 1
    assert found.refused['as they are'] == np.mean(np.array(other) < found.goal_db) == 0
