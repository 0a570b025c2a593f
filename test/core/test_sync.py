"""The synchroniser: which command goes with which frame, and what stamps may not do."""

import copy

import numpy as np
import pytest

from wm_ros.contract import StreamContract
from wm_ros.datatypes import Frame, ResetReason, Step
from wm_ros.messages import Command
from wm_ros.rejection import RejectedInput, Rejection, RejectReason
from wm_ros.sync import END_OF_STREAM_NS, StepSynchronizer
from wm_ros.tracks import MOST_COMMANDS

MS = 1_000_000
PERIOD_NS = 40 * MS
T0 = 10_000 * MS
IMAGE = np.zeros((64, 64, 3), np.uint8)


def make_contract(
    sources: int = 1, lead_ms: float = 0.0, clock_jump: bool = True, twist: str | None = None
) -> StreamContract:
    entry = {'unit': '1', 'low': -1.0, 'high': 1.0}
    actions = [
        {
            'topic': f'/c{i}',
            'type': 'wm_ros_msgs/msg/Action',
            'entries': [{'name': f'n{i}', **entry}],
        }
        for i in range(sources)
    ]
    if twist:
        wide = {'unit': 'm', 'low': -10.0, 'high': 10.0}
        actions = [
            {
                'topic': '/t',
                'type': 'geometry_msgs/msg/TwistStamped',
                'integrate': twist,
                'entries': [{'name': name, **wide} for name in ('x', 'y', 'yaw')],
            }
        ]
    return StreamContract.from_dict(
        {
            'name': 'test',
            'rate_hz': 25.0,
            'image_size': 64,
            'action_lead_ms': lead_ms,
            'cameras': [{'topic': '/cam', 'type': 'sensor_msgs/msg/Image'}],
            'actions': actions,
            'reset': {'gap_s': 1.0, 'clock_jump': clock_jump},
        }
    )


def frame(stamp_ns: int) -> Frame:
    return Frame(IMAGE, stamp_ns)


def run(sync: StepSynchronizer, events: list, end: bool = True) -> list[Step | Rejection]:
    """Play (receive ns, kind, ...) events as they arrive, polling after each as a node does."""
    out = []
    for receive_ns, kind, *rest in events:
        if kind == 'frame':
            sync.push_frame(frame(rest[0]), receive_ns)
        else:
            source, value, stamp_ns = rest
            sync.push_action(source, [value], stamp_ns, receive_ns)
        out += sync.poll(receive_ns)
    return out + (sync.poll(END_OF_STREAM_NS) if end else [])


def steps_of(out: list) -> list[Step]:
    return [item for item in out if isinstance(item, Step)]


def reasons_of(out: list) -> list[RejectReason]:
    return [item.reason for item in out if isinstance(item, Rejection)]


def values(steps: list[Step]) -> list[tuple[float, float]]:
    return [(round(float(s.action_prev_A[0]), 4), round(float(s.action_A[0]), 4)) for s in steps]


def stream(frames: int, command: dict[int, float] | None = None) -> list:
    """Frames every period, each with its command (0 unless given), received on time."""
    events = []
    for i in range(frames):
        at = T0 + i * PERIOD_NS
        events += [(at, 'action', 0, (command or {}).get(i, 0.0), at), (at, 'frame', at)]
    return events


def test_an_impulse_reaches_exactly_its_frame_and_the_next() -> None:
    steps = steps_of(run(StepSynchronizer(make_contract()), stream(6, {3: 1.0})))
    assert values(steps) == [(0, 0), (0, 0), (0, 0), (0, 1), (1, 0), (0, 0)]
    assert [step.index for step in steps] == list(range(6))
    assert [step.reset for step in steps] == [ResetReason.START] + [None] * 5
    assert [step.stamp_ns for step in steps] == [T0 + i * PERIOD_NS for i in range(6)]


