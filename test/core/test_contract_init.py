"""A contract proposed from bags: topics, rate, entries, limits and stamps, each from own data."""

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from wm_ros import cli, share
from wm_ros.bag import BagError, BagRecorder, iter_steps, ros_types
from wm_ros.bag.stream import action_bytes, compressed_image_bytes, header, image_bytes
from wm_ros.contract import StreamContract, find_contract
from wm_ros.contract_fields import ContractError
from wm_ros.contract_init import Wish, propose
from wm_ros.contract_init.text import widened
from wm_ros.evaluation.held_out import choose
from wm_ros.sources import (
    ACTION,
    COMPRESSED_IMAGE,
    FLOAT64_ARRAY,
    IMAGE,
    JOINT_STATE,
    JOINT_TRAJECTORY,
    TWIST,
)

T0, MS = 5_000_000_000, 1_000_000
RED = np.full((24, 32, 3), (200, 10, 10), np.uint8)
REAL_BAGS = sorted(share.g1_bottle().glob('episode_*'))
Message = tuple[str, str, bytes, int]


def joints(names: list[str], values: Iterable[float], stamp_ns: int, **fields: Any) -> bytes:
    types = ros_types()
    empty = {'position': np.empty(0), 'velocity': np.empty(0), 'effort': np.empty(0)}
    filled = {fields.get('field', 'position'): np.array(list(values), np.float64)}
    message = types.types[JOINT_STATE](header=header(stamp_ns), name=names, **(empty | filled))
    return bytes(types.serialize_cdr(message, JOINT_STATE))


def twist(x: float, yaw: float) -> bytes:
    types = ros_types()
    vector = types.types['geometry_msgs/msg/Vector3']
    message = types.types[TWIST](linear=vector(x=x, y=0, z=0), angular=vector(x=0, y=0, z=yaw))
    return bytes(types.serialize_cdr(message, TWIST))


def array(values: list[float]) -> bytes:
    types = ros_types()
    layout = types.types['std_msgs/msg/MultiArrayLayout'](dim=[], data_offset=0)
    message = types.types[FLOAT64_ARRAY](layout=layout, data=np.array(values))
    return bytes(types.serialize_cdr(message, FLOAT64_ARRAY))


def trajectory(names: list[str], goals: list[list[float]], stamp_ns: int) -> bytes:
    types = ros_types()
    empty = np.empty(0)
    time = types.types['builtin_interfaces/msg/Duration']
    point = types.types['trajectory_msgs/msg/JointTrajectoryPoint']
    points = [
        point(np.array(goal), empty, empty, empty, time(sec=0, nanosec=(index + 1) * 50 * MS))
        for index, goal in enumerate(goals)
    ]
    message = types.types[JOINT_TRAJECTORY](header(stamp_ns), names, points)
    return bytes(types.serialize_cdr(message, JOINT_TRAJECTORY))


def frames(
    number: int = 30, period_ms: float = 100, topic: str = '/cam/image_raw'
) -> list[Message]:
    stamps = [T0 + round(i * period_ms * MS) for i in range(number)]
    return [(topic, IMAGE, image_bytes(RED, stamp), stamp) for stamp in stamps]


def commands(topic: str, values_TA: Any, names: list[str] | None = None) -> list[Message]:
    """Every 100 ms; joints where there are names, else Action."""
    found = []
    for i, values in enumerate(values_TA):
        stamp = T0 + i * 100 * MS
        data = action_bytes(values, stamp) if names is None else joints(names, values, stamp)
        found.append((topic, ACTION if names is None else JOINT_STATE, data, stamp))
    return found


def record(path: Path, *parts: list[Message]) -> Path:
    with BagRecorder(path) as recorder:
        for message in sorted((m for part in parts for m in part), key=lambda m: m[3]):
            recorder.write(*message)
    return path


def wave(number: int = 30) -> np.ndarray:
    """Two joints: 0 to 1 rad and constant -0.5 rad."""
    return np.stack([np.linspace(0, 1, number), np.full(number, -0.5)], 1)


def steps_of(bag: Path, text: str, folder: Path) -> tuple[int, Counter[str]]:
    """Read a bag under the proposed YAML, as a file."""
    path = folder / 'proposed.yaml'
    path.write_text(text)
    counts: Counter[str] = Counter()
    steps = list(iter_steps(bag, StreamContract.load(path), counts=counts))
    assert counts['action.clipped'] == 0
    return len(steps), counts


