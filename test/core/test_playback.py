"""What a player sends when: laps, stamps and /clock, without ROS and without waiting."""

from pathlib import Path

import numpy as np
import pytest
from test_degrade import write_ros1

from wm_ros.bag import BagRecorder, bag_info
from wm_ros.bag.raw import raw_topics
from wm_ros.bag.stamps import read_stamp_ns
from wm_ros.bag.stream import StreamRecorder, image_bytes
from wm_ros.cli import _parser
from wm_ros.cli_play import parameters
from wm_ros.contract import StreamContract, find_contract
from wm_ros.nodes.playback import LONE_PERIOD_NS, Timeline, lap_length_ns, laps, stamped
from wm_ros.sources import COMPRESSED_IMAGE, IMAGE

CONTRACT = StreamContract.load(find_contract('tabletop'))
CAMERA, COMMAND = '/camera/image_raw', '/command'
FRAMES, PERIOD_NS, T0, NOW = 10, 40_000_000, 5_000_000_000, 10**18


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Every frame is received 3 ms after its stamp, at the same instant as its command."""
    with BagRecorder(tmp_path / 'bag') as recorder:
        for i in range(FRAMES):
            stamp_ns = T0 + i * PERIOD_NS
            image = image_bytes(np.full((8, 8, 3), i, np.uint8), stamp_ns)
            recorder.write(CAMERA, IMAGE, image, stamp_ns + 3_000_000)
            StreamRecorder(recorder, CONTRACT).write_action(np.zeros(11), stamp_ns + 3_000_000)
    return tmp_path / 'bag'


def timeline(rate: float, restamp: bool, simulated: bool, lap_ns: int = 10**9) -> Timeline:
    return Timeline(T0, lap_ns, rate, restamp, simulated, NOW)


def test_commands_come_before_the_frame_of_the_same_instant(bag: Path) -> None:
    played = list(laps(bag, [CAMERA, COMMAND], CAMERA, 0, loop=False))
    assert [(lap, one.topic) for lap, one in played] == [(0, COMMAND), (0, CAMERA)] * FRAMES
    only = list(laps(bag, [CAMERA], CAMERA, 0, loop=False))
    assert [one.topic for _, one in only] == [CAMERA] * FRAMES


def test_an_offset_leaves_out_what_came_before_in_every_lap(bag: Path) -> None:
    from_ns = T0 + 6 * PERIOD_NS
    played = laps(bag, [CAMERA], CAMERA, from_ns, loop=True)
    found = [next(played) for _ in range(9)]
    assert [lap for lap, _ in found] == [0] * 4 + [1] * 4 + [2]
    stamps = [read_stamp_ns(one.data) for _, one in found]
    assert stamps[:5] == [*(T0 + i * PERIOD_NS for i in range(6, 10)), from_ns]


def test_a_loop_over_nothing_ends(bag: Path, tmp_path: Path) -> None:
    beyond_ns = T0 + FRAMES * 2 * PERIOD_NS
    assert list(laps(bag, [CAMERA, COMMAND], CAMERA, beyond_ns, loop=True)) == []
    with BagRecorder(tmp_path / 'silent') as recorder:
        recorder.add_topic(CAMERA, IMAGE)
        StreamRecorder(recorder, CONTRACT).write_action(np.zeros(11), T0)
    assert list(laps(tmp_path / 'silent', [CAMERA], CAMERA, 0, loop=True)) == []


@pytest.mark.parametrize(
    ('restamp', 'simulated', 'spacing'), [(True, False, 0.5), (True, True, 1.0), (False, True, 1)]
)
def test_stamps_are_spaced_as_sent_or_with_clock_as_recorded(
    bag: Path, restamp: bool, simulated: bool, spacing: float
) -> None:
    times = timeline(2.0, restamp, simulated)
    stamps = [
        stamped(one, times, lap)[1] for lap, one in laps(bag, [CAMERA], CAMERA, 0, loop=False)
    ]
    assert set(np.diff(stamps)) == {spacing * PERIOD_NS}
    assert stamps[0] == (NOW if restamp else T0)
    assert times.due_s(T0 + 10**9, 0) == 0.5


@pytest.mark.parametrize('simulated', [False, True])
def test_time_grows_over_the_seam_of_a_loop(bag: Path, simulated: bool) -> None:
    first_ns = T0 + 3_000_000
    lap_ns = lap_length_ns(bag_info(bag), CAMERA, first_ns)
    assert lap_ns == pytest.approx(FRAMES * PERIOD_NS, abs=1000)
    times = Timeline(first_ns, lap_ns, 2.0, True, simulated, NOW)
    played = laps(bag, [CAMERA], CAMERA, 0, loop=True)
    found = [next(played) for _ in range(3 * FRAMES)]
    stamps = [stamped(one, times, lap)[1] for lap, one in found]
    period_ns = PERIOD_NS if simulated else PERIOD_NS / 2
    np.testing.assert_allclose(np.diff(stamps), period_ns, atol=1000)
    due_s = [times.due_s(one.log_ns, lap) for lap, one in found]
    np.testing.assert_allclose(np.diff(due_s), PERIOD_NS / 2e9, atol=1e-6)
    clock = [times.clock_ns(one.log_ns, lap) for lap, one in found]
    np.testing.assert_allclose(np.diff(clock), PERIOD_NS, atol=1000)
    for (lap, one), at_s in zip(found, due_s, strict=True):
        assert abs(times.clock_after_ns(at_s) - times.clock_ns(one.log_ns, lap)) < 1000


def test_without_restamp_bytes_stay_and_the_clock_jumps_back(bag: Path) -> None:
    times = timeline(1.0, False, True, lap_ns=FRAMES * PERIOD_NS)
    played = laps(bag, [CAMERA], CAMERA, 0, loop=True)
    found = [next(played) for _ in range(FRAMES + 1)]
    assert all(stamped(one, times, lap)[0] is one.data for lap, one in found)
    clock = [times.clock_ns(one.log_ns, lap) for lap, one in found]
    assert clock == [one.log_ns for _, one in found] and clock[-1] == clock[0]
    assert times.clock_after_ns(FRAMES * PERIOD_NS / 1e9) == T0


def test_a_stamp_of_zero_stays_zero(tmp_path: Path) -> None:
    with BagRecorder(tmp_path / 'bag') as recorder:
        recorder.write(CAMERA, IMAGE, image_bytes(np.zeros((8, 8, 3), np.uint8), 0), T0)
    ((lap, one),) = laps(tmp_path / 'bag', [CAMERA], CAMERA, 0, loop=False)
    data, stamp_ns = stamped(one, timeline(1.0, True, True), lap)
    assert stamp_ns == read_stamp_ns(data) == 0
    assert lap_length_ns(bag_info(tmp_path / 'bag'), CAMERA, T0) == pytest.approx(
        LONE_PERIOD_NS, abs=10
    )


def test_a_ros_1_bag_is_played_as_ros_2_bytes(tmp_path: Path) -> None:
    bag = write_ros1(tmp_path / 'one.bag')
    assert {topic: one.stamped for topic, one in raw_topics(bag).items()} == {
        CAMERA: True,
        COMMAND: True,
    }
    played = list(laps(bag, [CAMERA], CAMERA, 0, loop=False))
    assert len(played) == 30
    ours = image_bytes(np.full((64, 64, 3), 7, np.uint8), T0 + 7 * PERIOD_NS, 'cam')
    assert played[7][1].data == ours


def given(*words: str) -> dict[str, object]:
    return parameters(_parser().parse_args(['play', *words]))


def test_the_command_line_becomes_parameters(bag: Path) -> None:
    plain = given(str(bag))
    assert plain['camera'] == CAMERA and plain['topics'] == ('',) and plain['clock_hz'] == 0
    words = '--rate 2 --loop --start-offset 0.2 --clock --no-restamp --wait-subscribers 0'
    full = given(str(bag), *words.split(), '--topics', CAMERA)
    assert (full['rate'], full['loop'], full['start_offset_s']) == (2.0, True, 0.2)
    assert (full['clock_hz'], full['restamp'], full['wait_subscribers']) == (100.0, False, 0)
    assert full['topics'] == (CAMERA,)
    assert given(str(bag), '--clock', '25')['clock_hz'] == 25.0
    assert given(str(bag), '--contract', 'tabletop')['topics'] == (CAMERA, COMMAND)


def test_what_cannot_be_played_is_said(tmp_path: Path, bag: Path) -> None:
    with pytest.raises(ValueError, match='rate'):
        given(str(bag), '--rate', '0')
    with pytest.raises(ValueError, match=r'no /camera/image_raw/compressed, /joint_commands'):
        given(str(bag), '--contract', 'g1_bottle')
    with pytest.raises(ValueError, match='no bag at'):
        given(str(tmp_path / 'none'))
    with BagRecorder(tmp_path / 'two') as recorder:
        recorder.add_topic('/left', IMAGE)
        recorder.add_topic('/right', COMPRESSED_IMAGE)
    with pytest.raises(ValueError, match='2 camera topics .*/left, /right.*--camera'):
        given(str(tmp_path / 'two'))
    assert given(str(tmp_path / 'two'), '--topics', '/right')['camera'] == '/right'