@pytest.mark.parametrize(
    ('lead_ms', 'offset_ns', 'used'),
    [
        (0, 0, True),
        (0, 1, False),
        (0, -1, True),
        (8, 8 * MS, True),
        (8, 8 * MS + 1, False),
        (-8, -8 * MS, True),
        (-8, -8 * MS + 1, False),
    ],
)
def test_the_bound_is_the_stamp_plus_lead(lead_ms: float, offset_ns: int, used: bool) -> None:
    sync = StepSynchronizer(make_contract(lead_ms=lead_ms))
    later = T0 + 20 * MS
    events = [
        (T0 - 500 * MS, 'action', 0, -1.0, T0 - 500 * MS),
        (later, 'action', 0, 1.0, T0 + offset_ns),
        (later, 'frame', T0),
    ]
    (step,) = steps_of(run(sync, events))
    assert step.action_A[0] == (1 if used else -1)


def test_a_frame_waits_for_its_command_no_longer_than_the_contract_says() -> None:
    sync = StepSynchronizer(make_contract())
    sync.push_action(0, [0.5], T0 - 3 * MS, T0)
    sync.push_frame(frame(T0), T0)
    assert sync.next_deadline_ns == T0 + 5 * MS
    assert sync.poll(T0 + 5 * MS - 1) == []
    (step,) = sync.poll(T0 + 5 * MS)
    assert step.action_A[0] == 0.5
    assert sync.next_deadline_ns is None


@pytest.mark.parametrize('offset_ns', [0, 1])
def test_no_wait_once_every_source_has_reached_the_bound(offset_ns: int) -> None:
    sync = StepSynchronizer(make_contract(sources=2))
    for source in (0, 1):
        sync.push_action(source, [-1.0], T0 - MS, T0)
    sync.push_frame(frame(T0), T0)
    sync.push_action(0, [1.0], T0 + offset_ns, T0)
    assert sync.poll(T0) == []
    sync.push_action(1, [0.25], T0 + offset_ns, T0)
    (step,) = sync.poll(T0)
    assert step.action_A.tolist() == ([1.0, 0.25] if offset_ns == 0 else [-1, -1])


def test_a_late_command_is_held_off_its_frame_counted_and_given_as_previous() -> None:
    """Live, frame 2's command is 8 ms late: its a_t holds the last; a_{t-1} of frame 3 is true."""
    events = stream(5, {2: 1.0})
    events[4], events[5] = events[5], (events[4][0] + 8 * MS, *events[4][1:])
    sync = StepSynchronizer(make_contract())
    out = []
    for event in events:
        out += sync.poll(event[0] - 1) + run(sync, [event], end=False)
    steps = steps_of(out + sync.poll(END_OF_STREAM_NS))
    assert values(steps) == [(0, 0), (0, 0), (0, 0), (1, 0), (0, 0)]
    assert sync.counts['action.late'] == 1
    patient = StepSynchronizer(make_contract(), wait_ns=1000 * MS)
    assert values(steps_of(run(patient, events))) == [(0, 0), (0, 0), (0, 1), (1, 0), (0, 0)]
    assert patient.counts['action.late'] == 0


