"""Bad bags made from a good one: every fault does what it says, and the reader copes with each."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from wm_ros.bag import BagError, BagRecorder, bag_info, iter_steps
from wm_ros.bag.degrade import Ledger, degrade, degrade_bag
from wm_ros.bag.faults import (
    ACTION,
    FRAME,
    Burst,
    Drop,
    Duplicate,
    Fault,
    JitterStamps,
    Silence,
    WrongStamps,
)
from wm_ros.bag.lateness import JitterArrival, Reorder
from wm_ros.bag.raw import RawMessage, raw_messages
from wm_ros.bag.stamps import read_stamp_ns, with_stamp
from wm_ros.bag.stream import StreamRecorder, action_bytes
from wm_ros.cli import main
from wm_ros.contract import StreamContract, find_contract
from wm_ros.datatypes import Step
from wm_ros.sources import ACTION as ACTION_TYPE
from wm_ros.sources import IMAGE

FRAMES, PERIOD_NS, T0 = 200, 40_000_000, 5_000_000_000
CAMERA, COMMAND = '/camera/image_raw', '/command'
CONTRACT = StreamContract.load(find_contract('tabletop'))
LOW_A, HIGH_A = CONTRACT.limits_A2.T


def command_A(i: int) -> np.ndarray:
    """A command that tells its number."""
    return (LOW_A + (HIGH_A - LOW_A) * (i + 1) / (FRAMES + 1)).astype(np.float32)


def stamp_of(i: int) -> int:
    return T0 + i * PERIOD_NS


@pytest.fixture(scope='module')
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A command with every frame, and a topic that the contract does not name."""
    path = tmp_path_factory.mktemp('good') / 'bag'
    images = np.random.default_rng(0).integers(0, 256, (FRAMES, 64, 64, 3), np.uint8)
    with BagRecorder(path) as recorder:
        stream = StreamRecorder(recorder, CONTRACT)
        for i, image_HWC in enumerate(images):
            stream.write_action(command_A(i), stamp_of(i))
            stream.write_frame(image_HWC, stamp_of(i))
            recorder.write('/extra', 'std_msgs/msg/Empty', b'\0\1\0\0\0', stamp_of(i))
    return path


def degraded(
    good: Path, tmp_path: Path, *faults: Fault, seed: int = 1
) -> tuple[Path, Ledger, list[Step], Counter[str]]:
    """Make the bag; return it with what was done, its steps and counts."""
    bag, counts = tmp_path / 'bad', Counter[str]()
    ledger = degrade_bag(good, bag, CONTRACT, faults, seed)
    steps = list(iter_steps(bag, CONTRACT, counts=counts))
    assert ledger.complete and ledger.messages['/extra'] == FRAMES
    held = {topic.name: topic.messages for topic in bag_info(bag).topics}
    assert {topic: held[topic] for topic in ledger.messages} == ledger.messages
    return bag, ledger, steps, counts


def numbers(ledger: Ledger, what: str, topic: str, fault: int = 0) -> list[int]:
    return ledger.done[fault].get(what, {}).get(topic, [])


def stamps_in(bag: Path, topic: str) -> list[int]:
    return [read_stamp_ns(each.data) for each in raw_messages(bag, [topic])]


def number_in_force(step: Step) -> int:
    """Which command a step was given."""
    values_A = CONTRACT.denormalise(step.action_A)
    return round(float(((values_A - LOW_A) / (HIGH_A - LOW_A))[0]) * (FRAMES + 1)) - 1


def interior(lost: Sequence[int], first: int = 0) -> int:
    """How many of the lost frames lie between two that came, `first` or later."""
    there = sorted(set(range(first, FRAMES)) - set(lost))
    return sum(there[0] < i < there[-1] for i in lost)


def test_the_good_bag_is_good(good: Path) -> None:
    counts: Counter[str] = Counter()
    steps = list(iter_steps(good, CONTRACT, counts=counts))
    assert [number_in_force(step) for step in steps] == list(range(FRAMES))
    assert +counts == {'reset.start': 1}


