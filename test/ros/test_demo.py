"""The demo end to end with the toy engine, and the figures of its summary on made logs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil
import pytest

from wm_ros import share
from wm_ros.bag import BagRecorder
from wm_ros.bag.read import open_bag
from wm_ros.config import (
    PlannerConfig,
    PlayerConfig,
    RecorderConfig,
    RuntimeConfig,
    SimNodeConfig,
)
from wm_ros.contract import StreamContract
from wm_ros.evaluation import gate
from wm_ros.nodes import demo, demo_real, gates, measure, params, rehearsal
from wm_ros.nodes.logs import CsvLog, read_log
from wm_ros.nodes.processes import ProcessFailed
from wm_ros.nodes.table import PROCESSES, yaml_value
from wm_ros.toy_package import write_toy_package

REPOSITORY = Path(__file__).parents[2]
CONTRACTS = REPOSITORY / 'contracts'
RECORDED = share.g1_bottle() / demo_real.HELD_OUT
KEYS = {
    'predictions', 'latency_ms', 'state_bytes', 'rss_slope_bytes_per_frame', 'backend', 'load',
    'commit',
}  # fmt: skip
STATE_GATES = ['state bytes at the last frame as at the first', 'state bytes <= 131,072']


def check_results(out: Path, frames: int) -> None:
    """What every demo must leave behind."""
    summary = json.loads((out / 'summary.json').read_text(), parse_constant=pytest.fail)
    assert summary['rss_slope_bytes_per_frame'] is None, 'a few seconds say nothing about growth'
    assert set(summary) >= KEYS and summary['frames_sent'] == frames
    seen = summary['predictions'] + sum(summary['rejected'].values())
    assert summary['predictions'] > 0 and seen + summary['dropped_frames'] <= frames + 5
    if not summary['dropped_frames']:  # a machine that is too busy loses frames on the way too
        assert seen + summary['missing_frames'] >= frames - 5
    assert 0 < summary['latency_ms']['p50'] <= summary['latency_ms']['p99']
    assert summary['state_bytes']['first'] == summary['state_bytes']['last'] <= 128 * 1024
    found = {one['name']: one['passed'] for one in summary['gates']}
    assert [name for name, passed in found.items() if passed is not None] == STATE_GATES
    assert all(found[name] for name in STATE_GATES) and len(found) == 7
    assert summary['backend'] == 'toy' and summary['commit'] and len(summary['load']) == 3
    page = (out / 'report.html').read_text()
    assert '<img' in page and 'side_by_side.mp4' in page
    assert summary['rss_text'].startswith('Too short to judge') and summary['rss_text'] in page
    assert (out / 'side_by_side.mp4').stat().st_size > 1000


@pytest.mark.ros
def test_demo_leaves_summary_report_and_bag(tmp_path: Path) -> None:
    contract = StreamContract.load(CONTRACTS / 'tabletop.yaml')
    package = write_toy_package(tmp_path / 'toy', contract)
    out = tmp_path / 'demo'
    arguments = ['--out', str(out), '--package', str(package.path), '--backend', 'toy']
    assert demo.main([*arguments, '--frames', '60']) == 0
    check_results(out, 60)
    assert len((out / 'truth.jsonl').read_text().splitlines()) == 60


@pytest.mark.ros
@pytest.mark.skipif(not RECORDED.is_dir(), reason=f'{RECORDED} is not there')
def test_demo_real_plays_a_recording(tmp_path: Path) -> None:
    contract = StreamContract.load(CONTRACTS / 'g1_bottle.yaml')
    package = write_toy_package(tmp_path / 'toy', contract)
    short = tmp_path / 'short'
    with open_bag(RECORDED) as reader, BagRecorder(short) as writer:
        for connection, log_ns, data in reader.messages():
            if log_ns - reader.start_time < 3_000_000_000:
                writer.write(connection.topic, connection.msgtype, data, log_ns)
    out = tmp_path / 'demo'
    arguments = ['--out', str(out), '--package', str(package.path), '--backend', 'toy']
    assert demo_real.main([*arguments, '--bag', str(short)]) == 0
    check_results(out, 90)


def test_demos_say_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(['--package', 'no_such_package', '--out', str(tmp_path)]) == 1
    assert "no model package 'no_such_package'" in capsys.readouterr().err
    contract = StreamContract.load(CONTRACTS / 'g1_bottle.yaml')
    package = write_toy_package(tmp_path / 'toy', contract)
    bag = tmp_path / 'no_bag'
    assert demo_real.main(['--package', str(package.path), '--bag', str(bag)]) == 1
    assert str(bag) in capsys.readouterr().err


def test_latencies_join_sender_and_receiver_by_stamp(tmp_path: Path) -> None:
    sent = CsvLog(str(tmp_path / 'sent.csv'), ('stamp_ns', 'monotonic_ns'))
    got = CsvLog(
        str(tmp_path / 'got.csv'), ('source_stamp_ns', 'horizon', 'monotonic_ns', 'latency_ms')
    )
    for index in range(10):
        sent.write(10**18 + index, 1_000_000 * index)
        if index != 3:
            got.write(10**18 + index, 1, 1_000_000 * index + 5_000_000 + index, 4.5)
            got.write(10**18 + index, 2, 1_000_000 * index + 9_000_000, 4.5)
    sent.close()
    got.close()
    with (tmp_path / 'got.csv').open('a') as file:
        file.write('1000000000000000003,1,77')  # cut by a kill
    latencies = measure.read_latencies(tmp_path / 'sent.csv', tmp_path / 'got.csv')
    kept = [index for index in range(10) if index != 3]
    np.testing.assert_allclose(latencies.total_ms, [5 + index * 1e-6 for index in kept])
    assert latencies.sent == 10 and len(read_log(tmp_path / 'sent.csv')) == 10
    (tmp_path / 'none.csv').write_text('source_stamp_ns,horizon,monotonic_ns\n')
    with pytest.raises(ValueError, match='10 frames were sent, no prediction'):
        measure.read_latencies(tmp_path / 'sent.csv', tmp_path / 'none.csv')


RATE_HZ, SAMPLED_EVERY = 25, 13  # a reading of the memory every half second


def played(frames: int) -> np.ndarray:
    """When the predictions of a run at 25 Hz were received."""
    return 10**9 + np.arange(frames, dtype=np.int64) * 10**9 // RATE_HZ


def samples(
    frames: int, rss_bytes: Callable[[int], float], shared: bool = False
) -> list[measure.MemorySample]:
    """Readings over such a run: resident bytes by frame."""
    return [
        measure.MemorySample(
            int(played(frames)[frame]),
            10**8 + round(rss_bytes(frame)),
            round(rss_bytes(frame)) if shared else 7,
        )
        for frame in range(0, frames, SAMPLED_EVERY)
    ]


def judged(frames: int, rss_bytes: Callable[[int], float], shared: bool = False) -> measure.Growth:
    """The judgement of such a run."""
    growth = measure.rss_growth(samples(frames, rss_bytes, shared), played(frames))
    assert isinstance(growth, measure.Growth), growth
    return growth


def test_growth_leaves_the_warm_up_out() -> None:
    steep = judged(1650, lambda frame: min(frame, 800) * 240)  # 192 KB in the first half
    assert steep.bytes_per_frame == steep.private_bytes == 0
    assert steep.warm_up_s == pytest.approx(33, abs=0.1)
    assert steep.frames > 800 and steep.seconds > 32
    late = judged(1650, lambda frame: 512 * frame)
    assert late.bytes_per_frame == pytest.approx(512)
    assert (late.private_bytes, late.shared_bytes) == (512 * late.frames, 0)
    assert late.flat_frames == 0 and steep.flat_frames == steep.frames
    assert judged(1010, lambda frame: 0).warm_up_s == pytest.approx(20.2, abs=0.1)


def test_a_run_too_short_to_judge_says_so() -> None:
    for frames in (1, 60, 393, 1000):
        text = measure.rss_growth(samples(frames, lambda frame: 2799 * frame), played(frames))
        assert isinstance(text, str) and text.startswith('Too short')
    assert f'{999 / RATE_HZ:.1f} s of predictions' in text and 'expected 20 s' in text
    stalled = measure.rss_growth(samples(1650, lambda frame: 0), played(1650)[[0, -1]])
    assert 'no prediction came' in str(stalled)
    few = samples(1650, lambda frame: 0)[::20]
    assert 'Too short' in str(measure.rss_growth(few, played(1650)))


SUMMARY = {
    'predictions': 1649, 'latency_ms': {'p50': 9.0, 'p99': 15.5}, 'cpus': 2, 'load': [3.5, 2, 1],
    'state_bytes': {'first': 36908, 'last': 36908}, 'rss_text': 'Too short to judge: 13 s',
}  # fmt: skip


def missed(frames: int = 1650, **changed: object) -> list[str]:
    """The gates that such a run misses."""
    return gate.missed(gates.judge({**SUMMARY, **changed}, frames))


def missed_by(growth: measure.Growth) -> list[bool]:
    """Whether such a growth misses the gate of the stretch, and that of the own pages."""
    found = gates.judge({**SUMMARY, 'rss_growth': asdict(growth)}, 1650)[-2:]
    assert all(one.passed is not None for one in found)
    return [one.passed is False for one in found]


def in_pages(frames: int, size: Callable[[int], float]) -> measure.Growth:
    """The judgement of a run whose memory is `size` by frame, in whole pages."""
    return judged(frames, lambda frame: size(frame) // 4096 * 4096)


@pytest.mark.parametrize('phase', range(0, 4096, 128))
@pytest.mark.parametrize(('frames', 'leak'), [(1650, 16), (1650, 24), (9000, 4), (1010, 27)])
def test_a_leak_of_one_small_object_per_frame_is_missed_by_no_phase_of_its_pages(
    frames: int, leak: int, phase: int
) -> None:
    growth = in_pages(frames, lambda frame: phase + leak * frame)
    assert missed_by(growth) == [True, growth.private_bytes > 65536]
    assert growth.least_seen <= leak and f'{growth.least_seen:.1f} bytes' in growth.text


@pytest.mark.parametrize(
    ('seconds', 'steps'),
    [  # second of the run -> pages more: four runs as measured, and one page in every third
        (66, {22: 9, 30: 1, 35: 1, 42: 1, 65: 1}),
        (66, {34: 1, 46: 1, 64: 1}),
        (66, {25: 6, 46: 4, 48: 1}),
        (66, {21: 6, 27: 4, 38: 2, 39: 1, 49: 1}),
        (66, {25: 6, 38: 5, 51: 1}),
        (360, {25: 6, 38: 5, 51: 1, 87: 1, 180: 1, 258: 2, 359: 1}),
    ],
)
def test_pages_that_come_now_and_then_pass(seconds: int, steps: dict[int, int]) -> None:
    def size(frame: int) -> int:
        return 4096 * sum(pages for at_s, pages in steps.items() if at_s * RATE_HZ <= frame)

    assert missed_by(judged(seconds * RATE_HZ, size)) == [False, False]


def test_large_pieces_are_judged_by_their_sum_and_shared_ones_are_not() -> None:
    def piece(size: int) -> Callable[[int], int]:
        return lambda frame: size if frame > 1000 else 0

    step = judged(1650, piece(65536), shared=True)
    assert step.bytes_per_frame == 0
    assert (step.private_bytes, step.shared_bytes) == (0, 65536)
    assert '+64 KB in all' in step.text and '+0.0 bytes per frame' in step.text
    assert missed_by(step) == [False, False]
    assert missed_by(judged(1650, piece(65536))) == [False, False]
    assert missed_by(judged(1650, piece(65536 + 4096))) == [False, True]


def test_gates_of_a_full_run() -> None:
    growth = asdict(judged(1650, lambda frame: 0))
    found = gates.judge({**SUMMARY, 'rss_growth': growth}, 1650)
    assert [one.passed for one in found] == [True] * 7
    assert missed(predictions=1499) == ['predictions >= 1,500']
    assert missed(latency_ms={'p50': 20.1, 'p99': 40.0}) == ['latency p50 <= 20 ms']
    assert missed(latency_ms={'p50': 20.0, 'p99': 40.1}) == ['latency p99 <= 40 ms']
    assert missed(state_bytes={'first': 36908, 'last': 36912}) == STATE_GATES[:1]
    assert missed(state_bytes={'first': 131073, 'last': 131073}) == STATE_GATES[1:]
    late = gates.judge({**SUMMARY, 'latency_ms': {'p50': 25.0, 'p99': 30.0}}, 1650)
    assert late[1].text == 'NOT passed: 25 (load 3.5 on 2 cores)'


def test_a_short_run_is_judged_by_what_it_shows_and_says_what_it_does_not() -> None:
    slow = {'predictions': 60, 'latency_ms': {'p50': 500.0, 'p99': 900.0}}
    found = gates.judge({**SUMMARY, **slow}, 60)
    assert [one.passed for one in found] == [None, None, None, True, True, None, None]
    texts = [one.text for one in found if one.passed is None]
    assert texts[0] == 'not judged: (a run of 60 frames)'
    assert texts[2] == 'not judged: (60 predictions, expected 1,000 or more)'
    assert texts[4] == 'not judged: (Too short to judge)'
    assert missed(390, **{**slow, 'predictions': 390}) == ['latency p50 <= 20 ms']
    assert missed(60, **slow, state_bytes={'first': 8, 'last': 16}) == STATE_GATES[:1]


def plan_for(out: Path) -> rehearsal.Rehearsal:
    """A plan that is not played."""
    contract = StreamContract.load(CONTRACTS / 'tabletop.yaml')
    return rehearsal.Rehearsal(out, out / 'package', contract, 'sim', {}, 1650, 25.0, 'title')


def test_a_missed_gate_is_named_and_is_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = {**SUMMARY, 'frames_sent': 1650, 'backend': 'toy', 'precision': 'fp32'}
    monkeypatch.setattr(rehearsal, 'rehearse', lambda plan, console: shown)
    assert rehearsal.run('demo', lambda: plan_for(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 'passed     latency p99 <= 40 ms: 15.5' in lines and 'NOT passed' not in str(lines)
    shown['predictions'] = 1400
    assert rehearsal.run('demo', lambda: plan_for(tmp_path)) == 2
    lines = capsys.readouterr().out.splitlines()
    assert 'NOT passed predictions >= 1,500: 1,400' in lines
    assert lines[-1] == 'demo: gates missed: predictions >= 1,500'


def test_a_run_that_fails_leaves_no_results_of_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ProcessFailed('no')

    for name in ('summary.json', 'report.html', 'side_by_side.mp4', 'memory.csv'):
        (tmp_path / name).write_text('of an earlier run')
    (tmp_path / 'bag').mkdir()
    (tmp_path / 'mine.txt').write_text('not of a run')
    monkeypatch.setattr(rehearsal, 'play', fails)
    assert rehearsal.run('demo', lambda: plan_for(tmp_path)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']


LEAKING = """
import sys
kept = []
for line in sys.stdin:
    for _ in range(int(line)):
        used = bytes(4000)                  # what every frame needs, and gives back
        kept.append(bytes(4096)) if {leak} else None
    print(len(kept), flush=True)