@pytest.mark.parametrize('seed', range(5))
def test_arrival_jitter_within_the_wait_changes_nothing(seed: int) -> None:
    """Live == bag: the same messages, up to 4 ms late and out of order, give the same steps."""
    rng = np.random.default_rng(seed)
    sent = []
    for i in range(200):
        at = T0 + i * PERIOD_NS
        sent += [(at, 'frame', at)]
        for source in (0, 1):
            for part in range(3):
                stamp = at - 15 * MS + part * 13 * MS
                sent.append((stamp, 'action', source, float(rng.uniform(-1, 1)), stamp))
    live = StepSynchronizer(make_contract(sources=2))
    out, now = [], 0
    for event in sorted(
        ((e[0] + int(rng.integers(0, 4 * MS)), *e[1:]) for e in sent), key=lambda e: e[0]
    ):
        while now < event[0]:
            now = min(event[0], max(now + MS, event[0] - 2 * MS))
            out += live.poll(now)
        out += run(live, [event], end=False)
    out += live.poll(END_OF_STREAM_NS)
    bag = StepSynchronizer(make_contract(sources=2), wait_ns=1000 * MS)
    wanted = run(bag, sorted(sent, key=lambda e: e[0]))
    assert len(steps_of(wanted)) == 200
    assert len(out) == len(wanted)
    for ours, theirs in zip(out, wanted, strict=True):
        assert (ours.stamp_ns, ours.index, ours.reset) == (
            theirs.stamp_ns,
            theirs.index,
            theirs.reset,
        )
        assert np.array_equal(ours.action_A, theirs.action_A)
        assert np.array_equal(ours.action_prev_A, theirs.action_prev_A)


def test_frames_before_the_first_command_of_every_source_are_refused() -> None:
    sync = StepSynchronizer(make_contract(sources=2))
    events = [
        (T0, 'frame', T0),
        (T0 + MS, 'action', 0, 0.0, T0 + MS),
        (T0 + PERIOD_NS, 'frame', T0 + PERIOD_NS),
        (T0 + 50 * MS, 'action', 1, 0.0, T0 + 50 * MS),
        (T0 + 80 * MS, 'frame', T0 + 80 * MS),
    ]
    out = run(sync, events)
    assert reasons_of(out) == [RejectReason.NO_ACTION] * 2
    assert out[0].detail.endswith('/c0, /c1')
    assert out[1].detail.endswith('/c1')
    (step,) = steps_of(out)
    assert (step.index, step.reset, step.stamp_ns) == (0, ResetReason.START, T0 + 80 * MS)


@pytest.mark.parametrize(
    ('stamp_ns', 'reason'),
    [
        (0, RejectReason.ZERO_STAMP),
        (-5, RejectReason.ZERO_STAMP),
        (T0 + 2 * PERIOD_NS, RejectReason.DUPLICATE_STAMP),
        (T0 + PERIOD_NS, RejectReason.BACKWARD_STAMP),
        (T0 + 2 * PERIOD_NS + 5 * MS, RejectReason.TOO_SOON),
        (T0 + 30_000 * MS, RejectReason.FUTURE_STAMP),
    ],
)
def test_bad_frame_stamps_are_refused_counted_and_leave_no_trace(
    stamp_ns: int, reason: RejectReason
) -> None:
    events = stream(5, {2: 0.5, 3: -0.5})
    clean = run(StepSynchronizer(make_contract()), copy.copy(events))
    sync = StepSynchronizer(make_contract())
    events.insert(6, (T0 + 2 * PERIOD_NS, 'frame', stamp_ns))
    out = run(sync, events)
    assert reasons_of(out) == [reason]
    assert sync.counts[f'frame.{reason.value}'] == 1
    assert values(steps_of(out)) == values(steps_of(clean))


@pytest.mark.parametrize(
    ('value', 'stamp_ns', 'reason'),
    [
        (float('nan'), T0 + 95 * MS, RejectReason.NOT_FINITE),
        (float('inf'), T0 + 95 * MS, RejectReason.NOT_FINITE),
        (1.0, 0, RejectReason.ZERO_STAMP),
        (1.0, T0 + 30_000 * MS, RejectReason.FUTURE_STAMP),
    ],
)
def test_bad_commands_are_refused_counted_and_never_used(
    value: float, stamp_ns: int, reason
) -> None:
    sync = StepSynchronizer(make_contract())
    events = stream(5)
    events.insert(6, (T0 + 95 * MS, 'action', 0, value, stamp_ns))
    out = run(sync, events)
    assert reasons_of(out) == [reason]
    assert sync.counts[f'action.{reason.value}'] == 1
    assert values(steps_of(out)) == [(0, 0)] * 5