def test_dropped_frames_are_bridged(good: Path, tmp_path: Path) -> None:
    bag, ledger, steps, counts = degraded(good, tmp_path, Drop(FRAME, 0.1))
    lost = numbers(ledger, 'dropped', CAMERA)
    assert 8 < len(lost) < 40
    assert stamps_in(bag, CAMERA) == [stamp_of(i) for i in range(FRAMES) if i not in lost]
    assert +counts == {'reset.start': 1, 'frame.missing': interior(lost)}
    assert len(steps) == FRAMES - len(lost) + interior(lost)
    assert len(stamps_in(bag, COMMAND)) == FRAMES


def test_bursts_are_as_long_as_asked_and_reset_where_longer_than_the_gap(
    good: Path, tmp_path: Path
) -> None:
    _, ledger, steps, counts = degraded(good, tmp_path, Burst(0.01, 30))
    lost = numbers(ledger, 'dropped', CAMERA)
    runs = np.split(lost, np.flatnonzero(np.diff(lost) > 1) + 1)
    ended = [run for run in runs if run[-1] < FRAMES - 1]
    assert ended and all(len(run) % 30 == 0 for run in ended)
    inside = [run for run in ended if run[0] > 0]
    assert inside and +counts == {'reset.start': 1, 'reset.gap': len(inside)}
    assert len(steps) == FRAMES - len(lost)
    short = degraded(good, tmp_path / 'short', Burst(0.02, 3))
    assert short[3]['frame.missing'] == interior(numbers(short[1], 'dropped', CAMERA)) > 0


def test_a_command_that_never_came_is_held(good: Path, tmp_path: Path) -> None:
    bag, ledger, steps, counts = degraded(good, tmp_path, Drop(ACTION, 0.2))
    lost = set(numbers(ledger, 'dropped', COMMAND))
    kept = [i for i in range(FRAMES) if i not in lost]
    assert 20 < len(lost) < 60 and len(stamps_in(bag, COMMAND)) == len(kept)
    refused = kept[0]  # frames before the first command
    assert counts['frame.no_action'] == refused and len(steps) == FRAMES - refused
    wanted = [max(k for k in kept if k <= i) for i in range(refused, FRAMES)]
    assert [number_in_force(step) for step in steps] == wanted


def test_silence_holds_the_last_command(good: Path, tmp_path: Path) -> None:
    _, ledger, steps, counts = degraded(good, tmp_path, Silence(2.0, 5.0))
    assert numbers(ledger, 'dropped', COMMAND) == list(range(50, 125))
    wanted = [49 if 50 <= i < 125 else i for i in range(FRAMES)]
    assert [number_in_force(step) for step in steps] == wanted
    assert +counts == {'reset.start': 1}


def test_duplicates_are_refused_and_counted(good: Path, tmp_path: Path) -> None:
    bag, ledger, steps, counts = degraded(good, tmp_path, Duplicate(0.1))
    frames, commands = (len(numbers(ledger, 'doubled', topic)) for topic in (CAMERA, COMMAND))
    assert frames > 8 and commands > 8
    assert len(stamps_in(bag, CAMERA)) == FRAMES + frames
    assert +counts == {
        'reset.start': 1,
        'frame.duplicate_stamp': frames,
        'action.duplicate': commands,
    }
    assert [number_in_force(step) for step in steps] == list(range(FRAMES))


def test_wrong_stamps_are_refused_by_their_kind(good: Path, tmp_path: Path) -> None:
    bag, ledger, steps, counts = degraded(good, tmp_path, WrongStamps(0.15))
    lost = {what: numbers(ledger, what, CAMERA) for what in ('zero', 'future', 'backward')}
    assert all(lost.values())
    wrong = sorted([*lost['zero'], *lost['future'], *lost['backward']])
    assert counts['frame.zero_stamp'] == len(lost['zero'])
    assert counts['frame.future_stamp'] == len(lost['future'])
    early = sum(i == 0 for i in lost['backward'])
    assert counts['frame.backward_stamp'] == len(lost['backward']) - early
    assert counts['frame.no_action'] == 0 and counts['frame.missing'] == interior(wrong)
    assert len(steps) == FRAMES - len(wrong) + interior(wrong)
    assert counts['action.zero_stamp'] == len(numbers(ledger, 'zero', COMMAND)) > 0
    assert counts['action.future_stamp'] == len(numbers(ledger, 'future', COMMAND)) > 0
    assert counts['action.backward'] == len(numbers(ledger, 'backward', COMMAND)) > 0
    assert set(counts) & {'reset.gap', 'reset.clock_jump', 'action.clock_jump'} == set()
    found = stamps_in(bag, CAMERA)
    assert all(found[i] == 0 for i in lost['zero'])
    assert all(found[i] - stamp_of(i) == 86_400 * 10**9 for i in lost['future'])
    assert all(found[i] - stamp_of(i) == -500_000_000 for i in lost['backward'])


