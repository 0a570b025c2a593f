"""A consumer slower than the camera, on virtual time: it skips frames, it does not forget."""

import numpy as np
import pytest

from wm_ros.contract import StreamContract
from wm_ros.datatypes import Frame, ResetReason, Step
from wm_ros.sync import MOST_BRIDGED, StepSynchronizer

MS = 1_000_000
PERIOD_NS = 40 * MS
T0 = 10_000 * MS
IMAGE = np.zeros((64, 64, 3), np.uint8)


def make_sync() -> StepSynchronizer:
    entry = {'name': 'n', 'unit': '1', 'low': -1.0, 'high': 1.0}
    contract = {
        'name': 'test',
        'rate_hz': 25.0,
        'image_size': 64,
        'cameras': [{'topic': '/cam', 'type': 'sensor_msgs/msg/Image'}],
        'actions': [{'topic': '/c', 'type': 'wm_ros_msgs/msg/Action', 'entries': [entry]}],
        'reset': {'gap_s': 1.0},
    }
    return StepSynchronizer(StreamContract.from_dict(contract))


def consume(sync: StepSynchronizer, cost_ns: int, frames: int, told: bool) -> list[list[Step]]:
    """Take the newest frame whenever the last is done, as the node does; each poll's steps."""
    polls, now_ns, taken = [], T0, 0
    while taken < frames:
        arrived = min(frames, (now_ns - T0) // PERIOD_NS + 1)
        stamps = [T0 + i * PERIOD_NS for i in range(taken, arrived)]
        taken = arrived
        if not stamps:
            now_ns = T0 + taken * PERIOD_NS
            continue
        for i, stamp_ns in enumerate(stamps):
            sync.push_action(0, [(i + taken) % 2], stamp_ns, stamp_ns)
        for stamp_ns in stamps[:-1] if told else []:
            sync.push_dropped(stamp_ns)
        sync.push_frame(Frame(IMAGE, stamps[-1]), stamps[-1])
        steps = [item for item in sync.poll(now_ns) if isinstance(item, Step)]
        now_ns += cost_ns * len(steps)
        polls.append(steps)
    return polls


@pytest.mark.parametrize(
    ('cost_ms', 'share'), [(20, 1.0), (42, 0.9), (60, 0.5), (100, 0.38), (1500, 0.026)]
)
def test_overload_drops_frames_and_resets_nothing(cost_ms: int, share: float) -> None:
    """At least three quarters of the frames that the machine could do at best are observed."""
    frames = 1000
    sync = make_sync()
    polls = consume(sync, cost_ms * MS, frames, told=True)
    steps = [step for one in polls for step in one]
    assert [step.reset for step in steps] == [ResetReason.START] + [None] * (len(steps) - 1)
    assert max(len(one) for one in polls) <= MOST_BRIDGED + 1
    observed = sum(step.frame is not None for step in steps)
    assert observed >= share * frames
    assert observed + sync.counts['frame.dropped'] == frames
    assert sync.counts['frame.missing'] + sync.counts['frame.unbridged'] == frames - observed
    assert sync.counts['frame.rate_off'] == 0
    assert sync.camera_rate_hz == pytest.approx(25)


def test_without_word_of_dropped_frames_the_same_consumer_forgets() -> None:
    sync = make_sync()
    consume(sync, 42 * MS, 1000, told=False)
    assert sync.counts['reset.gap'] > 0


def test_a_short_hiccup_is_bridged_evenly_and_chained() -> None:
    """Five frames dropped once: two steps in their place, each the successor of the one before."""
    sync = make_sync()
    stamps = [T0 + i * PERIOD_NS for i in range(9)]
    for i, stamp_ns in enumerate(stamps):
        sync.push_action(0, [i / 10], stamp_ns, stamp_ns)
        if 2 <= i < 7:
            sync.push_dropped(stamp_ns)
        else:
            sync.push_frame(Frame(IMAGE, stamp_ns), stamp_ns)
    steps = [item for item in sync.poll(stamps[-1]) if isinstance(item, Step)]
    assert [(step.stamp_ns - T0) // MS for step in steps] == [0, 40, 120, 200, 280, 320]
    assert [step.frame is None for step in steps] == [False, False, True, True, False, False]
    assert [step.index for step in steps] == list(range(6))
    for step, before in zip(steps[1:], steps, strict=False):
        assert np.array_equal(step.action_prev_A, before.action_A)
    assert (sync.counts['frame.missing'], sync.counts['frame.unbridged']) == (2, 3)


@pytest.mark.parametrize(('silent_ms', 'reset'), [(960, None), (1040, ResetReason.GAP)])
def test_a_silent_camera_resets_also_among_dropped_frames(silent_ms: int, reset) -> None:
    sync = make_sync()
    sync.push_action(0, [0.0], T0, T0)
    again = T0 + 2 * PERIOD_NS + silent_ms * MS
    sync.push_frame(Frame(IMAGE, T0), T0)
    for stamp_ns in (T0 + PERIOD_NS, T0 + 2 * PERIOD_NS, again):
        sync.push_dropped(stamp_ns)
    sync.push_frame(Frame(IMAGE, again + PERIOD_NS), again + PERIOD_NS)
    steps = [item for item in sync.poll(again + 10 * PERIOD_NS) if isinstance(item, Step)]
    assert steps[-1].reset is reset


def test_frames_dropped_after_a_waiting_one_count_for_the_next() -> None:
    sync = make_sync()
    sync.push_action(0, [0.0], T0 - MS, T0)
    sync.push_frame(Frame(IMAGE, T0), T0)
    for i in range(1, 40):
        sync.push_dropped(T0 + i * PERIOD_NS)
    last_ns = T0 + 40 * PERIOD_NS
    sync.push_frame(Frame(IMAGE, last_ns), last_ns)
    steps = [item for item in sync.poll(last_ns + 5 * MS) if isinstance(item, Step)]
    assert [step.reset for step in steps] == [ResetReason.START, None, None, None]


@pytest.mark.parametrize(('camera_hz', 'off'), [(25, 0), (26, 0), (30, 9), (20, 9), (60, 9)])
def test_a_camera_of_another_rate_is_counted_once_per_second(camera_hz: int, off: int) -> None:
    sync = make_sync()
    sync.push_action(0, [0.0], T0, T0)
    for i in range(10 * camera_hz):
        stamp_ns = T0 + round(i * 1e9 / camera_hz)
        if i % 7 != 3:  # frames lost on the way change nothing
            sync.push_frame(Frame(IMAGE, stamp_ns), stamp_ns)
    assert sync.camera_rate_hz == pytest.approx(camera_hz, rel=1e-6)
    assert sync.counts['frame.rate_off'] == off


def test_the_rate_is_unknown_at_first_and_measured_afresh_after_a_clock_jump() -> None:
    sync = make_sync()
    for start_ns in (T0, MS):
        for i in range(6):
            assert sync.camera_rate_hz == (None if i or start_ns == T0 else pytest.approx(25))
            sync.push_frame(Frame(IMAGE, start_ns + i * PERIOD_NS), start_ns + i * PERIOD_NS)
        assert sync.camera_rate_hz == pytest.approx(25)