def test_commands_are_preferred_to_measured_states(tmp_path: Path) -> None:
    bag = record(
        tmp_path / 'bag',
        frames(),
        commands('/joint_states', wave() * 2, ['a', 'b']),
        commands('/joint_commands', wave(), ['a', 'b']),
    )
    found = propose([bag], Wish(name='arm'))
    (source,) = found.contract.actions
    assert (source.topic, source.field, source.stamp) == ('/joint_commands', 'position', 'header')
    assert (found.contract.name, found.contract.rate_hz) == ('arm', 10.0)
    first, second = source.entries
    assert (first.name, first.unit, first.low, first.high) == ('a', 'rad', -0.2, 1.2)
    assert (second.low, second.high) == (-0.6, -0.4)
    assert 'never changes' in found.text
    assert any('/joint_states' in line and 'measured' in line for line in found.to_check)
    assert '# not chosen: /joint_states' in found.text
    assert steps_of(bag, found.text, tmp_path)[0] == 30


def test_measured_states_are_taken_where_nothing_else_is(tmp_path: Path) -> None:
    bag = record(tmp_path / 'bag', frames(), commands('/joint_states', wave(), ['a', 'b']))
    found = propose([bag], Wish())
    assert found.contract.actions[0].topic == '/joint_states'
    assert any('measured states stand in' in line for line in found.to_check)


def test_the_camera_with_most_messages_compressed_before_raw(tmp_path: Path) -> None:
    png = cv2.imencode('.png', RED)[1].tobytes()
    compressed = [
        ('/b/image/compressed', COMPRESSED_IMAGE, compressed_image_bytes(png, 'png', s), s)
        for _, _, _, s in frames(20)
    ]
    bag = record(
        tmp_path / 'bag',
        frames(10, topic='/a/image'),
        frames(20, topic='/b/image'),
        frames(40, topic='/depth/image', period_ms=50),
        compressed,
        commands('/cmd', wave(), ['a', 'b']),
    )
    assert propose([bag], Wish()).contract.camera.topic == '/b/image/compressed'
    asked = propose([bag], Wish(image='/a/image'))
    assert asked.contract.camera.topic == '/a/image'
    assert sum('not chosen: /b/image' in line for line in asked.to_check) == 2


@pytest.mark.parametrize(
    ('period_ms', 'rate_hz'), [(33.333, 30), (33.4, 30), (66.67, 15), (1000 / 17, 17), (20, 25)]
)
def test_the_rate_is_a_sensible_number(tmp_path: Path, period_ms: float, rate_hz: float) -> None:
    bag = record(tmp_path / 'bag', frames(60, period_ms), commands('/cmd', wave(), ['a', 'b']))
    found = propose([bag], Wish())
    assert found.contract.rate_hz == rate_hz
    steps, counts = steps_of(bag, found.text, tmp_path)
    assert steps == (30 if period_ms == 20 else 60)
    assert counts['frame.too_soon'] == 60 - steps
    assert ('halved' in found.text) == (period_ms == 20)
    assert propose([bag], Wish(rate_hz=12)).contract.rate_hz == 12


def test_several_kinds_of_commands_are_joined(tmp_path: Path) -> None:
    """A trajectory without stamps, a twist, an array and an Action, one contract."""
    moving = [('/cmd_vel', TWIST, twist(0.5, 1.0), T0 + i * 100 * MS) for i in range(30)]
    plans = [
        (
            '/arm/target',
            JOINT_TRAJECTORY,
            trajectory(['lift'], [[0.1 * i], [0.2 * i]], T0 + i * 100 * MS),
            T0 + i * 100 * MS,
        )
        for i in range(10)
    ]
    grip = [
        ('/grip/command', FLOAT64_ARRAY, array([0.0, 0.1 * i]), T0 + i * 100 * MS)
        for i in range(10)
    ]
    bag = record(tmp_path / 'bag', frames(), moving, plans, grip, commands('/act', [[1.0]] * 20))
    found = propose([bag], Wish())
    by_topic = {source.topic: source for source in found.contract.actions}
    assert set(by_topic) == {'/cmd_vel', '/arm/target', '/grip/command', '/act'}
    assert by_topic['/arm/target'].stamp == 'header'
    assert by_topic['/grip/command'].stamp == by_topic['/cmd_vel'].stamp == 'receive'
    assert [e.name for e in by_topic['/grip/command'].entries] == [
        'grip_command_0',
        'grip_command_1',
    ]
    twisted = {entry.name: entry for entry in by_topic['/cmd_vel'].entries}
    assert set(twisted) == {'x', 'y', 'yaw'}
    assert (twisted['x'].unit, twisted['yaw'].unit) == ('m', 'rad')
    assert twisted['yaw'].high > 2.9  # 1 rad/s over 3 s
    assert twisted['x'].high == pytest.approx(0.5 + 0.2 * 0.5, abs=0.1)  # radius 0.5 m
    assert steps_of(bag, found.text, tmp_path)[0] == 30