"""


@pytest.mark.parametrize('leak', [True, False])
def test_a_process_that_leaks_a_page_per_frame_is_seen(leak: bool) -> None:
    frames, readings = 1650, []
    command = [sys.executable, '-c', LEAKING.format(leak=leak)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin and child.stdout
        process = psutil.Process(child.pid)
        for frame in range(0, frames, SAMPLED_EVERY):
            memory = process.memory_info()
            readings.append(
                measure.MemorySample(int(played(frames)[frame]), memory.rss, memory.shared)
            )
            child.stdin.write(f'{SAMPLED_EVERY}\n')
            child.stdin.flush()
            assert int(child.stdout.readline()) == leak * (frame + SAMPLED_EVERY)
        child.stdin.close()
    growth = measure.rss_growth(readings, played(frames))
    assert isinstance(growth, measure.Growth)
    if leak:
        assert 4000 < growth.bytes_per_frame < 5000, growth.text
    else:
        assert abs(growth.bytes_per_frame) < 4096 / growth.frames, growth.text
    assert missed_by(growth) == [leak, leak], growth.text


def test_shipped_parameter_files_are_those_of_the_code() -> None:
    for name in PROCESSES:
        shipped = (REPOSITORY / 'config' / f'{name}.yaml').read_text()
        assert shipped == params.example_file(name), 'run: python -m wm_ros.nodes.params'


def test_table_knows_the_parameters_of_each_process() -> None:
    configs = {RuntimeConfig, SimNodeConfig, RecorderConfig, PlayerConfig, PlannerConfig}
    assert {process.config for process in PROCESSES.values()} == configs
    with pytest.raises(ValueError, match='sim_node has no parameter speed'):
        PROCESSES['sim'].command('python', {'speed': 1})
    words = PROCESSES['sim'].command('python', {'kind': "it's", 'clock': True}, (('a', 'b'),))
    assert words[words.index("kind:='it''s'") - 1] == '-p' and 'clock:=true' in words
    assert words[-2:] == ['-r', 'a:=b']
    assert yaml_value(('x', 1, 2.5, False)) == "['x', 1, 2.5, false]"