def test_odd_but_usable_commands_are_counted() -> None:
    sync = StepSynchronizer(make_contract())
    sync.push_action(0, [0.1], T0, T0)
    sync.push_action(0, [0.2], T0, T0)
    sync.push_action(0, [0.3], T0 - 5 * MS, T0)
    sync.push_action(0, [5.0], T0 + 30 * MS, T0)
    for i in (0, 1):
        sync.push_frame(frame(T0 + i * PERIOD_NS), T0 + PERIOD_NS)
    steps = steps_of(sync.poll(END_OF_STREAM_NS))
    assert values(steps) == [(0.2, 0.2), (0.2, 1.0)]
    counted = {
        name: sync.counts[f'action.{name}']
        for name in ('duplicate', 'backward', 'early', 'clipped')
    }
    assert counted == {'duplicate': 1, 'backward': 1, 'early': 1, 'clipped': 1}


def test_wrong_width_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match=r'/c0.*expected 1'):
        StepSynchronizer(make_contract()).push_action(0, [1.0, 2.0], T0)


def test_missing_frames_become_steps_at_their_instants_with_their_commands() -> None:
    events = [
        e
        for e in stream(7, {3: 1.0, 4: -1.0})
        if e[1] == 'action' or e[2] not in (T0 + 3 * PERIOD_NS, T0 + 4 * PERIOD_NS)
    ]
    sync = StepSynchronizer(make_contract())
    steps = steps_of(run(sync, events))
    assert [step.frame is None for step in steps] == [False] * 3 + [True] * 2 + [False] * 2
    assert [step.stamp_ns for step in steps] == [T0 + i * PERIOD_NS for i in range(7)]
    assert values(steps) == [(0, 0), (0, 0), (0, 0), (0, 1), (1, -1), (-1, 0), (0, 0)]
    assert [step.index for step in steps] == list(range(7))
    assert sync.counts['frame.missing'] == 2


@pytest.mark.parametrize(('gap_ms', 'reset'), [(1000, None), (1001, ResetReason.GAP)])
def test_a_gap_longer_than_the_policy_resets(gap_ms: int, reset) -> None:
    again = T0 + gap_ms * MS
    sync = StepSynchronizer(make_contract())
    steps = steps_of(run(sync, [*stream(1), (again, 'frame', again)]))
    assert steps[-1].reset is reset
    assert steps[-1].stamp_ns == again
    if reset:
        assert [step.index for step in steps] == [0, 0]
        assert sync.counts['reset.gap'] == 1
    else:
        assert [step.frame is None for step in steps] == [False] + [True] * 24 + [False]


def test_a_clock_that_jumps_back_resets_and_forgets_the_old_commands() -> None:
    restart = MS
    events = stream(3, {0: 0.9, 1: 0.9, 2: 0.9})
    events += [
        (restart, 'action', 0, -0.5, restart),
        (restart, 'frame', restart),
        (restart + PERIOD_NS, 'frame', restart + PERIOD_NS),
    ]
    sync = StepSynchronizer(make_contract())
    steps = steps_of(run(sync, events))
    assert [step.reset for step in steps] == [
        ResetReason.START,
        None,
        None,
        ResetReason.CLOCK_JUMP,
        None,
    ]
    assert [step.index for step in steps] == [0, 1, 2, 0, 1]
    assert values(steps)[3:] == [(-0.5, -0.5), (-0.5, -0.5)]
    assert sync.counts['reset.clock_jump'] == 1


def test_after_a_clock_jump_old_commands_are_not_in_force() -> None:
    out = run(StepSynchronizer(make_contract()), [*stream(3), (MS, 'frame', MS)])
    assert reasons_of(out) == [RejectReason.NO_ACTION]
    assert len(steps_of(out)) == 3


