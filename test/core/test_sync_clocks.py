"""Commands that must not silence those after them: odd clocks, and rates beyond every machine."""

import numpy as np
import pytest

from wm_ros.contract import StreamContract
from wm_ros.datatypes import Frame, ResetReason, Step
from wm_ros.messages import Command
from wm_ros.rejection import Rejection, RejectReason
from wm_ros.sync import END_OF_STREAM_NS, StepSynchronizer
from wm_ros.tracks import CommandTrack

MS = 1_000_000
PERIOD_NS = 40 * MS
T0 = 7_200_000 * MS
HOUR_NS = 3_600_000 * MS
IMAGE = np.zeros((64, 64, 3), np.uint8)


def make_contract(twist: bool = False) -> StreamContract:
    entry = {'name': 'x', 'unit': 'm', 'low': -1.0, 'high': 1.0}
    source = {'topic': '/c', 'type': 'wm_ros_msgs/msg/Action', 'entries': [entry]}
    if twist:
        source |= {'type': 'geometry_msgs/msg/TwistStamped', 'integrate': 'body'}
    return StreamContract.from_dict(
        {
            'name': 'test',
            'rate_hz': 25.0,
            'image_size': 64,
            'cameras': [{'topic': '/cam', 'type': 'sensor_msgs/msg/Image'}],
            'actions': [source],
            'reset': {'gap_s': 1.0},
        }
    )


def command(value: float, stamp_ns: int, width: int = 1, planned: bool = False) -> Command:
    return Command(np.array([value] + [0.0] * (width - 1)), stamp_ns, planned)


def play(sync: StepSynchronizer, clock_ns: list[int], values: list[float], width: int = 1) -> list:
    """One command and one frame per period; the command stamped `clock_ns` off the frame's."""
    out = []
    for i, (off_ns, value) in enumerate(zip(clock_ns, values, strict=True)):
        at = T0 + i * PERIOD_NS
        sync.push_commands(0, (command(value, at + off_ns, width),), at)
        sync.push_frame(Frame(IMAGE, at), at)
        out += sync.poll(at + 5 * MS)
    return out


def actions(contract: StreamContract, out: list) -> np.ndarray:
    steps = [item for item in out if isinstance(item, Step)]
    return np.array([contract.denormalise(step.action_A)[0] for step in steps])


def test_a_plan_stamped_far_ahead_is_refused_and_silences_nothing() -> None:
    contract = make_contract()
    sync = StepSynchronizer(contract)
    out = play(sync, [0] * 3, [0.1] * 3)
    ahead_ns = T0 + HOUR_NS
    sync.push_commands(0, (command(0.9, ahead_ns, planned=True),), T0 + 3 * PERIOD_NS)
    (refused,) = sync.poll(T0 + 3 * PERIOD_NS)
    assert (refused.reason, refused.stamp_ns) == (RejectReason.FUTURE_STAMP, ahead_ns)
    assert sync.counts['action.future_stamp'] == 1
    at = T0 + 3 * PERIOD_NS
    sync.push_commands(0, (command(0.5, at),), at)
    sync.push_frame(Frame(IMAGE, at), at)
    out += sync.poll(at)
    np.testing.assert_allclose(actions(contract, out), [0.1, 0.1, 0.1, 0.5], atol=1e-6)


def test_a_plan_may_reach_far_ahead_when_it_begins_soon() -> None:
    sync = StepSynchronizer(make_contract())
    plan = (command(0.1, T0 + 900 * MS, planned=True), command(0.2, T0 + HOUR_NS, planned=True))
    sync.push_commands(0, plan, T0)
    assert sync.poll(T0) == []
    assert +sync.counts == {}


@pytest.mark.parametrize('twist', [False, True])
def test_a_command_clock_that_steps_back_is_followed_after_the_gap(twist: bool) -> None:
    """25 periods are the gap: held back and reported until then, in force from then on."""
    contract, width = make_contract(twist), 6 if twist else 1
    sync = StepSynchronizer(contract)
    out = play(sync, [0] * 5 + [-HOUR_NS] * 40, [0.5] * 5 + [-0.5] * 40, width)
    refused = [item for item in out if isinstance(item, Rejection)]
    assert [item.reason for item in refused] == [RejectReason.BACKWARD_STAMP] * 25
    assert '3599.960 s backwards' in refused[0].detail
    assert sync.counts['action.backward_stamp'] == 25
    assert sync.counts['action.clock_jump'] == 1
    assert sync.counts['reset.clock_jump'] == sync.counts['action.backward'] == 0
    rates = np.array([0.5] * 30 + [-0.5] * 15)
    wanted = np.cumsum(rates * 0.04) if twist else rates
    if twist:  # the newest twist known holds from the last frame on, one period before its own
        wanted[30:] -= 0.04
    np.testing.assert_allclose(actions(contract, out), wanted, atol=1e-6)


