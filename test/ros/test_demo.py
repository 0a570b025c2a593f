"""The demo end to end with the toy engine, and the figures of its summary on made logs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from wm_ros.bag import BagRecorder
from wm_ros.bag.read import open_bag
from wm_ros.config import PlayerConfig, RecorderConfig, RuntimeConfig, SimNodeConfig
from wm_ros.contract import StreamContract
from wm_ros.nodes import demo, demo_real, measure, params
from wm_ros.nodes.logs import CsvLog, read_log
from wm_ros.nodes.table import PROCESSES, yaml_value
from wm_ros.toy_package import write_toy_package

REPOSITORY = Path(__file__).parents[2]
CONTRACTS = REPOSITORY / 'contracts'
RECORDED = REPOSITORY.parent / 'shared' / 'data' / 'g1_bottle' / 'episode_001'
KEYS = {
    'predictions', 'latency_ms', 'state_bytes', 'rss_slope_bytes_per_frame', 'backend', 'load',
    'commit',
}  # fmt: skip


def check_results(out: Path, frames: int) -> None:
    """What every demo must leave behind."""
    summary = json.loads((out / 'summary.json').read_text(), parse_constant=pytest.fail)
    assert summary['rss_slope_bytes_per_frame'] is None, 'a few seconds say nothing about growth'
    assert set(summary) >= KEYS and summary['frames_sent'] == frames
    accounted = (
        summary['predictions']
        + summary['missing_frames']
        + summary['dropped_frames']
        + sum(summary['rejected'].values())
    )
    assert summary['predictions'] > 0 and frames - 5 <= accounted <= frames + 5
    assert 0 < summary['latency_ms']['p50'] <= summary['latency_ms']['p99']
    assert summary['state_bytes']['first'] == summary['state_bytes']['last'] <= 128 * 1024
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
    steep = judged(1650, lambda frame: min(frame, 500) * 240)  # 120 KB in the first 20 s
    assert steep.bytes_per_frame == steep.private_bytes == 0
    assert steep.warm_up_s == pytest.approx(22, abs=0.1)
    assert steep.frames > 1000 and steep.seconds > 40
    late = judged(1650, lambda frame: 512 * frame)
    assert late.bytes_per_frame == pytest.approx(512)
    assert (late.private_bytes, late.shared_bytes) == (512 * late.frames, 0)
    assert judged(1100, lambda frame: 0).warm_up_s == 20


def test_a_run_too_short_to_judge_says_so() -> None:
    for frames in (1, 60, 393, 1000):
        text = measure.rss_growth(samples(frames, lambda frame: 2799 * frame), played(frames))
        assert isinstance(text, str) and text.startswith('Too short')
    assert f'{999 / RATE_HZ:.1f} s of predictions' in text and 'expected 20 s' in text
    stalled = measure.rss_growth(samples(1650, lambda frame: 0), played(1650)[[0, -1]])
    assert 'no prediction came' in str(stalled)
    few = samples(1650, lambda frame: 0)[::20]
    assert 'Too short' in str(measure.rss_growth(few, played(1650)))


def test_growth_tells_a_leak_of_pages_from_single_steps() -> None:
    leak = judged(1650, lambda frame: 16 * frame // 4096 * 4096)
    assert leak.bytes_per_frame == pytest.approx(16, rel=0.15)
    step = judged(1650, lambda frame: 65536 if frame > 1000 else 0, shared=True)
    assert step.bytes_per_frame == 0
    assert (step.private_bytes, step.shared_bytes) == (0, 65536)
    assert '+64 KB in all, +0.0 bytes per frame' in step.text


LEAKING = """
import sys
kept = []
for line in sys.stdin:
    for _ in range(int(line)):
        used = bytes(4000)                  # what every frame needs, and gives back
        kept.append(bytes(67)) if {leak} else None  # 67 and a header of 33 bytes
    print(len(kept), flush=True)
"""


@pytest.mark.parametrize('leak', [True, False])
def test_a_process_that_leaks_100_bytes_per_frame_is_seen(leak: bool) -> None:
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
    if leak:  # of 112 bytes: the allocator rounds 100 up to 16s, and the list takes 8
        assert 95 < growth.bytes_per_frame < 140, growth.text
        assert growth.private_bytes > 95 * growth.frames
    else:
        assert abs(growth.bytes_per_frame) < 4096 / growth.frames, growth.text


def test_shipped_parameter_files_are_those_of_the_code() -> None:
    for name in PROCESSES:
        shipped = (REPOSITORY / 'config' / f'{name}.yaml').read_text()
        assert shipped == params.example_file(name), 'run: python -m wm_ros.nodes.params'


def test_table_knows_the_parameters_of_each_process() -> None:
    configs = {RuntimeConfig, SimNodeConfig, RecorderConfig, PlayerConfig}
    assert {process.config for process in PROCESSES.values()} == configs
    with pytest.raises(ValueError, match='sim_node has no parameter speed'):
        PROCESSES['sim'].command('python', {'speed': 1})
    words = PROCESSES['sim'].command('python', {'kind': "it's", 'clock': True}, (('a', 'b'),))
    assert words[words.index("kind:='it''s'") - 1] == '-p' and 'clock:=true' in words
    assert words[-2:] == ['-r', 'a:=b']
    assert yaml_value(('x', 1, 2.5, False)) == "['x', 1, 2.5, false]"
