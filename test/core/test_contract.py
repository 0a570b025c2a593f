"""A contract file: what is read, what is refused, and what makes two contracts differ."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from wm_ros.contract import StreamContract, find_contract
from wm_ros.contract_fields import ContractError
from wm_ros.sim import world

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = sorted((ROOT / 'contracts').glob('*.yaml'))


def tabletop() -> dict:
    return yaml.safe_load((ROOT / 'contracts/tabletop.yaml').read_text())


@pytest.mark.parametrize('path', CONTRACTS, ids=lambda path: path.stem)
def test_shipped_contracts_survive_a_round_trip(path: Path) -> None:
    contract = StreamContract.load(path)
    assert contract.name == path.stem
    assert StreamContract.from_dict(contract.to_dict()) == contract
    assert find_contract(path.stem) == path


def test_tabletop_contract_is_the_simulators() -> None:
    entries = StreamContract.load(ROOT / 'contracts/tabletop.yaml').entries
    assert tuple(entry.name for entry in entries) == world.ACTION_NAMES
    assert tuple(entry.unit for entry in entries) == world.ACTION_UNITS
    assert tuple((entry.low, entry.high) for entry in entries) == world.ACTION_LIMITS


def _set(path: str, value: object):
    def change(values: dict) -> None:
        *steps, last = [int(step) if step.isdigit() else step for step in path.split('.')]
        for step in steps:
            values = values[step]
        values[last] = value

    return change


def _drop(path: str):
    def change(values: dict) -> None:
        *steps, last = [int(step) if step.isdigit() else step for step in path.split('.')]
        for step in steps:
            values = values[step]
        del values[last]

    return change


TWIST = {
    'topic': '/cmd_vel',
    'type': 'geometry_msgs/msg/Twist',
    'stamp': 'receive',
    'entries': [{'name': 'x', 'unit': 'm', 'low': -1.0, 'high': 1.0}],
}


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (_set('speed', 3), ['unknown fields', 'speed']),
        (_set('cameras.0.colour', 'red'), ['unknown fields', 'cameras[0]', 'colour']),
        (_drop('rate_hz'), ['missing fields', 'rate_hz']),
        (_drop('actions.0.entries.2.low'), ['missing fields', 'actions[0].entries[2]', 'low']),
        (_set('rate_hz', '25'), ['rate_hz', "'25'", 'float']),
        (_set('rate_hz', True), ['rate_hz', 'True']),
        (_set('rate_hz', 0), ['rate_hz is 0']),
        (_set('image_size', 64.5), ['image_size', '64.5', 'int']),
        (_set('cameras', {}), ['cameras', 'expected a list']),
        (_set('cameras', []), ['0 cameras']),
        (
            _set('cameras.0.type', 'sensor_msgs/msg/PointCloud2'),
            ['PointCloud2', 'sensor_msgs/msg/Image'],
        ),
        (
            _set('actions.0.type', 'std_msgs/msg/String'),
            ['std_msgs/msg/String', 'expected one of'],
        ),
        (_set('actions.0.entries.0.high', -0.3), ['limits of entry x']),
        (_set('actions.0.entries.0.high', float('nan')), ['limits of entry x']),
        (_set('actions.0.entries.1.name', 'x'), ['named twice', 'x']),
        (_set('actions.0.topic', '/camera/image_raw'), ['topics named twice']),
        (_set('actions.0', dict(TWIST)), ['velocity', 'integrate: body']),
        (
            _set('actions.0', TWIST | {'stamp': 'header', 'integrate': 'body'}),
            ['no header', 'stamp: receive'],
        ),
        (
            _set(
                'actions.0',
                TWIST
                | {
                    'integrate': 'body',
                    'entries': [{'name': 'speed', 'unit': 'm', 'low': 0.0, 'high': 1.0}],
                },
            ),
            ['speed', 'yaw'],
        ),
        (_set('actions.0.integrate', 'body'), ['only twists']),
        (_set('reset.gap_s', 0.01), ['gap_s', 'shorter']),
        (
            _set('cameras.0.crop', {'left': 0, 'top': 0, 'width': 20, 'height': 10}),
            ['20 x 10', 'square'],
        ),
    ],
)
def test_bad_contracts_are_refused_by_name(change, words: list[str]) -> None:
    values = tabletop()
    change(values)
    with pytest.raises(ContractError) as error:
        StreamContract.from_dict(values)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize('text', ['a: [', '- 1', ''])
def test_files_that_are_no_contract_name_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'odd.yaml'
    path.write_text(text)
    with pytest.raises(ContractError, match=r'odd\.yaml'):
        StreamContract.load(path)
    with pytest.raises(ContractError, match=r'nowhere\.yaml'):
        StreamContract.load(tmp_path / 'nowhere.yaml')


def test_normalise_maps_limits_clips_and_comes_back() -> None:
    contract = StreamContract.from_dict(tabletop())
    low_A, high_A = contract.limits_A2.T
    assert np.array_equal(contract.normalise(low_A), -np.ones(11, np.float32))
    assert np.array_equal(contract.normalise(high_A), np.ones(11, np.float32))
    assert contract.normalise(high_A).dtype == np.float32
    values_A = low_A + 0.3 * (high_A - low_A)
    np.testing.assert_allclose(
        contract.denormalise(contract.normalise(values_A)), values_A, atol=1e-6
    )
    beyond_A = values_A.copy()
    beyond_A[[0, 4]] = 99, -99
    assert contract.normalise(beyond_A)[0] == 1
    assert contract.normalise(beyond_A)[4] == -1
    assert contract.count_clipped(beyond_A) == 2
    assert contract.count_clipped(np.float32(high_A)) == 0


def test_normalise_refuses_nan_by_name_and_wrong_width() -> None:
    contract = StreamContract.from_dict(tabletop())
    values_A = np.zeros(11)
    values_A[[3, 9]] = np.nan, np.inf
    with pytest.raises(ValueError, match='gripper, pan'):
        contract.normalise(values_A)
    with pytest.raises(ValueError, match='11 entries'):
        contract.normalise(np.zeros(10))


@pytest.mark.parametrize(
    ('change', 'word'),
    [
        (_set('rate_hz', 30.0), 'rate_hz'),
        (_set('image_size', 96), 'image_size'),
        (_set('action_lead_ms', 10.0), 'action_lead_ms'),
        (_set('cameras.0.crop', {'left': 0, 'top': 0, 'width': 8, 'height': 8}), 'crop'),
        (_set('actions.0.entries.2.unit', 'mm'), 'entry 2: unit'),
        (_set('actions.0.entries.2.high', 0.5), 'entry 2: high'),
        (_drop('actions.0.entries.10'), 'action entries: 11 against 10'),
    ],
)
def test_differences_that_change_a_meaning_stop_a_model(change, word: str) -> None:
    contract, values = StreamContract.from_dict(tabletop()), tabletop()
    change(values)
    other = StreamContract.from_dict(values)
    assert len(contract.differences(other)) == 1
    with pytest.raises(ContractError) as error:
        contract.require_fit(other)
    assert word in str(error.value)


def test_topics_and_transport_may_differ() -> None:
    contract, values = StreamContract.from_dict(tabletop()), tabletop()
    _set('cameras.0.topic', '/left')(values)
    _set('cameras.0.type', 'sensor_msgs/msg/CompressedImage')(values)
    _set('action_wait_ms', 9.0)(values)
    contract.require_fit(StreamContract.from_dict(values))
