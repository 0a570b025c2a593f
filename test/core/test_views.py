"""Views of further cameras: which one goes with which frame, and what happens without one."""

import numpy as np
import pytest

from wm_ros.contract import StreamContract
from wm_ros.datatypes import Frame, ResetReason, Step
from wm_ros.rejection import Rejection, RejectReason
from wm_ros.sync import END_OF_STREAM_NS, StepSynchronizer
from wm_ros.tiles import tile_size, untile
from wm_ros.views import MOST_VIEWS, ViewTrack

MS = 1_000_000
PERIOD_NS = 40 * MS
T0 = 10_000 * MS
SIZE = 8


def make_contract(cameras: int = 2, wait_ms: float = 5.0) -> StreamContract:
    entry = {'name': 'n', 'unit': '1', 'low': -1.0, 'high': 1.0}
    return StreamContract.from_dict(
        {
            'name': 'test',
            'rate_hz': 25.0,
            'image_size': SIZE,
            'action_wait_ms': wait_ms,
            'cameras': [
                {'topic': f'/cam_{i}', 'type': 'sensor_msgs/msg/Image'} for i in range(cameras)
            ],
            'actions': [{'topic': '/c', 'type': 'wm_ros_msgs/msg/Action', 'entries': [entry]}],
            'reset': {'gap_s': 0.4},
        }
    )


def make_sync(cameras: int = 2, wait_ns: int | None = None) -> StepSynchronizer:
    return StepSynchronizer(make_contract(cameras), wait_ns)


def picture(shade: int, stamp_ns: int, cameras: int = 2) -> Frame:
    return Frame(np.full((*tile_size(cameras, SIZE), 3), shade, np.uint8), stamp_ns, 'cam')


def send_frame(
    sync: StepSynchronizer, shade: int, stamp_ns: int, receive_ns: int, cameras: int = 2
) -> None:
    """Send a frame of the first camera, its command first: nothing waits for that."""
    sync.push_action(0, [0.5], stamp_ns, receive_ns)
    sync.push_frame(picture(shade, stamp_ns, cameras), receive_ns)


def shades(step: Step, cameras: int = 2) -> list[int]:
    """What each camera shows, by its shade."""
    assert step.frame is not None and step.frame.image_HWC.shape == (SIZE, SIZE, 3)
    views = untile(step.frame.image_HWC, cameras)
    assert all((view == view[0, 0, 0]).all() for view in views)
    return [int(view[0, 0, 0]) for view in views]


def play(sync: StepSynchronizer, events: list, cameras: int = 2) -> list[Step | Rejection]:
    """Play (receive ns, camera, shade, stamp ns), polling before and after each as a node does."""
    out = []
    for receive_ns, camera, shade, stamp_ns in events:
        out += sync.poll(receive_ns - 1)
        if camera:
            sync.push_view(camera, picture(shade, stamp_ns, cameras), receive_ns)
        else:
            send_frame(sync, shade, stamp_ns, receive_ns, cameras)
        out += sync.poll(receive_ns)
    return out + sync.poll(END_OF_STREAM_NS)


def both(frames: int, without: tuple[int, ...] = (), start_ns: int = T0) -> list:
    """Frames of shade 1, 2 ..., each after its view of shade 101, 102 ..."""
    events = []
    for i in range(frames):
        at = start_ns + i * PERIOD_NS
        events += [] if i in without else [(at, 1, 101 + i, at)]
        events.append((at, 0, 1 + i, at))
    return events


def steps_of(out: list) -> list[Step]:
    return [item for item in out if isinstance(item, Step)]


def reasons_of(out: list) -> list[tuple[str, RejectReason]]:
    return [(item.kind, item.reason) for item in out if isinstance(item, Rejection)]


def test_a_step_shows_all_cameras_at_the_first_ones_instant() -> None:
    sync = make_sync()
    steps = play(sync, both(4))
    assert [shades(step) for step in steps] == [[1 + i, 101 + i] for i in range(4)]
    assert [step.stamp_ns for step in steps] == [T0 + i * PERIOD_NS for i in range(4)]
    assert steps[0].frame.frame_id == 'cam' and not sync.counts['view.held /cam_1']
    assert {name for name, count in sync.counts.items() if count} == {'reset.start'}
    assert len(sync._views._tracks[0]._views) == 1, 'what was replaced is let go of'