def test_jitter_of_stamps_moves_every_stamp_and_nothing_else(good: Path, tmp_path: Path) -> None:
    bag, _, steps, counts = degraded(good, tmp_path, JitterStamps(5.0))
    off_ns = np.array(stamps_in(bag, CAMERA)) - [stamp_of(i) for i in range(FRAMES)]
    assert 3e6 < np.abs(off_ns).max() <= 5e6 and len(set(off_ns)) > FRAMES / 2
    assert [each.log_ns for each in raw_messages(bag, [CAMERA])] == list(map(stamp_of, range(200)))
    assert [step.stamp_ns for step in steps] == stamps_in(bag, CAMERA)[-len(steps) :]
    assert len(steps) >= FRAMES - 1, 'only the first frame may lie before every command'
    assert counts['frame.missing'] == 0
    assert all(number_in_force(s) in (i - 1, i) for i, s in enumerate(steps, FRAMES - len(steps)))


def test_late_arrival_changes_no_step(good: Path, tmp_path: Path) -> None:
    bag, _, steps, _ = degraded(good, tmp_path, JitterArrival(35.0))
    late_ns = [each.log_ns - read_stamp_ns(each.data) for each in raw_messages(bag, [COMMAND])]
    assert 30e6 < max(late_ns) <= 35e6 and min(late_ns) >= 0
    logged = [each.log_ns for each in raw_messages(bag)]
    assert logged == sorted(logged)
    for ours, theirs in zip(steps, iter_steps(good, CONTRACT), strict=True):
        assert ours.stamp_ns == theirs.stamp_ns
        assert np.array_equal(ours.action_A, theirs.action_A)
        assert np.array_equal(ours.frame.image_HWC, theirs.frame.image_HWC)


def test_overtaken_frames_are_refused_and_bridged(good: Path, tmp_path: Path) -> None:
    bag, ledger, steps, counts = degraded(good, tmp_path, Reorder(0.1))
    frames = numbers(ledger, 'overtaken', CAMERA)
    commands = numbers(ledger, 'overtaken', COMMAND)
    assert len(frames) > 8 and len(commands) > 8
    order = list(range(FRAMES))
    for i in frames:
        order[i : i + 2] = [i + 1, i]
    assert stamps_in(bag, CAMERA) == [stamp_of(i) for i in order]
    assert counts['frame.backward_stamp'] == len(frames)
    refused = counts['frame.no_action']  # the first command may be one that is overtaken
    assert refused < 3 and counts['frame.missing'] == interior(frames, refused)
    assert counts['action.backward'] == len(commands)
    for i, step in enumerate(steps, FRAMES - len(steps)):
        late = i in commands  # its frame is decided on once a newer command is there
        assert number_in_force(step) in ({i - 1, i} if late else {i})


def raw(topic: str, i: int) -> RawMessage:
    return RawMessage(topic, '', stamp_of(i), action_bytes([1.0], stamp_of(i)), True)


def test_a_message_whose_next_never_comes_is_only_late() -> None:
    """Commands stop at frame 11; the last frame has no next either."""
    stream = [raw(topic, i) for i in range(101) for topic in (COMMAND, CAMERA)]
    stream = [one for one in stream if one.topic == CAMERA or one.log_ns < stamp_of(11)]
    ledger = Ledger((Reorder(1.0),), 0)
    given = list(degrade(stream, {CAMERA: FRAME, COMMAND: ACTION}, ledger))
    assert numbers(ledger, 'overtaken', COMMAND) == [0, 2, 4, 6, 8]
    assert numbers(ledger, 'late', COMMAND) == [10] and numbers(ledger, 'late', CAMERA) == [100]
    assert ledger.messages == {CAMERA: 101, COMMAND: 11}
    last = [one for one in given if one.topic == COMMAND][-1]
    assert read_stamp_ns(last.data) == stamp_of(10)
    assert 1.0 < (last.log_ns - stamp_of(10)) / 1e9 < 1.1


