"""The speed run on the toy engine, under a clock that the test turns: figures come out exactly."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console

from wm_ros.backends import Backend, EngineUnavailable, resolve_backend
from wm_ros.backends.resolve import AUTO_ORDER
from wm_ros.config import ModelConfig
from wm_ros.contract import StreamContract
from wm_ros.datatypes import FloatArray
from wm_ros.evaluation import contest, endurance, machine, speed, speed_page
from wm_ros.evaluation.runners import ENGINES, Candidates, Runner, Stream, load_runners
from wm_ros.evaluation.stopwatch import (
    Contender,
    Stopwatch,
    TimedBackend,
    process_clock,
    relative_time,
    round_robin,
    summarise,
)
from wm_ros.manifest import GRAPHS, PackageError
from wm_ros.model_package import ModelPackage
from wm_ros.toy_package import write_toy_package
from wm_ros.world_model import WorldModel

CONTRACT = StreamContract.load(Path(__file__).parents[2] / 'contracts' / 'tabletop.yaml')
ARMS = ('ttt', 'none', 'window')
PLAN = contest.Plan(
    frame_rounds=3,
    frame_laps=2,
    candidates=4,
    batch_rounds=2,
    fork_rounds=2,
    fork_laps=3,
    long_frames=20,
    edge_frames=5,
)
SPEED_MS = {'plain': 3, 'half': 1.5}


class HandClock:
    """A clock that stands still until it is moved; the CPU time is half the wall time."""

    def __init__(self) -> None:
        self.wall_ns = 0

    def __call__(self) -> tuple[int, int]:
        return self.wall_ns, self.wall_ns // 2

    def move(self, ms: float) -> None:
        self.wall_ns += int(ms * 1e6)


class Paced:
    """The toy engine, each graph of which takes `ms`; `predict` twice that."""

    precision, reason = 'fp32', ''

    def __init__(self, backend: Backend, clock: HandClock, name: str, ms: float) -> None:
        self.name, self._backend, self._clock, self._ms = name, backend, clock, ms

    def run(self, graph: str, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        self._clock.move(2 * self._ms if graph == 'predict' else self._ms)
        return self._backend.run(graph, inputs)


@pytest.fixture(scope='module')
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[ModelPackage]:
    root = tmp_path_factory.mktemp('packages')
    names = {arm: 'toy' if arm == 'ttt' else f'toy_{arm}' for arm in ARMS}
    return [
        write_toy_package(
            root / name,
            CONTRACT,
            model=ModelConfig(arm=arm, action_width=CONTRACT.action_width),
            name=name,
        )
        for arm, name in names.items()
    ]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def build(packages: list[ModelPackage], clock: HandClock) -> list[Runner]:
    """Every package on two engines, the second twice as fast."""
    made = []
    for package in packages:
        for name, ms in SPEED_MS.items():
            watch = Stopwatch(clock)
            backend = Paced(resolve_backend('toy', package), clock, name, ms)
            world = WorldModel(package, TimedBackend(backend, watch))
            made.append(Runner(package, f'{name} fp32', world, watch))
    return made


@pytest.fixture
def runners(packages: list[ModelPackage], clock: HandClock) -> list[Runner]:
    return build(packages, clock)


@pytest.fixture(scope='module')
def figures(packages: list[ModelPackage]) -> dict[str, Any]:
    """What a whole run would write; read only."""
    clock = HandClock()
    runners = build(packages, clock)
    return {
        'commit': 'none',
        'machine': machine.describe(),
        'load': {'before': machine.load(), 'after': machine.load()},
        'seconds': 1.0,
        'threads': 1,
        'plan': vars(PLAN),
        'packages': {r.package.name: {'arm': r.package.model.arm} for r in runners},
        'packages_not_here': ['toy_absent'],
        'engines_not_here': {'cuda:fp32': 'no such device'},
        **contest.measure(runners, PLAN, clock, lambda: 2**20),
    }


def test_a_lap_is_the_time_between_its_ends(clock: HandClock) -> None:
    watch = Stopwatch(clock)
    clock.move(100)
    with watch.lap('outer'):
        clock.move(1)
        with watch.lap('inner'):
            clock.move(2)
    clock.move(100)
    assert watch.take() == {'inner': [(2_000_000, 1_000_000)], 'outer': [(3_000_000, 1_500_000)]}
    assert watch.take() == {}


def test_the_process_clock_counts_work_of_this_process() -> None:
    before = process_clock()
    while process_clock()[1] == before[1]:
        sum(range(1000))
    after = process_clock()
    assert after[0] > before[0] and after[1] > before[1]


def test_turns_go_round_and_each_round_begins_one_further_on(clock: HandClock) -> None:
    order: list[str] = []
    contenders = [
        Contender(lambda name=name: order.append(name), Stopwatch(clock), rounds=3)
        for name in 'abc'
    ]
    rounds: list[int] = []
    assert round_robin(contenders, 3, clock, 60, rounds.append) == 3
    assert ''.join(order) == 'abcbcacab'
    assert rounds == [1, 2, 3]


def test_no_round_begins_after_the_limit_and_all_have_had_the_same(clock: HandClock) -> None:
    watches = [Stopwatch(clock) for _ in range(2)]

    def work(watch: Stopwatch) -> None:
        with watch.lap('work'):
            clock.move(400)

    contenders = [
        Contender(lambda watch=watch: work(watch), watch, rounds=100) for watch in watches
    ]
    assert round_robin(contenders, 100, clock, limit_s=2.0) == 3
    shapes = [contender.times_ms()['work'].shape for contender in contenders]
    assert shapes == [(3, 1, 2), (3, 1, 2)]


def test_uncounted_calls_are_made_and_not_counted(clock: HandClock) -> None:
    watch, calls = Stopwatch(clock), []

    def work() -> None:
        with watch.lap('work'):
            clock.move(100 if len(calls) % 3 == 0 else 1)
            calls.append(1)

    contender = Contender(work, watch, rounds=2, laps=2, uncounted=1)
    round_robin([contender], 2, clock, 60)
    assert len(calls) == 6
    np.testing.assert_array_equal(contender.times_ms()['work'][..., 0], np.ones((2, 2)))


def test_summary_and_ratio() -> None:
    walls = np.arange(1.0, 101.0)
    times = np.stack([walls, walls / 2], -1).reshape(25, 4, 2)
    assert summarise(times) == {
        'wall_p50_ms': 50.5,
        'wall_p99_ms': 99.01,
        'cpu_p50_ms': 25.25,
        'cpu_p99_ms': 49.505,
        'samples': 100,
    }
    # Load that slows a whole round down fourfold moves both alike, and one slow lap moves neither.
    load = np.where(np.arange(25) % 2, 4.0, 1.0)[:, None, None]
    reference = np.full((25, 4, 2), 2.0) * load
    slow = np.full((25, 4, 2), [3.0, 1.0]) * load
    slow[:, 0] *= 50
    assert relative_time(slow, reference) == {'wall': 1.5, 'cpu': 0.5}


def test_a_frame_is_one_observation_and_one_prediction_as_a_picture(
    runners: list[Runner], clock: HandClock
) -> None:
    stream, watch = Stream(runners[0]), runners[0].watch
    for index in range(3):
        stream.frame()
        assert stream.memory.frames == index + 1
        laps = {stage: [wall for wall, _ in laps] for stage, laps in watch.take().items()}
        assert {'encode', 'write', 'predict', 'decode', 'frame'} == set(laps)
        assert laps['predict'] == [6_000_000] and laps['encode'] == laps['decode'] == [3_000_000]
        assert sum(laps['frame']) == sum(sum(laps[graph]) for graph in GRAPHS)


def test_a_question_leaves_the_memory_and_asks_no_picture(runners: list[Runner]) -> None:
    stream = Stream(runners[0])
    stream.warm_up()
    before = {name: array.tobytes() for name, array in stream.memory.arrays.items()}
    runners[0].watch.take()
    Candidates(runners[0], stream.memory, 4).step()
    assert set(runners[0].watch.take()) == {'predict', 'write', 'imagine'}
    assert {name: array.tobytes() for name, array in stream.memory.arrays.items()} == before


def test_every_package_and_engine_has_its_figures(figures: dict[str, Any]) -> None:
    for part in ('frame', 'batch'):
        assert list(figures[part]) == ['toy', 'toy_none', 'toy_window']
        assert all(list(row) == ['plain fp32', 'half fp32'] for row in figures[part].values())
    for row in figures['frame'].values():
        for engine, ms in SPEED_MS.items():
            stages = row[f'{engine} fp32']
            runs = {stage: stages[stage]['runs_per_frame'] for stage in GRAPHS}
            assert set(runs.values()) == {1}, 'as in the node, which writes no prediction'
            whole_ms = ms * (sum(runs.values()) + 1)
            assert stages['encode']['wall_p50_ms'] == stages['write']['wall_p50_ms'] == ms
            assert stages['predict']['wall_p99_ms'] == 2 * ms
            assert stages['predict']['cpu_p50_ms'] == ms
            assert stages['frame']['wall_p50_ms'] == pytest.approx(whole_ms)
            assert stages['rest']['wall_p50_ms'] == pytest.approx(0)
            assert stages['frame']['samples'] == PLAN.frame_rounds * PLAN.frame_laps
    batch = figures['batch']['toy']['plain fp32']
    assert batch['predict']['candidate_steps_per_s'] == round(4 / 6e-3, 1)
    assert batch['imagine']['candidate_steps_per_s'] == round(4 / 9e-3, 1)


def test_ratios_are_against_the_first_engine_and_the_first_package(
    figures: dict[str, Any],
) -> None:
    for what in ('frame', 'imagine'):
        ratios = figures['relative_time'][what]
        for row in ratios['engines'].values():
            assert row['plain fp32'] == {'wall': 1, 'cpu': 1}
            assert row['half fp32'] == pytest.approx({'wall': 0.5, 'cpu': 0.5})
        assert set(ratios['packages']) == {'plain fp32', 'half fp32'}
        for row in ratios['packages'].values():
            assert list(row) == ['toy', 'toy_none', 'toy_window']
            assert all(ratio == {'wall': 1, 'cpu': 1} for ratio in row.values())


def test_forks_weigh_what_their_memories_weigh(
    figures: dict[str, Any], packages: list[ModelPackage]
) -> None:
    for package in packages:
        fork = figures['fork'][package.name]
        assert fork['state_bytes'] == package.manifest.state_bytes
        assert fork['fork_bytes'] == PLAN.candidates * package.manifest.state_bytes
        assert fork['samples'] == PLAN.fork_rounds * PLAN.fork_laps
    assert figures['fork']['toy_none']['state_bytes'] < figures['fork']['toy']['state_bytes']


def test_the_long_session_runs_on_the_last_engine_and_stays_constant(
    figures: dict[str, Any], packages: list[ModelPackage]
) -> None:
    long = figures['long']
    assert (long['frames'], long['edge_frames']) == (20, 5)
    assert long['rss'] | {'curve_bytes': None} == {
        'warm_bytes': 2**20,
        'last_bytes': 2**20,
        'slope_bytes_per_frame': 0,
        'curve_bytes': None,
    }
    for package in packages:
        arm = long['arms'][package.name]
        assert arm['engine'] == 'half fp32'
        size = package.manifest.state_bytes
        assert arm['state_bytes'] == {'first': size, 'last': size, 'largest': size}
        assert arm['last_to_first'] == arm['old_to_young'] == {'wall': 1, 'cpu': 1}
        assert arm['curve']['frame'] == list(range(1, 21))


class Ageing(Paced):
    """An engine that takes longer the more frames it has been given, whatever the memory."""

    def run(self, graph: str, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        self._ms *= 1.01
        return super().run(graph, inputs)


def run_long(
    runner: Runner, clock: HandClock, frames: int, rss: Callable[[], int], limit_s: float = 1e6
) -> dict[str, Any]:
    return endurance.run_long([runner], frames, 10, clock, rss, (limit_s, 1e6), lambda done: None)


def test_growth_shows(packages: list[ModelPackage], clock: HandClock) -> None:
    """Cost that rises with time is no matter of the memory's age; resident memory counts only
    after the beginning, and a single step of it is no growth.
    """
    watch = Stopwatch(clock)
    backend = Ageing(resolve_backend('toy', packages[0]), clock, 'ageing', 1)
    world = WorldModel(packages[0], TimedBackend(backend, watch))
    resident = iter(
        [*range(0, 10_000, 1000), *(9000 + 7 * i + 65536 * (i > 35) for i in range(40))]
    )
    long = run_long(Runner(packages[0], 'ageing', world, watch), clock, 50, lambda: next(resident))
    arm = long['arms']['toy']
    assert arm['last_to_first']['wall'] > 2
    assert arm['old_to_young']['wall'] == pytest.approx(1, abs=0.1)
    assert long['rss']['slope_bytes_per_frame'] == 7


def test_a_long_session_that_runs_out_of_time_says_how_far_it_came(
    runners: list[Runner], clock: HandClock
) -> None:
    long = run_long(runners[0], clock, 1000, lambda: 1, limit_s=0.1)
    assert long['frames'] < 20
    assert long['arms']['toy']['curve']['frame'][-1] == long['frames']


def test_tables_picture_and_json_show_what_was_measured(figures: dict[str, Any]) -> None:
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    console = Console(width=80)
    with console.capture() as captured:
        for table in speed_page.tables(figures):
            console.print(table)
    text = captured.get()
    for expected in ('toy_window (window), ms', 'half fp32', 'imagine x4', 'old / young', '0.50'):
        assert expected in text
    assert '…' not in text
    notes = speed_page.notes(figures)
    assert 'not measured: toy_absent' in notes and 'cuda:fp32: no such device' in notes
    assert 'time was over' not in notes
    short = replace(PLAN, long_frames=21)
    assert 'after 20 of 21 frames' in speed_page.notes(figures | {'plan': vars(short)})
    picture = cv2.imdecode(np.frombuffer(speed_page.draw(figures), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[0] > 500 and picture.std() > 10


def test_the_last_engine_that_runs_is_the_one_that_auto_picks() -> None:
    kinds = list(dict.fromkeys(engine.partition(':')[0] for engine in ENGINES))
    assert kinds == [kind for kind in reversed(AUTO_ORDER) if kind != 'tensorrt']


def test_engines_that_do_not_run_are_named_and_equal_ones_loaded_once(
    packages: list[ModelPackage],
) -> None:
    made, refused = load_runners(packages, ['tensorrt', 'toy:fp32', 'toy:auto'], 1, process_clock)
    assert [(r.package.name, r.engine) for r in made] == [(p.name, 'toy fp32') for p in packages]
    assert list(refused) == ['tensorrt'] and 'not built' in refused['tensorrt']
    with pytest.raises(EngineUnavailable, match='no engine runs here: TensorRT'):
        load_runners(packages, ['tensorrt'], 1, process_clock)
    with pytest.raises(ValueError, match='toy, toy: expected different names'):
        load_runners(packages[:1] * 2, ['toy'], 1, process_clock)


def test_baselines_are_taken_when_they_are_there(
    packages: list[ModelPackage], tmp_path: Path
) -> None:
    found, absent = speed.find_arms(str(packages[0].path))
    assert [package.name for package in found] == [package.name for package in packages]
    assert absent == []
    alone = write_toy_package(tmp_path / 'toy', CONTRACT)
    found, absent = speed.find_arms(str(alone.path))
    assert [package.name for package in found] == ['toy']
    assert [Path(name).name for name in absent] == ['toy_none', 'toy_window']
    damaged = write_toy_package(tmp_path / 'toy_none', CONTRACT)
    damaged.graph_path('write').write_text('something else')
    with pytest.raises(PackageError, match='damaged'):
        speed.find_arms(str(alone.path))


def test_the_command_writes_figures_and_picture(
    packages: list[ModelPackage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, 'QUICK', PLAN)
    given = ['--quick', '--package', str(packages[0].path), '--engines', 'toy', 'tensorrt']
    assert speed.main([*given, '--out', str(tmp_path)]) == 0
    figures = json.loads((tmp_path / 'bench.json').read_text())
    assert {'command', 'commit', 'machine', 'load', 'seconds', 'threads', 'plan'} <= set(figures)
    assert '--quick' in figures['command'] and figures['machine']['cores'] >= 1
    assert figures['frame']['toy_window']['toy fp32']['frame']['wall_p50_ms'] > 0
    assert (tmp_path / 'bench.png').read_bytes().startswith(b'\x89PNG')
    assert speed.main(['--package', str(tmp_path / 'nowhere'), '--out', str(tmp_path)]) == 1
