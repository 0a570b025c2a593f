"""Outputs of a replay that are not finite: what falls out, that it falls out for all, and that it
is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replay_bags import (
    contract,
    made,
    metrics_of,
    poison_sixth,
    run,
    steps,
    toy_model,
    wm_replay,
    write_bag,
)

from wm_ros.evaluation import replay_hooks, replay_run
from wm_ros.evaluation.replay_futures import SETTLED
from wm_ros.toy_package import write_toy_package
from wm_ros.world_model import WorldModel

Wanted = Callable[[Any, int], Any]


@pytest.fixture
def model(tmp_path: Path) -> WorldModel:
    return toy_model(tmp_path / 'toy')


@pytest.fixture
def second(tmp_path: Path) -> WorldModel:
    return toy_model(tmp_path / 'other')


def poison(monkeypatch: pytest.MonkeyPatch, model: WorldModel, wanted: Wanted) -> None:
    """Make predicted latents NaN: where `wanted` of the inputs and the number of the call says."""
    backend_run, calls = model.backend.run, []

    def poisoned(graph: str, inputs: Any) -> Any:
        outputs = backend_run(graph, inputs)
        if graph == 'predict':
            calls.append(graph)
            outputs['latent'][wanted(inputs, len(calls))] = np.nan
        return outputs

    monkeypatch.setattr(model.backend, 'run', poisoned)


def live_only(call: int) -> Wanted:
    """The n-th one-step prediction of a replay: batches of one are the stream's own."""
    seen = []

    def wanted(inputs: Any, _: int) -> Any:
        if len(inputs['action']) == 1:
            seen.append(1)
            return [0] if len(seen) == call else []
        return []

    return wanted


def counts(metric: str, table: Any, places: tuple[Any, ...]) -> set[tuple[int, ...]]:
    """How many values of each contender a metric holds, at some places."""
    who = table.contenders(metric)
    return {tuple(table.count(metric, one, place) for one in who) for place in places}