@pytest.mark.parametrize(
    ('offset_ms', 'shown', 'held'),
    [(0, 200, 0), (5, 200, 0), (6, 102, 1), (19, 102, 1), (-20, 200, 0), (-21, 200, 1)],
)
def test_a_view_counts_half_a_period_back_and_as_far_ahead_as_a_frame_waits(
    offset_ms: int, shown: int, held: int
) -> None:
    """Recorded too: training and replay show what the robot could have seen."""
    sync = make_sync(wait_ns=1000 * MS)
    at = T0 + 3 * PERIOD_NS
    events = [*both(2), (at, 0, 50, at), (at + 10 * MS, 1, 200, at + offset_ms * MS)]
    assert shades(steps_of(play(sync, events))[-1]) == [50, shown]
    assert sync.counts['view.held /cam_1'] == held


def test_the_nearest_view_is_shown_not_the_newest() -> None:
    """A contract that waits for 15 ms: of views 9 ms before and 15 ms after, the former."""
    track = ViewTrack('/cam_1', make_contract(wait_ms=15.0))
    for stamp_ns in (T0 - 9 * MS, T0 + 15 * MS):
        assert track.push(picture(1, stamp_ns), T0) is None
    view, held = track.at(T0)
    assert (view.stamp_ns, held) == (T0 - 9 * MS, False)
    assert track.at(T0 + 4 * MS)[0].stamp_ns == T0 + 15 * MS


@pytest.mark.parametrize(('ahead_ms', 'waits'), [(0, False), (18, False), (19, True)])
def test_a_frame_waits_only_while_its_view_can_come(ahead_ms: int, waits: bool) -> None:
    """Views keep 0.6 periods apart: 24 ms, so after one 18 ms before the frame the next one is
    more than the 5 ms ahead that a frame waits.
    """
    sync = make_sync()
    sync.push_view(1, picture(9, T0 - ahead_ms * MS), T0)
    send_frame(sync, 1, T0, T0)
    assert bool(sync.poll(T0)) is not waits
    if waits:
        assert sync.next_deadline_ns == T0 + 5 * MS
        sync.push_view(1, picture(10, T0 + 5 * MS), T0 + 5 * MS)
        (step,) = sync.poll(T0 + 5 * MS)
        assert shades(step) == [1, 10]


def test_a_late_view_is_waited_for_then_the_last_is_held_and_counted() -> None:
    events = both(4)
    for place, late_ms in ((2, 4), (4, 8)):
        at = events[place][0] + late_ms * MS
        events[place] = (at, *events[place][1:])
    sync = make_sync()
    steps = steps_of(play(sync, sorted(events, key=lambda event: event[0])))
    assert [shades(step)[1] for step in steps] == [101, 102, 102, 104]
    assert (sync.counts['view.held /cam_1'], sync.counts['view.late /cam_1']) == (1, 1)
    patient = make_sync(wait_ns=1000 * MS)
    steps = steps_of(play(patient, sorted(events, key=lambda event: event[0])))
    assert [shades(step)[1] for step in steps] == [101, 102, 103, 104]
    assert not patient.counts['view.held /cam_1'] and not patient.counts['view.late /cam_1']


def test_a_view_missing_for_long_makes_missing_frames_until_it_is_back() -> None:
    """The contract's gap is 0.4 s: ten steps hold the last view, what follows has no frame."""
    sync = make_sync()
    steps = steps_of(play(sync, both(20, without=tuple(range(3, 16)))))
    assert [step.index for step in steps] == list(range(20))
    assert [i for i, step in enumerate(steps) if step.frame is None] == [13, 14, 15]
    assert [shades(step)[1] for step in steps[2:13]] == [103] * 11
    assert [shades(step) for step in steps[16:]] == [[17 + i, 117 + i] for i in range(4)]
    assert [step.stamp_ns for step in steps] == [T0 + i * PERIOD_NS for i in range(20)]
    assert sync.counts['view.held /cam_1'] == 10
    assert sync.counts['view.lost /cam_1'] == sync.counts['frame.missing'] == 3
    assert [step.reset for step in steps[1:]] == [None] * 19


def test_a_stream_begins_once_every_camera_has_been_seen() -> None:
    sync = make_sync(3)
    events = []
    for i in range(5):
        at = T0 + i * PERIOD_NS
        events += [(at, 1, 50 + i, at)] * (i in (1, 2))
        events += [(at, 2, 70 + i, at)] * (i >= 3)
        events += [(at, 0, i, at)]
    out = play(sync, events, 3)
    assert reasons_of(out) == [('frame', RejectReason.NO_VIEW)] * 3
    assert out[0].detail == 'no view yet from /cam_1, /cam_2'
    assert out[1].detail == out[2].detail == 'no view yet from /cam_2'
    steps = steps_of(out)
    assert [shades(step, 3) for step in steps] == [[3, 52, 73], [4, 52, 74]]
    assert (steps[0].index, steps[0].reset) == (0, ResetReason.START)
    assert sync.counts['frame.no_view'] == 3