def test_a_pose_begins_anew_after_a_silence_of_the_camera(tmp_path: Path) -> None:
    """As the synchroniser has it: 2 s at 1 m/s, 8 s of silence, 2 s again, never 12 m."""
    moving = [('/cmd_vel', TWIST, twist(1.0, 0.0), T0 + i * 100 * MS) for i in range(120)]
    late = [
        (topic, kind, image_bytes(RED, stamp + 10_000 * MS), stamp + 10_000 * MS)
        for topic, kind, _, stamp in frames(20)
    ]
    bag = record(tmp_path / 'bag', frames(20), late, moving)
    found = propose([bag], Wish())
    (entry,) = found.contract.entries
    assert (entry.name, entry.high) == ('x', pytest.approx(2.0 + 0.2 * 1.9, abs=0.1))
    steps, counts = steps_of(bag, found.text, tmp_path)
    assert (steps, counts['reset.gap']) == (40, 1)


def test_hand_openings_and_velocities(tmp_path: Path) -> None:
    names = ['wrist', 'left_hand']
    values = np.stack([np.linspace(-1, 1, 30), np.linspace(0.3, 1, 30)], 1)
    fast = [
        ('/wheel_cmd', JOINT_STATE, joints(['w'], [3.0], m[3], field='velocity'), m[3])
        for m in frames()
    ]
    bag = record(tmp_path / 'bag', frames(), commands('/hand_cmd', values, names), fast)
    entries = {entry.name: entry for entry in propose([bag], Wish()).contract.entries}
    assert (entries['left_hand'].unit, entries['left_hand'].low) == ('0..1', -0.05)
    assert entries['wrist'].unit == 'rad'
    assert (entries['w'].unit, entries['w'].low, entries['w'].high) == ('rad/s', 2.9, 3.1)


def test_stamps_that_are_missing_or_of_another_clock(tmp_path: Path) -> None:
    unstamped = [
        ('/cmd', JOINT_STATE, joints(['a'], [0.1 * i], 0), T0 + i * 100 * MS) for i in range(30)
    ]
    other = [
        ('/cmd', JOINT_STATE, joints(['a'], [0.1 * i], 77_000_000_000 + i), T0 + i * 100 * MS)
        for i in range(30)
    ]
    for name, part in (('zero', unstamped), ('other', other)):
        bag = record(tmp_path / name, frames(), part)
        found = propose([bag], Wish())
        assert found.contract.actions[0].stamp == 'receive'
        assert any('time of receipt' in line for line in found.to_check)
        assert steps_of(bag, found.text, tmp_path)[0] == 30


def test_ranges_are_over_all_bags_and_rare_topics_are_left_out(tmp_path: Path) -> None:
    one = record(tmp_path / 'one', frames(), commands('/cmd', [[0.0], [1.0]], ['a']))
    two = record(
        tmp_path / 'two',
        frames(),
        commands('/cmd', [[4.0], [5.0]], ['a']),
        commands('/more_cmd', [[4.0]], ['b']),
    )
    found = propose([one, two], Wish())
    (entry,) = found.contract.entries
    assert (entry.low, entry.high) == (-1.0, 6.0)
    assert any('/more_cmd' in line and 'missing in some' in line for line in found.to_check)


def test_joints_that_come_and_go_and_names_that_clash(tmp_path: Path) -> None:
    stamps = [m[3] for m in frames()]
    partial = [
        ('/arm_cmd', JOINT_STATE, joints(['a', 'b'][: 1 + i % 2], [0, 1][: 1 + i % 2], s), s)
        for i, s in enumerate(stamps)
    ]
    bag = record(tmp_path / 'bag', frames(), partial, commands('/second_cmd', wave(), ['a', 'c']))
    found = propose([bag], Wish())
    assert [entry.name for entry in found.contract.entries] == ['a']
    assert '# left out, not named in every message: b' in found.text
    assert any('/second_cmd: a comes from /arm_cmd already' in line for line in found.to_check)
    with pytest.raises(ContractError, match='a comes from /arm_cmd already'):
        propose([bag], Wish(actions=('/arm_cmd', '/second_cmd')))