def test_a_future_that_one_contender_lacks_is_scored_for_none(
    tmp_path: Path, model: WorldModel, second: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = steps(tmp_path, 90)
    marked = model.encode(taken[40].frame.image_HWC[None])[0]

    def from_marked(inputs: Any, _: int) -> Any:
        same = (inputs['memory_latents'][:, 0] == marked).all((1, 2, 3))
        return same & (len(same) > 1)

    poison(monkeypatch, second, from_marked)
    replay = made(model, 90, second=second)
    run(replay, taken)
    assert [one.not_finite for one in replay.contenders] == [0, 1]
    assert (replay.futures.made, replay.futures.not_finite) == (3, 1), 'of 30, 40, 50, 60'
    tally = replay.horizons.tally
    assert counts('psnr', tally, (1, 10, 25)) == {(3, 3, 3, 3, 3)}
    assert counts('psnr_whole', tally, (1, 10, 25)) == {(3, 3, 3)}
    assert replay.horizons.results()['anchors'] == 3


def test_a_frame_that_one_contender_did_not_predict_is_scored_for_none(
    tmp_path: Path, model: WorldModel, second: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, second, live_only(6))
    replay = made(model, 20, second=second)
    run(replay, steps(tmp_path, 20))
    found = replay.one_step.results()
    assert (found['frames'], found['not_finite']) == (18, 1)
    assert counts('psnr_whole', replay.one_step.tally, ('',)) == {(18, 18, 18)}


def test_a_young_memory_is_not_anchored(
    tmp_path: Path, model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 38 is not finite: the memory of 39 on has settled by 64, so 40, 50 and 60 fall out."""
    poison(monkeypatch, model, live_only(39))
    replay = made(model, 200)
    replay.free._due[:] = [37, 39, 50]
    run(replay, steps(tmp_path, 200))
    assert [one.number for one in replay.free.runs] == [37, 39 + SETTLED]
    assert replay.futures.made == 1 + 11, '30, then 70 to 170'
    assert replay.futures.not_finite == 3
    assert replay.futures.broken_off == 2, '180 and 190, for which the bag is too short'


def test_free_runs_wait_for_a_memory_to_settle_after_a_reset(
    tmp_path: Path, model: WorldModel
) -> None:
    replay = made(model, 260)
    replay.free._due[:] = [60, 61]
    run(replay, steps(tmp_path, 260, resets=(60,)))
    assert [one.number for one in replay.free.runs] == [60 + SETTLED]


def test_a_memory_begins_with_a_frame(
    tmp_path: Path, model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Live, the steps after an output that is not finite begin with the next frame."""
    poison(monkeypatch, model, live_only(6))
    replay = made(model, 20)
    (contender,) = replay.contenders
    ages = []
    for step in steps(tmp_path, 20, missing=(6, 7)):
        replay.take(step)
        ages.append(contender.age)
    assert ages == [0, 1, 2, 3, 4, -1, -1, -1, *range(12)]


def test_a_free_run_that_is_not_finite_does_not_cost_the_others_theirs(
    tmp_path: Path, model: WorldModel, second: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row of the fourth chunk, in one contender; its mark falls out for both."""
    taken = steps(tmp_path, 330)

    def rolled_out(*, bad: bool) -> Any:
        replay = made(model, 330, second=second)
        replay.free._due[:] = [90, 120, 150]
        for step in taken:
            replay.take(step)
        replay.futures.finish()
        if bad:
            marked = []

            def wanted(inputs: Any, call: int) -> Any:
                if call == 80:
                    marked.append(inputs['noise'][1].copy())
                return [(row == marked[0]).all() for row in inputs['noise']] if marked else []

            poison(monkeypatch, second, wanted)
        replay.finish(lambda *_: None)
        return replay

    clean, hurt = rolled_out(bad=False), rolled_out(bad=True)
    assert [one.not_finite for one in hurt.contenders] == [0, 1]
    before, found = clean.marks.results(clean.free), hurt.marks.results(hurt.free)
    assert found['anchors'] == before['anchors'] == [90, 120, 150]
    assert (before['not_finite'], found['not_finite']) == (0, 1)
    assert (before['counts']['5s'], found['counts']['5s']) == (3, 2)
    for metric in ('psnr', 'psnr_whole', 'ssim', 'ssim_whole'):
        assert counts(metric, hurt.marks.tally, ('5s',)) == {(2, 2, 2)}
    for was, now in zip(clean.marks.strips, hurt.marks.strips, strict=True):
        if now.number == 120:
            assert now.shown['second'] == {}
            continue
        np.testing.assert_array_equal(now.shown['second']['5s'], was.shown['second']['5s'])


def test_output_that_is_not_finite_starts_afresh_and_fails_conditions(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(replay_run, 'installed', lambda *_: replay_hooks.Hooks())
    monkeypatch.setattr(replay_run, 'write_page', lambda path, *_: path.write_text('page'))
    package = write_toy_package(tmp_path / 'toy', contract()).path
    calls = poison_sixth(monkeypatch)
    bag = write_bag(tmp_path / 'bag', 12)
    assert wm_replay(bag, package, tmp_path / 'out') == 0
    found = metrics_of(tmp_path / 'out')
    assert found['packages']['model']['not_finite'] == 1
    assert found['one_step']['frames'] == 10, 'one step gave no prediction for the next'
    assert found['one_step']['not_finite'] == 1
    assert '1 outputs of model were not finite' in capsys.readouterr().out
    assert wm_replay(bag, package, tmp_path / 'gate', '--fail-if', 'psnr < 0') == 0, 'none is bad'
    calls.clear()
    assert wm_replay(bag, package, tmp_path / 'gate', '--fail-if', 'psnr < 0') == 2
    assert ', and 1 outputs of model were not finite' in capsys.readouterr().out