@pytest.mark.parametrize('fault', [Reorder(0.5), JitterArrival(90.0)])
def test_late_messages_are_given_out_in_order(fault: Fault) -> None:
    stream = [raw(topic, i) for i in range(50) for topic in (COMMAND, CAMERA, '/extra')]
    given = list(degrade(stream, {CAMERA: FRAME, COMMAND: ACTION}, Ledger((fault,), 0)))
    assert len(given) == len(stream) and [one.data for one in given] != [o.data for o in stream]
    logged = [one.log_ns for one in given]
    assert logged == sorted(logged)


ALL = (
    Drop(FRAME, 0.05),
    Burst(0.01, 4),
    Drop(ACTION, 0.1),
    Silence(3.0, 3.5),
    Duplicate(0.05),
    WrongStamps(0.05),
    JitterStamps(2.0),
    Reorder(0.05),
    JitterArrival(20.0),
)


def test_same_seed_same_bytes_and_another_seed_others(good: Path, tmp_path: Path) -> None:
    for name, seed in (('one', 7), ('two', 7), ('three', 8)):
        degrade_bag(good, tmp_path / name / 'bad', CONTRACT, ALL, seed)
    one, two, three = (
        {path.name: path.read_bytes() for path in (tmp_path / name / 'bad').iterdir()}
        for name in ('one', 'two', 'three')
    )
    assert set(one) == {'bad_0.mcap', 'metadata.yaml', 'faults.json'}
    assert one == two
    assert one['bad_0.mcap'] != three['bad_0.mcap'] and one['faults.json'] != three['faults.json']
    assert list(iter_steps(tmp_path / 'one' / 'bad', CONTRACT))


def test_a_fault_more_changes_nothing_of_the_others(good: Path, tmp_path: Path) -> None:
    alone = degrade_bag(good, tmp_path / 'a', CONTRACT, [Drop(ACTION, 0.1)], 3)
    both = degrade_bag(good, tmp_path / 'b', CONTRACT, [Drop(FRAME, 0.1), Drop(ACTION, 0.1)], 3)
    assert both.done[1] == alone.done[0] != {}
    more = degrade_bag(good, tmp_path / 'c', CONTRACT, [Drop(ACTION, 0.2)], 3)
    assert set(numbers(more, 'dropped', COMMAND)) > set(numbers(alone, 'dropped', COMMAND))


def test_faults_that_make_no_sense_are_refused() -> None:
    for make in (
        lambda: Drop(FRAME, 0.0),
        lambda: Drop(FRAME, 1.5),
        lambda: Burst(0.1, 0),
        lambda: Silence(3.0, 3.0),
        lambda: JitterStamps(-1.0),
        lambda: JitterArrival(0.0),
        lambda: WrongStamps(float('nan')),
    ):
        with pytest.raises(ValueError, match='expected'):
            make()