def test_nothing_older_than_a_reset_is_shown_after_it() -> None:
    sync = make_sync()
    out = play(sync, both(3))
    sync.reset(ResetReason.SERVICE)
    out += play(sync, both(3, without=(0, 1), start_ns=T0 + 3 * PERIOD_NS))
    assert reasons_of(out) == [('frame', RejectReason.NO_VIEW)] * 2
    steps = steps_of(out)
    assert [step.reset for step in steps] == [ResetReason.START, None, None, ResetReason.SERVICE]
    assert shades(steps[-1]) == [3, 103]


def test_bad_view_stamps_are_refused_by_name_and_leave_no_trace() -> None:
    at = T0 + PERIOD_NS
    bad = [
        (0, RejectReason.ZERO_STAMP),
        (at, RejectReason.DUPLICATE_STAMP),
        (T0, RejectReason.BACKWARD_STAMP),
        (at + 5 * MS, RejectReason.TOO_SOON),
        (at + 30_000 * MS, RejectReason.FUTURE_STAMP),
    ]
    sync, events = make_sync(), both(5)
    events[4:4] = [(at, 1, 250, stamp_ns) for stamp_ns, _ in bad]
    out = play(sync, events)
    assert reasons_of(out) == [('view', reason) for _, reason in bad]
    assert all(item.detail.startswith('/cam_1: ') for item in out if isinstance(item, Rejection))
    assert all(sync.counts[f'view.{reason.value}'] == 1 for _, reason in bad)
    assert [shades(step) for step in steps_of(out)] == [[1 + i, 101 + i] for i in range(5)]


def test_a_clock_that_jumps_takes_the_views_along() -> None:
    """The view of the new time comes before the frame that resets."""
    sync = make_sync()
    steps = steps_of(play(sync, both(3) + both(3, start_ns=20 * MS)))
    assert [step.reset for step in steps][3:] == [ResetReason.CLOCK_JUMP, None, None]
    assert [shades(step) for step in steps] == 2 * [[1 + i, 101 + i] for i in range(3)]
    assert sync.counts['view.backward_stamp'] == 1 and not sync.counts['view.held /cam_1']


def test_a_view_clock_that_stepped_back_is_believed_after_the_gap() -> None:
    """Its views are then of another time than the frames: no picture shows them."""
    sync = make_sync()
    back_ns = 5_000 * MS
    events = [
        (at, camera, shade, stamp_ns - back_ns if camera and i > 5 else stamp_ns)
        for i, (at, camera, shade, stamp_ns) in enumerate(both(40))
    ]
    steps = steps_of(play(sync, events))
    assert sync.counts['view.clock_jump /cam_1'] == 1
    assert [step.frame is None for step in steps] == [False] * 13 + [True] * 27


def test_views_without_a_frame_do_not_pile_up() -> None:
    sync = make_sync()
    for i in range(2 * MOST_VIEWS):
        at = T0 + i * PERIOD_NS
        sync.push_view(1, picture(i % 200, at), at)
        sync.push_view(1, picture(0, MS + i), at)
    (track,) = sync._views._tracks
    assert len(track._views) == MOST_VIEWS and len(track._after_jump) <= MOST_VIEWS
    sync.poll(at)
    send_frame(sync, 1, at, at)
    (step,) = sync.poll(at)
    assert shades(step) == [1, (2 * MOST_VIEWS - 1) % 200]


@pytest.mark.parametrize('seed', range(5))
def test_arrival_jitter_within_the_wait_changes_nothing(seed: int) -> None:
    """Live == bag: cameras of other phases and rates, up to 4 ms late, show the same pictures."""
    rng = np.random.default_rng(seed)
    sent = []
    for camera, (period_ms, phase_ms) in enumerate(((40, 0), (40, -2), (60, -5), (80, 10))):
        for i in range(8000 // period_ms):
            stamp = T0 + (i * period_ms + phase_ms) * MS + int(rng.integers(MS // 2))
            if camera == 0 or rng.uniform() > 0.1:
                sent.append((stamp, camera, int(rng.integers(256)), stamp))
    live, bag = make_sync(4), make_sync(4, wait_ns=1000 * MS)
    jittered = [(event[0] + int(rng.integers(4 * MS)), *event[1:]) for event in sent]
    ours = play(live, sorted(jittered), 4)
    theirs = play(bag, sorted(sent), 4)
    assert len(steps_of(theirs)) > 190 and bag.counts['view.held /cam_3'] > 50
    assert live.counts == bag.counts
    for step, wanted in zip(steps_of(ours), steps_of(theirs), strict=True):
        assert (step.stamp_ns, step.index) == (wanted.stamp_ns, wanted.index)
        assert shades(step, 4) == shades(wanted, 4)