def test_single_commands_of_an_old_clock_never_take_over() -> None:
    """Two publishers, one of them an hour behind: the good one stays in force."""
    contract = make_contract()
    sync = StepSynchronizer(contract)
    out = play(sync, [0, -HOUR_NS] * 40, [0.5, -0.5] * 40)
    assert set(actions(contract, out).round(4)) == {0.5}
    assert sync.counts['action.backward_stamp'] == 40
    assert sync.counts['action.clock_jump'] == 0


def test_plans_of_a_new_clock_replace_each_other_and_do_not_silence_the_next() -> None:
    track = CommandTrack()
    track.push((command(0.0, T0),), 1000 * MS, T0)
    notes = []
    for i in range(5):
        start_ns = i * 400 * MS
        plan = [command(i + k / 10, MS + start_ns + k * 5_000 * MS, planned=True) for k in (0, 1)]
        notes.append(track.push(tuple(plan), 1000 * MS, T0 + start_ns))
    assert notes == [RejectReason.BACKWARD_STAMP] * 3 + ['clock_jump', None]
    assert track.newest_ns == MS + 1600 * MS
    value = track.at(MS + 6000 * MS)
    assert value is not None
    assert value[0] == 4.0
    late = track.at(T0)
    assert late is not None
    assert late[0] == 4.1


def test_without_receipts_the_new_stamps_tell_how_long() -> None:
    track = CommandTrack()
    track.push((command(0.0, T0),), 1000 * MS)
    notes = [track.push((command(1.0, MS + i * 500 * MS),), 1000 * MS) for i in range(3)]
    assert notes == [RejectReason.BACKWARD_STAMP] * 2 + ['clock_jump']


@pytest.mark.parametrize('rate', [1e160, -1e300, 2e9])
@pytest.mark.parametrize('entry', [0, 5])
def test_rates_that_do_not_integrate_are_refused_and_the_stream_goes_on(
    rate: float, entry: int
) -> None:
    contract = make_contract(twist=True)
    sync = StepSynchronizer(contract)
    out = play(sync, [0] * 3, [0.5] * 3, 6)
    values_E = np.zeros(6)
    values_E[entry] = rate
    at = T0 + 3 * PERIOD_NS
    sync.push_commands(0, (Command(values_E, at),), at)
    sync.push_frame(Frame(IMAGE, at), at)
    out += sync.poll(END_OF_STREAM_NS)
    reasons = [item.reason for item in out if isinstance(item, Rejection)]
    assert reasons == [RejectReason.TOO_FAST]
    assert sync.counts['action.too_fast'] == 1
    np.testing.assert_allclose(actions(contract, out), [0.02, 0.04, 0.06, 0.08], atol=1e-6)


def test_the_fastest_rates_allowed_integrate_for_a_day_of_frames() -> None:
    contract = make_contract(twist=True)
    sync = StepSynchronizer(contract)
    sync.push_commands(0, (Command(np.full(6, 1e9), T0),), T0)
    for at in range(T0, T0 + 24 * HOUR_NS, 24 * HOUR_NS // 100):
        sync.push_frame(Frame(IMAGE, at), at)
        sync.poll(END_OF_STREAM_NS)
    assert sync.counts['reset.gap'] == 99
    pose = sync._tracks[0].at(T0 + 48 * HOUR_NS)
    assert pose is not None
    assert np.isfinite(pose).all()


def test_an_error_in_an_action_leaves_a_due_reset_in_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contract = make_contract()
    sync = StepSynchronizer(contract)
    play(sync, [0], [0.5])
    sync.reset(ResetReason.SERVICE)
    at = T0 + PERIOD_NS
    with monkeypatch.context() as patch:
        patch.setattr(StreamContract, 'normalise', lambda *_: (_ for _ in ()).throw(ValueError))
        sync.push_frame(Frame(IMAGE, at), at)
        with pytest.raises(ValueError):
            sync.poll(END_OF_STREAM_NS)
    sync.push_frame(Frame(IMAGE, at + PERIOD_NS), at + PERIOD_NS)
    (step,) = sync.poll(END_OF_STREAM_NS)
    assert (step.index, step.reset) == (0, ResetReason.SERVICE)
