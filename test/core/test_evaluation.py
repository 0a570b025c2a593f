"""Horizons, counterfactual actions, the bench of arms, and the figures of the README's table."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wm_ros.config import ModelConfig
from wm_ros.contract import StreamContract
from wm_ros.datatypes import MemoryState, Rollout
from wm_ros.evaluation import (
    bench,
    counterfactual,
    figures,
    horizons,
    quality,
    quality_page,
)
from wm_ros.evaluation.clips import normalise
from wm_ros.evaluation.counterfactual import ForkOutcome
from wm_ros.evaluation.horizons import HorizonSample
from wm_ros.evaluation.recall import LeakError, RecallOutcome
from wm_ros.sim.config import SimConfig
from wm_ros.sim.episodes import plan_episode
from wm_ros.sim.recall import LAGS
from wm_ros.sim.scene import ACTION_LIMITS, TableTop
from wm_ros.toy_package import write_toy_package

SIZE = 16


class Dot:
    """A dot that the first two action entries move, in pixels; this model knows the rule exactly.

    The latent is the picture. `gain` scales how far it believes an action moves the dot.
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def encode(self, images: np.ndarray) -> np.ndarray:
        return images.transpose(0, 3, 1, 2).astype(np.float32)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        return latents.transpose(0, 2, 3, 1).astype(np.uint8)

    def reset(self, batch: int = 1) -> MemoryState:
        return MemoryState({'latents': np.zeros((batch, 3, SIZE, SIZE), np.float32)})

    def observe_latent(
        self, memory: MemoryState, latent: np.ndarray, action: np.ndarray
    ) -> MemoryState:
        return MemoryState({'latents': latent}, memory.frames + 1)

    def noise(self, rng: np.random.Generator, batch: int = 1, horizon: int = 1) -> np.ndarray:
        return rng.standard_normal((batch, horizon, 1), np.float32)

    def imagine(
        self, memory: MemoryState, actions: np.ndarray, noise: np.ndarray, *, decode: bool = True
    ) -> Rollout:
        batch, horizon = actions.shape[:2]
        now = np.repeat(memory.arrays['latents'], batch // memory.batch, 0)
        frames = []
        for t in range(horizon):
            moves = np.rint(self.gain * actions[:, t]).astype(int)
            now = np.stack(
                [np.roll(x, tuple(move), (1, 2)) for x, move in zip(now, moves, strict=True)]
            )
            frames.append(now)
        return Rollout(np.stack(frames, 1), memory)


def walk(actions: np.ndarray, start: tuple[int, int] = (5, 5)) -> np.ndarray:
    """Frames of the dot under actions: frame t + 1 follows action t."""
    frames = np.full((len(actions) + 1, SIZE, SIZE, 3), 40, np.uint8)
    place = np.array(start)
    for t in range(len(actions) + 1):
        row, column = place % SIZE
        frames[t, row, column] = (250, 250, 60)
        if t < len(actions):
            place = place + actions[t].astype(int)
    return frames


@pytest.fixture(scope='module')
def film() -> horizons.Film:
    actions = np.random.default_rng(0).integers(-1, 2, (80, 2)).astype(np.float32)
    return horizons.Film('free', 1, walk(actions)[:80], actions)


def test_a_model_of_the_rule_reaches_the_ceiling_at_every_horizon(film: horizons.Film) -> None:
    samples = horizons.measure(Dot(), film, [10, 30, 54], np.random.default_rng(0))
    assert [(s.anchor, s.horizon) for s in samples][:5] == [
        (10, 1),
        (10, 5),
        (10, 10),
        (10, 25),
        (30, 1),
    ]
    for sample in samples:
        assert sample.psnr_whole['model'] == sample.psnr_whole['tokenizer'] == 60.0
    means = horizons.means(samples, 'psnr')
    assert means['model']['10'] == 60.0 > means['copy_last']['10']
    assert horizons.means(samples, 'ssim')['copy_last']['10'] < 0.9


def test_a_model_that_ignores_actions_is_a_copy_of_the_last_frame(film: horizons.Film) -> None:
    samples = horizons.measure(Dot(0.0), film, [10, 30, 54], np.random.default_rng(0))
    for value in ('psnr', 'ssim', 'psnr_whole', 'ssim_whole'):
        means = horizons.means(samples, value)
        assert means['model'] == means['copy_last']


def test_frames_in_which_nothing_moved_are_left_out_of_the_changed_pixels() -> None:
    still = np.zeros((60, 2), np.float32)
    film = horizons.Film('free', 1, walk(still)[:60], still)
    samples = horizons.measure(Dot(), film, [10], np.random.default_rng(0))
    assert all(sample.psnr == {} and sample.changed_share == 0 for sample in samples)
    assert horizons.means(samples, 'psnr') == {}
    assert horizons.means(samples, 'psnr_whole')['model']['25'] == 60.0


def test_anchors_leave_room_for_history_and_horizon(film: horizons.Film) -> None:
    for seed in range(20):
        anchors = horizons.draw_anchors(np.random.default_rng(seed))
        assert len(set(anchors)) == horizons.ANCHORS and anchors == sorted(anchors)
        assert anchors[0] >= horizons.WARM_UP_FRAMES
        assert anchors[-1] + 25 < horizons.EPISODE_FRAMES
    with pytest.raises(ValueError, match='below 55'):
        horizons.measure(Dot(), film, [55], np.random.default_rng(0))


@pytest.fixture(scope='module')
def fork() -> counterfactual.Fork:
    history = np.ones((19, 2), np.float32)
    ahead = np.zeros((2, counterfactual.FRAMES_AHEAD, 2), np.float32)
    ahead[0, :, 0], ahead[1, :, 1] = 1, -1
    frames = walk(history)
    place = (5 + 19) % SIZE
    futures = np.stack([walk(actions, (place, place))[-1] for actions in ahead])
    return counterfactual.Fork('free', 1, frames, history, ahead, futures)


def test_a_model_of_the_rule_tells_futures_apart(fork: counterfactual.Fork) -> None:
    outcome = counterfactual.run_fork(Dot(), fork, np.random.default_rng(0), keep_pictures=True)
    assert outcome.score() == 1.0 and outcome.score('hold_last') == 0.5
    assert np.array_equal(outcome.pictures[0], outcome.pictures[2])
    assert np.array_equal(outcome.pictures[1], outcome.pictures[3])


def test_a_model_that_ignores_actions_cannot_tell(fork: counterfactual.Fork) -> None:
    outcome = counterfactual.run_fork(Dot(0.0), fork, np.random.default_rng(0))
    assert {variant: outcome.score(variant) for variant in counterfactual.VARIANTS} == {
        'model': 0.5,
        'hold_last': 0.5,
        'shifted': 0.5,
    }


def test_late_commands_are_the_held_one_and_then_the_first_five(fork: counterfactual.Fork) -> None:
    given: list[np.ndarray] = []

    class Listening(Dot):
        def imagine(
            self,
            memory: MemoryState,
            actions: np.ndarray,
            noise: np.ndarray,
            *,
            decode: bool = True,
        ) -> Rollout:
            given.append(actions)
            assert (noise == noise[0]).all()
            return super().imagine(memory, actions, noise)

    counterfactual.run_fork(Listening(), fork, np.random.default_rng(0))
    own, held, late = given[0][:2], given[0][2:4], given[0][4:]
    assert np.array_equal(own, fork.actions_2TA)
    assert (held == fork.history_TA[-1]).all()
    assert (late[:, :5] == fork.history_TA[-1]).all()
    assert np.array_equal(late[:, 5:], fork.actions_2TA[:, :5])


@pytest.fixture(scope='module')
def table() -> Iterator[TableTop]:
    made = TableTop(SimConfig())
    yield made
    made.close()


def test_forks_share_the_history_and_are_what_the_simulator_does(table: TableTop) -> None:
    plan = plan_episode('free', 10_000_001, frames=counterfactual.EPISODE_FRAMES)
    made = counterfactual.make_forks(plan, table, np.random.default_rng(3))[-1]
    again = counterfactual.make_forks(plan, table, np.random.default_rng(3))[-1]
    assert np.array_equal(made.futures_2HWC, again.futures_2HWC)
    assert len(made.history_TA) == len(made.history_THWC) - 1
    low, high = np.asarray(ACTION_LIMITS).T
    table.reset(plan.layout)
    for t in range(len(made.history_TA)):
        table.step(plan.actions_TA[t])
    start = table.state()
    assert np.array_equal(table.render(), made.history_THWC[-1])
    for actions, future in zip(made.actions_2TA, made.futures_2HWC, strict=True):
        table.restore(start)
        for action in actions:
            table.step(((action + 1) / 2 * (high - low) + low).astype(np.float32))
        assert np.abs(table.render().astype(int) - future).mean() < 0.5


def test_every_episode_gives_a_visible_pair_beside_its_first(table: TableTop) -> None:
    counts = dict.fromkeys(counterfactual.KINDS, 0)
    for kind in counterfactual.KINDS:
        for seed in range(10_000_000, 10_000_004):
            plan = plan_episode(kind, seed, frames=counterfactual.EPISODE_FRAMES)
            forks = counterfactual.make_forks(plan, table, np.random.default_rng([seed, 1]))
            shares = [(f.futures_2HWC[0] != f.futures_2HWC[1]).any(-1).mean() for f in forks]
            assert [fork.first for fork in forks] == [True, False][: len(forks)]
            assert shares == [fork.differing_share for fork in forks]
            assert shares[0] >= 0.01 and shares[-1] >= 0.05
            assert len(forks) == 1 or (len(forks) == 2 and shares[0] < 0.05)
            counts[kind] += len(forks) == 2
    assert counts['free'] > 0, 'no first pair below 5 %: the two figures are never told apart'


def test_an_episode_without_visible_pair_is_refused(
    table: TableTop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counterfactual, 'VISIBLE_SHARE', 0.95)
    plan = plan_episode('free', 10_000_001, frames=counterfactual.EPISODE_FRAMES)
    with pytest.raises(ValueError, match='free 10000001: no two futures that differ in 95%'):
        counterfactual.make_forks(plan, table, np.random.default_rng(3))


def test_actions_are_scaled_as_the_contract_scales_them() -> None:
    contract = StreamContract.load(Path(__file__).parents[2] / 'contracts' / 'tabletop.yaml')
    for action in plan_episode('practice', 10_000_000, frames=60).actions_TA:
        assert np.allclose(normalise(action), contract.normalise(action), atol=1e-6)


@pytest.fixture(scope='module')
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages for the toy engine, one per arm, side by side."""
    folder = tmp_path_factory.mktemp('toys')
    contract = StreamContract.load(Path(__file__).parents[2] / 'contracts' / 'tabletop.yaml')
    for arm in ('ttt', 'none', 'window'):
        name = 'toy' if arm == 'ttt' else f'toy_{arm}'
        model = ModelConfig(arm=arm, action_width=contract.action_width)
        write_toy_package(folder / name, contract, model=model, name=name)
    return folder


def arm_specs(toys: Path) -> list[bench.ArmSpec]:
    return [
        bench.ArmSpec(arm, str(toys / name), 'toy')
        for arm, name in (('ttt', 'toy'), ('none', 'toy_none'), ('window', 'toy_window'))
    ]


def test_bench_answers_every_question_for_its_arms(
    toys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, 'LAGS', (48, 128))
    monkeypatch.setattr(horizons, 'EPISODE_FRAMES', 60)
    monkeypatch.setattr(horizons, 'WARM_UP_FRAMES', 10)
    monkeypatch.setattr(horizons.draw_anchors, '__defaults__', (60, 3, 10))
    arms = [bench.load_arm(spec) for spec in arm_specs(toys)]
    assert [arm.reach_frames for arm in arms] == [None, 2, 16]
    assert len({arm.encoder for arm in arms}) == 1
    worker = bench.Bench(arms)
    try:
        names = ('ttt', 'none', 'window')
        clip = worker.run(bench.Job(bench.RECALL, 'view', 10_000_000, names, keep_pictures=True))
        film = worker.run(bench.Job(bench.HORIZON, 'push', 10_000_000, ('ttt',)))
        pair = worker.run(bench.Job(bench.ACTION, 'push', 10_000_001, ('ttt',)))
    finally:
        worker.close()
    assert set(clip.recall) == set(names)
    for arm, blind in (('ttt', False), ('none', True), ('window', True)):
        assert [o.lag for o in clip.recall[arm]] == [48, 128]
        assert all(o.blind is blind and len(o.pictures) == 4 for o in clip.recall[arm])
        assert not blind or all(o.score == 0.5 for o in clip.recall[arm])
    assert len(film.horizon['ttt']) == 3 * len(horizons.HORIZONS)
    assert pair.action['ttt'][0].score('hold_last') == 0.5


def outcome(arm_score: float, lag: int, seed: int, right: float = 1.0) -> RecallOutcome:
    picture = np.full((64, 64, 3), seed % 200, np.uint8)
    return RecallOutcome(
        'cup',
        seed,
        'drawer',
        lag,
        False,
        (arm_score, arm_score),
        (right, right),
        (0.02, 0.04),
        (0.1, 0.1),
        0,
        (picture,) * 4,
    )


@pytest.fixture
def gathered() -> figures.Gathered:
    found = figures.Gathered()
    for lag in LAGS:
        found.recall.setdefault('ttt', []).extend(
            outcome(float(i < 19), lag, i) for i in range(20)
        )
        found.recall.setdefault('none', []).extend(
            replace(outcome(0.5, lag, i), blind=True) for i in range(20)
        )
        found.recall.setdefault('ttt_fp32', []).append(outcome(1.0, lag, 0))
    for horizon in horizons.HORIZONS:
        values = {'tokenizer': 30.0, 'model': 25.0 - horizon / 5, 'copy_last': 22.0 - horizon / 5}
        shares = {name: value / 40 for name, value in values.items()}
        found.horizon.setdefault('ttt', []).append(
            HorizonSample('free', 1, 200, horizon, 0.1, values, shares, values, shares)
        )
        found.horizon.setdefault('none', []).append(
            replace(found.horizon['ttt'][-1], psnr=values | {'model': 20.0})
        )
    choices = {'model': (1.0, 1.0), 'hold_last': (1.0, 0.0), 'shifted': (1.0, 0.5)}
    found.action['ttt'] = [
        ForkOutcome(kind, i, choices, first, share, (np.zeros((64, 64, 3), np.uint8),) * 4)
        for i, (kind, first, share) in enumerate(
            [('free', True, 0.06), ('free', False, 0.05), ('push', True, 0.2)]
        )
    ] + [ForkOutcome('free', 1, choices | {'model': (0.0, 0.0)}, True, 0.049)]
    found.action['none'] = [ForkOutcome('free', 0, choices | {'model': (1.0, 0.5)}, True, 0.06)]
    return found


@pytest.fixture
def measured(gathered: figures.Gathered) -> dict[str, object]:
    found = figures.quality_figures(gathered, seed=0)
    found |= {'pairs': 20, 'commit': 'abc', 'seeds': {'first': 10_000_000}}
    found['extras'] |= {
        'engine': 'toy fp32',
        'machine': 'a machine',
        'gates': figures.gates(found),
    }
    return found


def test_figures_have_the_keys_of_the_issue(measured: dict) -> None:
    assert set(measured) == {
        'recall_2afc',
        'identify',
        'psnr',
        'ssim',
        'action_2afc',
        'pairs',
        'seeds',
        'commit',
        'extras',
    }
    for key in ('recall_2afc', 'identify'):
        assert set(measured[key]) == {'ttt', 'none'}
        assert set(measured[key]['ttt']) == {'48', '128', '250', '500', '1000', '1500'}
    assert measured['recall_2afc']['ttt']['1500'] == pytest.approx(0.95)
    assert measured['recall_2afc']['none']['48'] == 0.5
    for key in ('psnr', 'ssim'):
        assert set(measured[key]) == {'model', 'copy_last', 'tokenizer', 'none'}
        assert set(measured[key]['model']) == {'1', '5', '10', '25'}
    extras = measured['extras']
    assert measured['action_2afc'] == 1.0 and extras['action_2afc_shifted'] == 0.75
    assert extras['action_pairs_by_kind'] == {'free': 2, 'push': 1}
    assert extras['action_2afc_from_1_percent'] == pytest.approx(2 / 3)
    assert extras['action_2afc_from_1_percent_by_kind'] == {'free': 0.5, 'push': 1.0}
    assert extras['action_pairs_from_1_percent'] == extras['action_pairs'] == 3
    assert 'action_2afc_from_1_percent' in extras['action_mask']
    assert 0.85 <= extras['recall_2afc_lower']['ttt']['250'] < 0.95
    assert extras['commit_error']['ttt']['250'] == pytest.approx(0.03)
    assert extras['fp32']['pairs'] == 1 and extras['fp32']['recall_2afc']['ttt']['48'] == 1.0
    assert extras['cases_beyond_reach'] == {'ttt': 0, 'none': 120}
    json.dumps(measured)


def test_gates_fail_where_the_figures_do(measured: dict) -> None:
    assert all(figures.gates(measured).values())

    def failed() -> list[str]:
        return [name for name, ok in figures.gates(measured).items() if not ok]

    measured['psnr']['model']['5'] = measured['psnr']['copy_last']['5']
    measured['psnr']['model']['1'] = measured['psnr']['copy_last']['1']  # equal is enough here
    assert failed() == ['PSNR at horizon 5 above copy-last']
    measured['extras']['recall_2afc_lower']['ttt']['1500'] = 0.84
    measured['identify']['ttt']['250'] = 0.79
    measured['action_2afc'] = 0.89
    assert len(failed()) == 4


def test_tables_and_page_show_the_figures(
    measured: dict, gathered: figures.Gathered, tmp_path: Path
) -> None:
    text = quality.write(measured, gathered, tmp_path)
    assert '| ttt | 0.950 (' in text and '| none | 0.500 | 0.500' in text
    assert '| ttt | 24.8 / 0.62 |' in text and '| none | 20.0 / 0.62 |' in text
    assert 'commands 5 frames late 0.750, none 0.750)' in text and 'commit abc' in text
    assert 'free 1.000 of 2 pairs, push 1.000 of 1 pairs' in text
    assert 'differ in 1 % or more: 0.667 (free 0.500 of 2 pairs' in text
    assert json.loads((tmp_path / 'quality.json').read_text())['pairs'] == 20
    page = (tmp_path / 'quality.html').read_text()
    assert page.count('data:image/png;base64,') >= 7
    assert (tmp_path / 'ttt_reveals_after_1500_frames.png').is_file()
    assert 'NOT passed' not in page


def test_table_replaces_only_what_stands_between_the_markers(tmp_path: Path) -> None:
    readme = tmp_path / 'README.md'
    begin, end = quality_page.BEGIN, quality_page.END
    readme.write_text(f'# before\n{begin}\nold\n{end}\nafter\n')
    quality_page.put_into(readme, 'new\n')
    assert readme.read_text() == f'# before\n{begin}\nnew\n{end}\nafter\n'
    readme.write_text(f'{end} {begin}')
    with pytest.raises(ValueError, match='no place for the table'):
        quality_page.put_into(readme, 'new\n')


def test_runs_of_other_seeds_share_no_episode_and_stay_away_from_training() -> None:
    runs = [quality.make_jobs(seed, 200, ('ttt', 'none', 'window'), 25) for seed in (0, 1, 7)]
    seen: set[tuple[str, str, int]] = set()
    for jobs in runs:
        names = {(job.what, job.kind, job.seed) for job in jobs}
        assert len(names) == len(jobs) and not names & seen
        seen |= names
    assert min(seed for _, _, seed in seen) >= 10_000_000
    largest = quality.make_jobs(0, quality.LARGEST_PAIRS, ('ttt',), 0)
    assert max(job.seed for job in largest) < quality.FIRST_SEED + quality.SEEDS_PER_RUN
    clips = [job for job in runs[0] if job.what == bench.RECALL]
    assert len(clips) == 200 and sum('ttt_fp32' in job.arms for job in clips) == 25


def test_missing_package_and_leak_stop_the_run(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ['--workers', '0', '--out', str(tmp_path), '--pairs', '1', '--check-pairs', '0']
    assert quality.main(['--package', str(tmp_path / 'nothing'), *common]) == 1
    assert 'PackageError' in capsys.readouterr().out

    def leak(jobs: object, specs: object, workers: int) -> object:
        raise LeakError('cup 1: told twins apart')

    monkeypatch.setattr(quality, 'run_jobs', leak)
    assert quality.main(['--package', str(toys / 'toy'), '--backend', 'toy', *common]) == 1
    assert 'LeakError: cup 1' in capsys.readouterr().out
    assert not (tmp_path / 'quality.json').exists()


def test_the_order_in_which_workers_end_changes_no_figure(gathered: figures.Gathered) -> None:
    rng = np.random.default_rng(0)
    # Scores that differ, so that the bootstrap tells one order from another.
    gathered.recall['ttt'] = [
        replace(o, choices=(float(rng.random()), 1.0)) for o in gathered.recall['ttt']
    ]
    gathered.sort()
    expected = figures.quality_figures(gathered, seed=0)
    unsorted = set()
    for _ in range(5):
        for group in (gathered.recall, gathered.horizon, gathered.action):
            for arm, outcomes in group.items():
                group[arm] = [outcomes[i] for i in rng.permutation(len(outcomes))]
        unsorted.add(json.dumps(figures.quality_figures(gathered, seed=0)))
        gathered.sort()
        assert figures.quality_figures(gathered, seed=0) == expected
    assert len(unsorted) > 1


@pytest.mark.parametrize(
    ('pairs', 'action', 'status'), [(200, 0.95, 0), (200, 0.89, 2), (199, 0.89, 0)]
)
def test_a_full_run_that_misses_a_gate_ends_with_2(
    measured: dict,
    gathered: figures.Gathered,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pairs: int,
    action: float,
    status: int,
) -> None:
    measured['action_2afc'] = action
    measured['extras']['gates'] = figures.gates(measured)
    monkeypatch.setattr(quality, 'measure', lambda args: (measured, gathered))
    readme = tmp_path / 'none.md'
    options = ['--pairs', str(pairs), '--out', str(tmp_path), '--readme', str(readme)]
    assert quality.main(options) == status
    shown = ' '.join(capsys.readouterr().out.split())
    assert ('gates missed: action 2AFC at 10 frames >= 0.90' in shown) == (status == 2)