def test_one_command_from_long_ago_is_no_clock_jump() -> None:
    events = stream(4, {1: 0.5, 2: 0.5, 3: 0.5})
    events.insert(4, (T0 + PERIOD_NS, 'action', 0, -1.0, MS))
    sync = StepSynchronizer(make_contract())
    assert values(steps_of(run(sync, events))) == [(0, 0), (0, 0.5), (0.5, 0.5), (0.5, 0.5)]
    assert sync.counts['action.backward_stamp'] == 1
    sync.push_frame(frame(2 * MS), 2 * MS)
    assert reasons_of(sync.poll(END_OF_STREAM_NS)) == [RejectReason.NO_ACTION]


def test_without_jump_resets_backward_frames_are_refused() -> None:
    out = run(StepSynchronizer(make_contract(clock_jump=False)), [*stream(3), (MS, 'frame', MS)])
    assert reasons_of(out) == [RejectReason.BACKWARD_STAMP]


def test_a_frame_waiting_when_the_clock_jumps_is_not_lost() -> None:
    sync = StepSynchronizer(make_contract())
    sync.push_action(0, [0.5], T0 - MS, T0)
    sync.push_frame(frame(T0), T0)
    sync.push_action(0, [0.1], MS, MS)
    sync.push_frame(frame(2 * MS), 2 * MS)
    steps = steps_of(sync.poll(3 * MS) + sync.poll(2 * MS + 5 * MS))
    assert [(s.stamp_ns, s.reset) for s in steps] == [
        (T0, ResetReason.START),
        (2 * MS, ResetReason.CLOCK_JUMP),
    ]
    assert values(steps) == [(0.5, 0.5), (0.1, 0.1)]


def test_a_reset_asked_for_begins_at_the_next_frame() -> None:
    sync = StepSynchronizer(make_contract())
    events = stream(4, {1: 1.0})
    out = run(sync, events[:4], end=False)
    sync.reset(ResetReason.SERVICE)
    steps = steps_of(out + run(sync, events[4:]))
    assert [step.reset for step in steps] == [ResetReason.START, None, ResetReason.SERVICE, None]
    assert [step.index for step in steps] == [0, 1, 0, 1]
    assert values(steps)[2] == (0, 0)


def test_inputs_refused_before_they_were_pushed_are_counted_too() -> None:
    sync = StepSynchronizer(make_contract())
    sync.push_rejection('frame', RejectedInput(RejectReason.ENCODING, 'yuv'), T0)
    assert sync.poll(T0) == [Rejection('frame', RejectReason.ENCODING, T0, 'yuv')]
    assert sync.counts['frame.encoding'] == 1


def twist(vx: float, vy: float, turn: float, stamp_ns: int) -> tuple[Command, ...]:
    return (Command(np.array([vx, vy, 0, 0, 0, turn]), stamp_ns),)


def twist_poses(
    frame_kind: str, commands: dict[int, tuple[float, float, float]], frames: int
) -> list:
    contract = make_contract(twist=frame_kind)
    sync = StepSynchronizer(contract)
    for i in range(frames):
        at = T0 + i * PERIOD_NS
        if i in commands:
            sync.push_commands(0, twist(*commands[i], at), at)
        sync.push_frame(frame(at), at)
    return [
        (step, contract.denormalise(step.action_A))
        for step in steps_of(sync.poll(END_OF_STREAM_NS))
    ]


def test_a_twist_impulse_moves_the_pose_in_exactly_its_step() -> None:
    poses = twist_poses('body', {0: (0, 0, 0), 3: (1, 0, 0), 4: (0, 0, 0)}, 7)
    np.testing.assert_allclose(
        [pose[0] for _, pose in poses], [0, 0, 0, 0.04, 0.04, 0.04, 0.04], atol=1e-6
    )


