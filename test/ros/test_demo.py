"""The demo end to end with the toy engine, and the figures of its summary on made logs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
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
    summary = json.loads((out / 'summary.json').read_text())
    assert set(summary) >= KEYS and summary['frames_sent'] == frames
    accounted = (
        summary['predictions'] + summary['missing_frames'] + sum(summary['rejected'].values())
    )
    assert summary['predictions'] > 0 and frames - 5 <= accounted <= frames + 5
    assert 0 < summary['latency_ms']['p50'] <= summary['latency_ms']['p99']
    assert summary['state_bytes']['first'] == summary['state_bytes']['last'] <= 128 * 1024
    assert summary['backend'] == 'toy' and summary['commit'] and len(summary['load']) == 3
    page = (out / 'report.html').read_text()
    assert '<img' in page and 'side_by_side.mp4' in page
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


def test_slope_leaves_warm_up_out_and_finds_growth() -> None:
    received_ns = np.arange(1000, dtype=np.int64) * 40_000_000

    def samples(growth: float) -> list[measure.MemorySample]:
        return [
            measure.MemorySample(
                frame * 40_000_000, round(100e6 + growth * frame + (-50e6 if frame < 200 else 0))
            )
            for frame in range(0, 999, 20)
        ]

    assert abs(measure.rss_slope(samples(0), received_ns)) < 1e-6
    assert measure.rss_slope(samples(512), received_ns) == pytest.approx(512, abs=0.1)
    assert measure.rss_growth(samples(512), received_ns) == {'private': 512 * 720, 'shared': 0}
    assert np.isnan(measure.rss_slope(samples(0)[:2], received_ns))


def test_slope_finds_a_leak_of_pages_and_growth_tells_a_single_step() -> None:
    received_ns = np.arange(1300, dtype=np.int64) * 40_000_000

    def samples(rss_bytes: Callable[[int], int], shared: bool) -> list[measure.MemorySample]:
        return [
            measure.MemorySample(
                frame * 40_000_000, 10**8 + rss_bytes(frame), rss_bytes(frame) if shared else 7
            )
            for frame in range(0, 1299, 13)
        ]

    leak = samples(lambda frame: 16 * frame // 4096 * 4096, shared=False)
    assert measure.rss_slope(leak, received_ns) == pytest.approx(16, rel=0.15)
    step = samples(lambda frame: 65536 if frame > 700 else 0, shared=True)
    assert measure.rss_slope(step, received_ns) == 0
    assert measure.rss_growth(step, received_ns) == {'private': 0, 'shared': 65536}


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
