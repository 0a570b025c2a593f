"""Session of world_model_node without ROS: output that is not finite, waiting, what is dropped."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wm_ros.contract import StreamContract
from wm_ros.datatypes import Frame, ResetReason
from wm_ros.feed import ArrivedCommands, ArrivedFrame, Restart
from wm_ros.messages import Command
from wm_ros.nodes.diagnostics import Ages, Surroundings, judge
from wm_ros.nodes.inbox import Inbox, Mail
from wm_ros.nodes.loading import Loaded
from wm_ros.nodes.session import Outcome, Session
from wm_ros.nodes.statistics import Statistics
from wm_ros.rejection import Rejection
from wm_ros.toy_package import write_toy_package
from wm_ros.world_model import WorldModel

CONTRACT = StreamContract.load(Path(__file__).parents[2] / 'contracts' / 'tabletop.yaml')
START_NS, PERIOD_NS, MS = 10**18, 40_000_000, 1_000_000


class Poisoned:
    """The toy engine, its predictions NaN while `on`."""

    def __init__(self, backend: object) -> None:
        self.backend = backend
        self.on = False
        self.ran: Counter[str] = Counter()
        self.name, self.precision, self.reason = 'toy', 'fp32', ''

    def run(self, graph: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = self.backend.run(graph, inputs)
        self.ran[graph] += 1
        if self.on and graph == 'predict':
            outputs['latent'] = np.full_like(outputs['latent'], np.nan)
        return outputs


@pytest.fixture
def session(tmp_path: Path) -> Session:
    from wm_ros.backends.toy_backend import ToyBackend

    package = write_toy_package(tmp_path / 'toy', CONTRACT)
    model = WorldModel(package, Poisoned(ToyBackend(package)))
    refused: list[Rejection] = []
    statistics = Statistics(100, CONTRACT.period_ns)
    made = Session(model, CONTRACT, horizon=1, seed=0, statistics=statistics,
                   on_rejection=refused.append)  # fmt: skip
    made.refused = refused
    return made


def mail(
    index: int, with_command: bool = True, late_ms: int = 0, period_ns: int = PERIOD_NS
) -> Mail:
    """Frame and command of one instant, received right away; monotonic time starts at 0."""
    stamp_ns = START_NS + index * period_ns
    frame = Frame(np.full((64, 64, 3), 10 * index % 250, np.uint8), stamp_ns, 'cam')
    at_ns = index * period_ns + late_ms * MS
    command = ArrivedCommands(0, (Command(np.zeros(11), stamp_ns),), stamp_ns)
    arrived = ArrivedFrame(frame, START_NS + at_ns, (64, 64))
    return Mail(arrived, at_ns, (command,) if with_command else ())


def advance(session: Session, monotonic_ns: int) -> list[Outcome]:
    return list(session.advance(monotonic_ns))


def test_output_that_is_not_finite_starts_the_memory_afresh_and_is_counted(
    session: Session,
) -> None:
    session.put(mail(0))
    assert [o.index for o in advance(session, 0)] == [0]
    session.model.backend.on = True
    session.put(mail(1))
    assert advance(session, PERIOD_NS) == []
    assert session.statistics.not_finite == 1 and 'not finite' in session.statistics.note
    session.model.backend.on = False
    session.put(mail(2))
    (outcome,) = advance(session, 2 * PERIOD_NS)
    assert outcome.index == 0 and session.memory.frames == 1
    assert session.statistics.last_reset == ResetReason.NOT_FINITE


def loaded(session: Session, frames: int = 1000) -> Restart:
    """A wish to go on from a saved memory, told from an empty one by its count."""
    return Restart(ResetReason.LOADED, replace(session.model.reset(), frames=frames))


def test_a_load_holds_where_the_clock_jumps_before_the_next_frame(session: Session) -> None:
    session.put(mail(100))
    assert advance(session, 100 * PERIOD_NS)
    session.put(replace(mail(0), restart=loaded(session)))
    (outcome,) = advance(session, 101 * PERIOD_NS)
    assert outcome.index == 0 and session.memory.frames == 1001
    assert session.statistics.last_reset == ResetReason.LOADED


def test_a_load_holds_where_a_waiting_frame_begins_afresh(session: Session) -> None:
    session.put(mail(0))
    assert advance(session, 0)
    session.put(mail(100, with_command=False))
    assert advance(session, 100 * PERIOD_NS) == [], 'it waits for its command'
    session.put(Mail(restart=loaded(session)))
    assert session.next_memory.frames == 1000, 'what SaveMemory would write now'
    assert len(advance(session, 100 * PERIOD_NS)) == 1
    assert session.statistics.last_reset == ResetReason.GAP and session.memory.frames == 1
    session.put(mail(101))
    assert advance(session, 101 * PERIOD_NS) and session.memory.frames == 1001


def test_the_newer_of_two_loads_holds_also_with_a_frame_between(session: Session) -> None:
    session.put(replace(mail(0), restart=loaded(session, 10)))
    session.put(Mail(restart=loaded(session, 500)))
    advance(session, 0)
    session.put(mail(1))
    advance(session, PERIOD_NS)
    assert session.memory.frames == 501


def test_a_load_holds_where_output_before_it_is_not_finite(session: Session) -> None:
    session.put(mail(0))
    assert advance(session, 0)
    session.put(mail(1, with_command=False))
    session.put(Mail(restart=loaded(session)))
    session.model.backend.on = True
    assert advance(session, PERIOD_NS) == [] and session.statistics.not_finite == 1
    session.model.backend.on = False
    session.put(mail(2))
    assert advance(session, 2 * PERIOD_NS) and session.memory.frames == 1001
    assert session.statistics.last_reset == ResetReason.LOADED


def test_a_loaded_memory_that_has_begun_is_reset_like_any_other(session: Session) -> None:
    session.put(replace(mail(0), restart=loaded(session)))
    assert advance(session, 0) and session.memory.frames == 1001
    session.model.backend.on = True
    session.put(mail(1))
    assert advance(session, PERIOD_NS) == []
    session.model.backend.on = False
    session.put(mail(2))
    assert advance(session, 2 * PERIOD_NS) and session.memory.frames == 1
    assert session.statistics.last_reset == ResetReason.NOT_FINITE
    session.put(replace(mail(3), restart=loaded(session)))
    assert advance(session, 3 * PERIOD_NS) and session.memory.frames == 1001
    session.put(replace(mail(4), restart=Restart(ResetReason.SERVICE)))
    assert advance(session, 4 * PERIOD_NS) and session.memory.frames == 1


def test_a_frame_waits_for_its_command_and_no_longer(session: Session) -> None:
    session.put(mail(0))
    assert len(advance(session, 0)) == 1, 'the command is there: no wait'
    session.put(mail(1, with_command=False))
    assert advance(session, PERIOD_NS) == []
    assert session.wait_s(PERIOD_NS, 1.0) == pytest.approx(0.005)
    assert advance(session, PERIOD_NS + 4 * MS) == []
    (outcome,) = advance(session, PERIOD_NS + 5 * MS)
    assert outcome.received_monotonic_ns == PERIOD_NS and outcome.index == 1
    assert session.wait_s(PERIOD_NS, 1.0) == 1.0, 'nothing is waiting'


def test_a_bag_seeked_back_is_timed_by_its_second_reception(session: Session) -> None:
    back = round(CONTRACT.reset.gap_s * 1e9) // PERIOD_NS + 5
    for index in range(back):
        session.put(mail(index))
        assert len(advance(session, index * PERIOD_NS)) == 1
    late_ms = back * PERIOD_NS // MS
    for index in range(back - 1):
        session.put(mail(index, late_ms=late_ms))
        again_ns = index * PERIOD_NS + late_ms * MS
        (outcome,) = advance(session, again_ns)
        assert outcome.received_monotonic_ns == again_ns, 'the stamps are those of the first time'
    assert session.statistics.last_reset == ResetReason.CLOCK_JUMP


def test_however_many_frames_wait_each_keeps_its_reception(session: Session) -> None:
    contract, fast_ns = replace(CONTRACT, rate_hz=100.0, action_wait_ms=1000.0), 10 * MS
    patient = Session(session.model, contract, horizon=1, seed=0, statistics=session.statistics,
                      on_rejection=session.refused.append)  # fmt: skip
    patient.put(mail(0))
    assert len(advance(patient, 0)) == 1
    frames = 90
    for index in range(1, frames):
        patient.put(mail(index, with_command=False, late_ms=1, period_ns=fast_ns))
        assert advance(patient, index * fast_ns + MS) == []
    patient.put(Mail(queued=mail(frames, period_ns=fast_ns).queued))
    outcomes = advance(patient, frames * fast_ns)
    received = [outcome.received_monotonic_ns for outcome in outcomes]
    assert received == [index * fast_ns + MS for index in range(1, frames)]


def test_frames_before_the_first_command_are_refused(session: Session) -> None:
    session.put(mail(0, with_command=False))
    assert advance(session, 10 * MS) == []
    assert [r.reason for r in session.refused] == ['no_action']


def test_the_slot_keeps_the_newest_frame_and_every_command() -> None:
    inbox = Inbox()
    for index in range(3):
        letter = mail(index)
        inbox.put(letter.queued[0])
        inbox.put(letter.frame, letter.monotonic_ns)
    taken = inbox.take(0.0)
    assert taken.frame.frame.stamp_ns == START_NS + 2 * PERIOD_NS
    assert taken.monotonic_ns == 2 * PERIOD_NS
    assert len(taken.queued) == 3 and inbox.dropped_frames == 2
    assert taken.dropped_ns == (START_NS, START_NS + PERIOD_NS)
    assert inbox.take(0.0) == Mail()


def test_frames_that_we_dropped_are_no_gap_of_the_camera(session: Session) -> None:
    gap = round(CONTRACT.reset.gap_s * 1e9) // PERIOD_NS + 5
    session.put(mail(0))
    assert len(advance(session, 0)) == 1
    late = mail(gap)
    session.put(replace(late, dropped_ns=tuple(START_NS + i * PERIOD_NS for i in range(1, gap))))
    assert advance(session, gap * PERIOD_NS)
    assert session.statistics.last_reset == ResetReason.START, 'overload must not cost the memory'
    session.put(mail(3 * gap))
    assert advance(session, 3 * gap * PERIOD_NS)
    assert session.statistics.last_reset == ResetReason.GAP, 'a silent camera is a gap'


def test_a_frame_runs_each_graph_once(session: Session) -> None:
    session.put(mail(0))
    assert len(advance(session, 0)) == 1
    assert session.model.backend.ran == {'encode': 1, 'write': 1, 'predict': 1, 'decode': 1}


def test_drift_is_counted_once_per_pair_of_frames(session: Session) -> None:
    for index in range(4):
        session.put(mail(index))
        assert len(advance(session, index * PERIOD_NS)) == 1
    assert session.statistics.drift_db.count == session.statistics.copy_last_db.count == 3


def test_an_odd_camera_rate_and_another_renderer_are_warned_of(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded_model = Loaded(session.model, CONTRACT, None)

    def judged(renderer: str = '') -> str:
        around = Surroundings({}, renderer)
        return judge(loaded_model, session, Ages(0.0, 0.0), around, 1.0)[1]

    for index in range(10):
        session.put(mail(index))
        assert len(advance(session, index * PERIOD_NS)) == 1
    session.statistics.add_latency(1.0)
    assert judged() == judged('egl') == 'predicting', 'the package names no renderer'
    manifest = replace(session.model.package.manifest, renderer='egl')
    monkeypatch.setattr(
        session.model, 'package', replace(session.model.package, manifest=manifest)
    )
    assert judged() == judged('egl') == 'predicting'
    assert 'drawn by ray, package toy was trained on frames drawn by egl' in judged('ray')
    for index in range(10, 60, 2):
        session.put(mail(index))
        advance(session, index * PERIOD_NS)
    assert judged() == 'the camera sends 12.5 frames/s, the model expects 25'


def test_objects_alive_do_not_grow_with_the_frames(session: Session) -> None:
    def run(first: int, frames: int) -> int:
        for index in range(first, first + frames):
            session.put(mail(index))
            assert len(advance(session, index * PERIOD_NS)) == 1
        return sys.getallocatedblocks()

    gc.collect()
    gc.disable()  # a collection empties the free lists, which are what grew
    try:
        before = run(0, 200)
        assert run(200, 400) - before < 200, 'blocks over 400 frames'
    finally:
        gc.enable()