def named(turns: list[list[str]], number: int = 30) -> list[Message]:
    """Joint commands that name other joints in turn."""
    stamps = [T0 + i * 100 * MS for i in range(number)]
    names = [turns[i % len(turns)] for i in range(number)]
    return [('/cmd', JOINT_STATE, joints(n, [0.5] * len(n), s), s) for n, s in zip(names, stamps)]


def test_joints_that_only_take_turns_have_nothing_in_common(tmp_path: Path) -> None:
    """Arm and gripper on one topic: a, b, a names neither in every message."""
    for name, turns in (('two', [['a'], ['b']]), ('three', [['a'], ['b'], ['a']])):
        bag = record(tmp_path / name, frames(), named(turns))
        with pytest.raises(ContractError, match=r'no joint that every message names \(found a, b'):
            propose([bag], Wish())


def test_messages_that_name_no_joint_command_nothing(tmp_path: Path) -> None:
    bag = record(tmp_path / 'bag', frames(), named([['a', 'b'], ['a', 'b'], [], ['a']]))
    found = propose([bag], Wish())
    assert [entry.name for entry in found.contract.entries] == ['a']
    assert '# left out, not named in every message: b' in found.text
    assert any('7 of 30 messages name no joint: refused' in line for line in found.to_check)
    counts = steps_of(bag, found.text, tmp_path)[1]
    assert counts['action.missing_entry'] == 7
    silent = record(tmp_path / 'silent', frames(), named([[]]))
    with pytest.raises(ContractError, match=r'no joint that every message names \(found no names'):
        propose([silent], Wish())


def test_what_cannot_be_proposed_is_listed(tmp_path: Path) -> None:
    blind = record(tmp_path / 'blind', commands('/cmd', wave(), ['a', 'b']))
    with pytest.raises(ContractError, match=r'no camera topic .*found /cmd \(sensor_msgs/msg/Jo'):
        propose([blind], Wish())
    idle = record(tmp_path / 'idle', frames())
    with pytest.raises(ContractError, match=r'no action topic .*found /cam/image_raw \(sensor_'):
        propose([idle], Wish())
    both = record(tmp_path / 'both', frames(), commands('/cmd', wave(), ['a', 'b']))
    with pytest.raises(ContractError, match='/nosuch is no camera topic'):
        propose([both], Wish(image='/nosuch'))
    with pytest.raises(ContractError, match='/cam/image_raw is no action topic'):
        propose([both], Wish(actions=('/cam/image_raw',)))
    unstamped = [('/cam/image_raw', IMAGE, image_bytes(RED, 0), T0)]
    timeless = record(tmp_path / 'timeless', unstamped, commands('/cmd', wave(), ['a', 'b']))
    with pytest.raises(ContractError, match=r'frame 1 of /cam/image_raw has no header stamp'):
        propose([timeless], Wish())
    single = record(tmp_path / 'single', frames(1), commands('/cmd', wave(), ['a', 'b']))
    with pytest.raises(ContractError, match='--rate'):
        propose([single], Wish())


@pytest.mark.parametrize('unit', ['rad', 'm', '1'])
@pytest.mark.parametrize(
    ('low', 'high'),
    [(0, 1), (-3, 3), (0.1234, 0.1236), (5, 5), (0, 0), (1e4, 1.5e4), (-1e-3, 1e-3), (-1e-9, 0)],
)
def test_limits_hold_the_range_with_a_margin(low: float, high: float, unit: str) -> None:
    below, above = widened(low, high, unit)
    margin = 0.2 * (high - low)
    if unit == 'rad' or high - low < 1e-6:
        margin = max(margin, 0.1)
    assert below <= low - margin * 0.999 and above >= high + margin * 0.999
    assert above - below < 1.15 * (high - low + 2 * margin)
    assert math.isfinite(below) and len(f'{below:.12g}') < 12