def test_twists_turn_with_the_body_or_stay_with_the_world() -> None:
    """A quarter turn in one second (25 steps), then a second ahead."""
    commands = {0: (0, 0, np.pi / 2), 25: (1, 0, 0), 50: (0, 0, 0)}
    for kind, wanted in (('body', [0, 1, np.pi / 2]), ('world', [1, 0, np.pi / 2])):
        np.testing.assert_allclose(twist_poses(kind, commands, 60)[-1][1], wanted, atol=1e-5)


def test_turning_while_driving_follows_the_arc() -> None:
    """A quarter of a circle of radius 2/pi m in a second ends as far ahead as to the side."""
    pose = twist_poses('body', {0: (1, 0, np.pi / 2), 25: (0, 0, 0)}, 30)[-1][1]
    np.testing.assert_allclose(pose, [2 / np.pi, 2 / np.pi, np.pi / 2], atol=1e-3)


def test_a_full_circle_of_twists_closes() -> None:
    pose = twist_poses('body', {0: (1, 0, 2 * np.pi), 25: (0, 0, 0)}, 30)[-1][1]
    np.testing.assert_allclose(pose[:2], [0, 0], atol=2e-3)


def test_a_reset_takes_the_twist_pose_to_zero() -> None:
    contract = make_contract(twist='body')
    sync = StepSynchronizer(contract)
    sync.push_commands(0, twist(1, 0, 0, T0), T0)
    for i in range(10):
        if i == 5:
            sync.reset(ResetReason.SERVICE)
        sync.push_frame(frame(T0 + i * PERIOD_NS), T0 + i * PERIOD_NS)
    steps = steps_of(sync.poll(END_OF_STREAM_NS))
    x = [contract.denormalise(step.action_A)[0] for step in steps]
    np.testing.assert_allclose(x, [0.04, 0.08, 0.12, 0.16, 0.2] * 2, atol=1e-6)


@pytest.mark.parametrize('kind', [None, 'body'])
def test_commands_without_a_camera_do_not_pile_up(kind: str | None) -> None:
    """Hours of commands and no frame: a bounded history, the newest still in force."""
    contract = make_contract(twist=kind)
    sync = StepSynchronizer(contract)
    width = 6 if kind else 1
    for i in range(2 * MOST_COMMANDS):
        sync.push_commands(0, (Command(np.full(width, i % 7 / 10.0), T0 + i * MS),))
    at = T0 + 2 * MOST_COMMANDS * MS
    for i in range(100):
        sync.push_commands(0, (Command(np.zeros(width), at - 5_000 * MS - i),))
    track = sync._tracks[0]
    assert len(track._commands) <= MOST_COMMANDS
    assert len(track._after_jump) == 100
    sync.push_frame(frame(at), at)
    (step,) = steps_of(sync.poll(END_OF_STREAM_NS))
    value = (2 * MOST_COMMANDS - 1) % 7 / 10.0
    wanted = value if kind is None else value * 0.04
    assert np.isclose(contract.denormalise(step.action_A)[0], wanted, atol=1e-4)


def test_a_new_trajectory_replaces_the_rest_of_the_old() -> None:
    sync = StepSynchronizer(make_contract())
    at = [T0 + i * PERIOD_NS for i in range(6)]

    def plan(*points: tuple[float, int]) -> tuple[Command, ...]:
        return tuple(Command(np.array([value]), stamp, planned=True) for value, stamp in points)

    sync.push_commands(0, plan((0.1, at[0]), (0.2, at[2]), (0.3, at[4])), at[0])
    for i in range(6):
        if i == 3:
            sync.push_commands(0, plan((-0.5, at[3]), (-0.6, at[5])), at[3])
        sync.push_frame(frame(at[i]), at[i])
        sync_out = sync.poll(at[i] + 5 * MS)
        assert len(sync_out) == 1
        wanted = [0.1, 0.1, 0.2, -0.5, -0.5, -0.6][i]
        assert np.isclose(sync_out[0].action_A[0], wanted)
    assert sync.counts['action.early'] == sync.counts['action.future_stamp'] == 0
