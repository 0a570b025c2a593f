"""Replay and the live session are one path: the same bag, the same noise, the same pictures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from replay_bags import contract, write_bag

from wm_ros.backends.resolve import resolve_backend
from wm_ros.bag.read import iter_messages, iter_steps
from wm_ros.datatypes import ImageArray
from wm_ros.evaluation import replay_hooks, replay_run
from wm_ros.feed import ArrivedFrame, Restart, read
from wm_ros.model_package import ModelPackage
from wm_ros.nodes.inbox import Mail
from wm_ros.nodes.session import Session
from wm_ros.nodes.statistics import Statistics
from wm_ros.stepping import Stepper
from wm_ros.toy_package import write_toy_package
from wm_ros.world_model import WorldModel

SEED = 5
CONTRACT = contract()


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    return write_toy_package(tmp_path / 'toy', CONTRACT)


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Two missing frames in a row, one more, and a reset."""
    return write_bag(tmp_path / 'bag', 70, missing=(20, 21, 33), resets=(50,))


def live(package: ModelPackage, bag: Path) -> tuple[list[ImageArray], list[int]]:
    """Return what a live session predicts and the frames in its memory after each step."""
    model = WorldModel(package, resolve_backend('toy', package))
    statistics = Statistics(10, CONTRACT.period_ns)
    session = Session(
        model, CONTRACT, horizon=1, seed=SEED, statistics=statistics, on_rejection=print
    )
    pictures, seen = [], []

    def advance(now_ns: int) -> None:
        for outcome in session.advance(now_ns):
            pictures.append(outcome.predictions[0].image_HWC)
            seen.append(session.memory.frames)

    optional = (CONTRACT.reset.topic,)
    for topic, message, log_ns in iter_messages(bag, CONTRACT.topics, optional):
        arrival = read(CONTRACT, topic, message, log_ns)
        if isinstance(arrival, ArrivedFrame):
            session.put(Mail(arrival, log_ns))
        elif isinstance(arrival, Restart):
            session.put(Mail(restart=arrival))
        else:
            session.put(Mail(queued=(arrival,)))
        advance(log_ns)
    advance(log_ns + 10**9)
    return pictures, seen


def by_hand(package: ModelPackage, bag: Path) -> list[ImageArray]:
    """The same as a plain loop, which knows no `Stepper`."""
    model = WorldModel(package, resolve_backend('toy', package))
    pictures = []
    for step in iter_steps(bag, CONTRACT):
        if step.reset is not None:
            memory, rng = model.reset(), np.random.default_rng(SEED)
        fill_noise = model.noise(rng)[:, 0] if step.frame is None else None
        memory = model.observe(memory, step, fill_noise)
        if step.frame is not None:
            rollout = model.imagine(memory, step.action_A[None, None], model.noise(rng))
            pictures.append(rollout.frames_BTHWC[0, 0])
    return pictures


def test_replay_predicts_what_the_live_session_predicts(
    package: ModelPackage, bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live_pictures, live_seen = live(package, bag)
    pictures, seen = [], []
    predict = Stepper.predict

    def predicting(self: Stepper, *given: object) -> object:
        predictions = predict(self, *given)
        pictures.append(predictions[0].image_HWC)
        seen.append(self.memory.frames)
        return predictions

    monkeypatch.setattr(Stepper, 'predict', predicting)
    monkeypatch.setattr(replay_run, 'installed', lambda *_: replay_hooks.Hooks())
    order = replay_run.Order(bag, str(package.path), backend='toy', seed=SEED)
    assert replay_run.run(order, tmp_path / 'out') == 0
    assert len(pictures) == 67 and Counter(seen)[1] == 2, 'the reset is in it'
    assert seen == live_seen
    np.testing.assert_array_equal(pictures, live_pictures)
    np.testing.assert_array_equal(pictures, by_hand(package, bag))