def test_the_command_writes_a_file_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = record(tmp_path / 'bag', frames(), commands('/cmd', wave(), ['a', 'b']))
    out = tmp_path / 'sub' / 'arm.yaml'
    words = ['contract', 'init', str(bag), '--out', str(out), '--image-size', '32']
    assert cli.main(words) == 0
    told = capsys.readouterr().out
    assert 'action  /cmd  2 entries, header stamps' in told
    assert 'the first 30 steps read' in told
    contract = StreamContract.load(out)
    assert (contract.name, contract.image_size) == ('arm', 32)
    assert cli.main(words) == 1
    assert 'may have been edited' in capsys.readouterr().err


def robot(folder: Path, wide: str = '') -> Path:
    """Six bags of 0 to 1 rad and a file that is none; one of them goes to 9 rad."""
    for number in range(6):
        name = f'e{number}'
        values = wave()[:, :1] * (9 if name == wide else 1)
        record(folder / name, frames(), commands('/cmd', values, ['a']))
    (folder / 'LICENSE').touch()
    return folder


def test_what_training_takes_is_taken_and_what_it_holds_out_is_in_no_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bags = robot(tmp_path / 'bags', wide='e3')
    assert choose([f'e{i}' for i in range(6)], None).held_out == ('e3',)

    def limits(*words: str) -> tuple[float, float]:
        out = tmp_path / f'{len(list(tmp_path.iterdir()))}.yaml'
        assert cli.main(['contract', 'init', *words, '--out', str(out)]) == 0
        (entry,) = StreamContract.load(out).entries
        texts.append(out.read_text())
        return entry.low, entry.high

    texts: list[str] = []
    assert limits(str(bags)) == (-0.2, 1.2)
    said = capsys.readouterr().out
    assert 'held out, so not in any range: e3' in said
    assert 'e2: the first 30 steps' in said and 'e3: the first' not in said
    assert '# Held out, so not in any range: e3.' in texts[0]
    wide = (-1.8, 10.8)
    assert limits(str(bags), '--hold-out', 'e0,e5') == limits(str(bags), '--hold-out', '0') == wide
    assert 'in any range: e0, e5.' in texts[1] and 'in any range: nothing.' in texts[2]
    assert limits(*(str(bags / f'e{i}') for i in range(6))) == (-0.2, 1.2)
    assert cli.main(['contract', 'init', str(bags), '--hold-out', 'e9']) == 1
    assert '--hold-out e9: not among the bags' in capsys.readouterr().err


def test_topics_that_a_held_out_bag_lacks_are_not_proposed(tmp_path: Path) -> None:
    one = record(tmp_path / 'one', frames(), commands('/cmd', wave(), ['a', 'b']),
                 commands('/more_cmd', wave()[:, :1], ['c']))  # fmt: skip
    two = record(tmp_path / 'two', frames(), commands('/cmd', wave() * 9, ['a', 'b']))
    found = propose([one], Wish(), [two])
    assert [entry.name for entry in found.contract.entries] == ['a', 'b']
    assert found.contract.entries[0].high == 1.2


def test_a_bag_that_cannot_be_read_leaves_no_file_that_blocks_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bags, out = robot(tmp_path / 'bags'), tmp_path / 'new' / 'arm.yaml'
    words = ['contract', 'init', str(bags), '--out', str(out)]

    def broken(bag: Path, contract: StreamContract) -> tuple[int, Counter[str]]:
        assert not out.exists()
        raise BagError(f'bag {bag}: no step under contract')

    with monkeypatch.context() as patched:
        patched.setattr('wm_ros.contract_init.try_out', broken)
        assert cli.main(words) == 1
    assert 'no step under contract' in capsys.readouterr().err
    assert not out.parent.exists()
    assert cli.main(words) == 0


@pytest.mark.skipif(not REAL_BAGS, reason='no bags of the real robot beside the checkout')
def test_the_real_robot_is_described_as_by_hand(tmp_path: Path) -> None:
    found = propose(REAL_BAGS, Wish(name='g1_bottle'))
    ours, theirs = found.contract, StreamContract.load(find_contract('g1_bottle'))
    assert ours.camera == theirs.camera
    assert (ours.rate_hz, ours.image_size) == (theirs.rate_hz, theirs.image_size)
    assert ours.actions[0].topic == theirs.actions[0].topic
    for mine, hand in zip(ours.entries, theirs.entries, strict=True):
        assert (mine.name, mine.unit) == (hand.name, hand.unit)
        assert (mine.low, mine.high) == pytest.approx((hand.low, hand.high), abs=0.06)