def test_the_command_writes_the_bag_and_says_what_it_did(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ['degrade', str(good), '--contract', 'tabletop', '--seed', '4', '--out']
    given = ['--drop-frames', '0.1', '--burst', '0.02,3', '--silence-actions', '1,2']
    assert main([*words, str(tmp_path / 'bad'), *given]) == 0
    told = json.loads((tmp_path / 'bad' / 'faults.json').read_text())
    assert told['seed'] == 4 and told['complete'] and told['bag'] == 'bag'
    assert [one['fault'] for one in told['faults']] == ['drop_frames', 'burst', 'silence']
    dropped = told['faults'][0]['done']['dropped'][CAMERA]
    assert dropped['count'] == len(dropped['indices']) > 0
    assert f'{CAMERA} {dropped["count"]} dropped' in capsys.readouterr().out
    for extra, text in (
        ([], 'no fault asked for'),
        (['--drop-frames', '2'], 'share 2.0'),
        (given, 'cannot make bag'),
    ):
        out = tmp_path / ('bad' if extra is given else 'other')
        assert main([*words, str(out), *extra]) == 1
        assert text in capsys.readouterr().err


@pytest.mark.parametrize('text', ['abc', '0.1', '0.1,z', '0.1,2,3'])
def test_a_pair_that_is_none_is_wrong_usage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(['degrade', 'bag', '--out', 'bad', '--contract', 'tabletop', '--burst', text])
    assert error.value.code == 2
    assert f"'{text}': expected a number and a whole number" in capsys.readouterr().err


def test_a_damaged_bag_gives_what_came_before(good: Path, tmp_path: Path) -> None:
    data = bytearray((good / 'bag_0.mcap').read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 50):
        data[at] ^= 0xFF
    (tmp_path / 'hurt.mcap').write_bytes(data)
    with pytest.raises(BagError, match=r'hurt.mcap: damaged after message \d+ of'):
        degrade_bag(tmp_path / 'hurt.mcap', tmp_path / 'bad', CONTRACT, [Drop(FRAME, 0.1)])
    told = json.loads((tmp_path / 'bad' / 'faults.json').read_text())
    assert not told['complete'] and told['messages']['/extra'] > 0
    assert list(iter_steps(tmp_path / 'bad', CONTRACT))


def test_a_bag_without_the_contracts_topics_is_refused(tmp_path: Path) -> None:
    with BagRecorder(tmp_path / 'good') as recorder:
        recorder.write('/extra', 'std_msgs/msg/Empty', b'\0\1\0\0\0', 1)
    with pytest.raises(BagError, match=r'no topic /camera/image_raw, /command.*holds /extra'):
        degrade_bag(tmp_path / 'good', tmp_path / 'bad', CONTRACT, [Drop(FRAME, 0.1)])
    assert not (tmp_path / 'bad').exists()


def test_stamps_are_replaced_in_either_byte_order() -> None:
    data = action_bytes([1.0, 2.0], 5_000_000_007)
    swapped = b'\0\0' + data[2:4] + data[4:8][::-1] + data[8:12][::-1] + data[12:]
    for one in (data, swapped):
        assert read_stamp_ns(one) == 5_000_000_007
        moved = with_stamp(one, 9_999_999_999)
        assert read_stamp_ns(moved) == 9_999_999_999
        assert (moved[:4], moved[12:]) == (one[:4], one[12:])


def write_ros1(path: Path, frames: int = 30) -> Path:
    store = get_typestore(Stores.ROS1_NOETIC)
    text = (Path(__file__).parents[2] / 'msg' / 'msg' / 'Action.msg').read_text()
    store.register(get_types_from_msg(text, ACTION_TYPE))
    kinds = store.types
    with Ros1Writer(path) as writer:
        camera = writer.add_connection(CAMERA, IMAGE, typestore=store)
        command = writer.add_connection(COMMAND, ACTION_TYPE, typestore=store)
        for i in range(frames):
            stamp = kinds['builtin_interfaces/msg/Time'](*divmod(stamp_of(i), 10**9))
            head = kinds['std_msgs/msg/Header'](seq=i, stamp=stamp, frame_id='cam')
            action = kinds[ACTION_TYPE](head, command_A(i))
            pixels = np.full(64 * 64 * 3, i, np.uint8)
            image = kinds[IMAGE](head, 64, 64, 'rgb8', 0, 192, pixels)
            writer.write(command, stamp_of(i), store.serialize_ros1(action, ACTION_TYPE))
            writer.write(camera, stamp_of(i), store.serialize_ros1(image, IMAGE))
    return path


def test_a_ros_1_bag_is_degraded_into_a_rosbag2(tmp_path: Path) -> None:
    bag = write_ros1(tmp_path / 'one.bag')
    ledger = degrade_bag(bag, tmp_path / 'bad', CONTRACT, [Drop(FRAME, 0.2)], 1)
    lost = numbers(ledger, 'dropped', CAMERA)
    steps = [step for step in iter_steps(tmp_path / 'bad', CONTRACT) if step.frame is not None]
    kept = [i for i in range(30) if i not in lost]
    assert lost and [int(step.frame.image_HWC[0, 0, 0]) for step in steps] == kept
    assert [number_in_force(step) for step in steps] == kept
    assert {step.frame.frame_id for step in steps} == {'cam'}
