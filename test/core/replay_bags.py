"""Small bags for the tests of replay, a square that moves over a striped table, and what replays
them with the toy package.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wm_ros import cli
from wm_ros.backends.toy_backend import ToyBackend
from wm_ros.bag import BagRecorder, iter_steps, ros_types
from wm_ros.bag.stream import action_bytes, image_bytes
from wm_ros.contract import StreamContract, find_contract
from wm_ros.datatypes import Step
from wm_ros.evaluation.replay import Replay
from wm_ros.evaluation.replay_contender import Contender
from wm_ros.evaluation.replay_hooks import Hooks
from wm_ros.sources import ACTION, IMAGE
from wm_ros.toy_package import write_toy_package
from wm_ros.world_model import WorldModel

CAMERA, COMMAND, RESET = '/camera/image_raw', '/command', '/restart'
EMPTY = 'std_msgs/msg/Empty'
START_NS, PERIOD_NS = 10**15, 40_000_000


def contract() -> StreamContract:
    """The table-top's, with a reset topic."""
    values = StreamContract.load(find_contract('tabletop')).to_dict()
    values['reset'] |= {'topic': RESET}
    return StreamContract.from_dict(values)


def square(number: int) -> np.ndarray:
    """Frame of a step: no two of 40 are equal."""
    image_HWC = np.full((64, 64, 3), 60, np.uint8)
    image_HWC[::8] = 90
    left, top = 3 * number % 48, 5 * number % 40
    image_HWC[top : top + 16, left : left + 16] = (240, 40 + number % 200, 60)
    return image_HWC


def command(number: int) -> np.ndarray:
    """Command of a step."""
    return 0.1 * np.sin(number / 5 + np.arange(11))


def write_bag(
    path: Path,
    frames: int,
    *,
    missing: tuple[int, ...] = (),
    resets: tuple[int, ...] = (),
    broken: int | None = None,
    picture: Callable[[int], np.ndarray] = square,
) -> Path:
    """Record a bag.

    Args:
        path: folder to make.
        frames: steps.
        missing: steps without a frame.
        resets: steps before which a reset is asked for.
        broken: step whose camera message is cut short.
        picture: of a step.
    """
    with BagRecorder(path) as recorder:
        recorder.add_topic(CAMERA, IMAGE)
        for number in range(frames):
            stamp_ns = START_NS + number * PERIOD_NS
            if number in resets:
                store = ros_types()
                empty = store.types[EMPTY](structure_needs_at_least_one_member=0)
                recorder.write(RESET, EMPTY, bytes(store.serialize_cdr(empty, EMPTY)), stamp_ns)
            recorder.write(COMMAND, ACTION, action_bytes(command(number), stamp_ns), stamp_ns)
            data = image_bytes(picture(number), stamp_ns)
            if number == broken:
                data = data[:30]
            if number not in missing:
                recorder.write(CAMERA, IMAGE, data, stamp_ns)
    return path


def steps(tmp_path: Path, frames: int, **given: Any) -> list[Step]:
    """The steps of a bag, which `write_bag` makes of the rest."""
    return list(iter_steps(write_bag(tmp_path / 'bag', frames, **given), contract()))


def toy_model(path: Path) -> WorldModel:
    """The toy package of the table-top, made in a folder."""
    package = write_toy_package(path, contract())
    return WorldModel(package, ToyBackend(package))


def made(
    model: WorldModel, frames: int, hooks: Hooks | None = None, second: WorldModel | None = None
) -> Replay:
    """A replay of one model or two, whose clock goes on by a millisecond at every look."""
    models = {'model': model} | ({'second': second} if second else {})
    contenders = [
        Contender(who, one, contract(), 0, count(0, 1_000_000).__next__)
        for who, one in models.items()
    ]
    return Replay(contenders, contract(), frames, 0, hooks or Hooks(), lambda: 0)


def run(replay: Replay, taken: Iterable[Step]) -> None:
    """Take all steps and finish."""
    for step in taken:
        replay.take(step)
    replay.finish(lambda *_: None)


def wm_replay(bags: Path | list[Path], package: Path, out: Path, *words: str) -> int:
    """`wm replay` with the toy engine; its exit status."""
    named = [str(bag) for bag in (bags if isinstance(bags, list) else [bags])]
    given = ['--package', str(package), '--backend', 'toy', '--out', str(out)]
    return cli.main(['replay', *named, *given, *words])


def metrics_of(out: Path) -> dict[str, Any]:
    """The metrics of a folder that was written to."""
    found: dict[str, Any] = json.loads((out / 'metrics.json').read_text())
    return found


def poison_sixth(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have the toy engine's sixth prediction, whoever asks, be not a number; return the graphs run
    since then, to be cleared for another sixth.
    """
    run, calls = ToyBackend.run, list[str]()

    def poisoned(self: ToyBackend, graph: str, inputs: Any) -> Any:
        outputs = run(self, graph, inputs)
        calls.append(graph)
        if graph == 'predict' and calls.count('predict') == 6:
            outputs['latent'] = np.full_like(outputs['latent'], np.nan)
        return outputs

    monkeypatch.setattr(ToyBackend, 'run', poisoned)
    return calls
