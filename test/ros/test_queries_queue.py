"""The queue of planner queries without ROS and without a clock: turns, deadlines, answers."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from wm_ros.backends.resolve import resolve_backend
from wm_ros.contract import StreamContract
from wm_ros.datatypes import Frame, MemoryState, ResetReason
from wm_ros.feed import ArrivedCommands, ArrivedFrame, Restart
from wm_ros.memory import NonFiniteError
from wm_ros.messages import Command
from wm_ros.nodes import query_jobs, query_queue
from wm_ros.nodes.inbox import Inbox, Mail
from wm_ros.nodes.query_jobs import DreamJob, Dreamt, Evaluated, EvaluationJob
from wm_ros.nodes.query_queue import QueryQueue, Ticket
from wm_ros.nodes.query_states import StateServices
from wm_ros.nodes.services import current, start_of_now
from wm_ros.nodes.session import Outcome, Session
from wm_ros.nodes.statistics import Statistics
from wm_ros.nodes.worker import Worker
from wm_ros.planning.effort import KINDS
from wm_ros.planning.evaluator import Evaluator
from wm_ros.planning.objectives import Smoothness
from wm_ros.planning.query import FramesWanted, Limits, Query, QueryCode, QueryError, Start
from wm_ros.planning.states import StateStore
from wm_ros.toy_package import write_toy_package
from wm_ros.world_model import WorldModel

CONTRACT = StreamContract.load(Path(__file__).parents[2] / 'contracts' / 'tabletop.yaml')
A = CONTRACT.action_width
MS = 1_000_000


class Clock:
    """Stands still but for what it is told."""

    def __init__(self) -> None:
        self.now_ms = 1000.0

    def __call__(self) -> int:
        return round(self.now_ms * MS)


class Task:
    """A job of so many units of 2 ms."""

    def __init__(self, clock: Clock, units: int, name: str = '', **ticket: Any) -> None:
        self.answers: list[Any] = []
        self.ticket = Ticket(self.answers.append, **ticket)
        self.clock, self.units, self.name = clock, units, name
        self.log: list[str] = []
        self.ended = 0
        self.raises: Exception | None = None

    def needed_ms(self, busy_share: float) -> float:
        return 2 * self.units / (1 - busy_share)

    def begin(self) -> None:
        self.log.append(f'begin {self.name}')

    def unit(self, busy_share: float) -> bool:
        if self.raises is not None:
            raise self.raises
        self.log.append(self.name)
        self.clock.now_ms += 2
        self.units -= 1
        if not self.units:
            self.ticket.answer('done')
        return self.units > 0

    def end(self) -> None:
        self.ended += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (query_queue, query_jobs):
        monkeypatch.setattr(module, 'time', SimpleNamespace(monotonic_ns=clock))
    return clock


@pytest.fixture
def queue(errors: list[str]) -> QueryQueue:
    return QueryQueue(3, lambda now_ns: 0.0, lambda: None, errors.append)


@pytest.fixture
def errors() -> list[str]:
    return []


def deadline(clock: Clock, ms: float) -> int:
    return clock() + round(ms * MS)


def run(queue: QueryQueue, units: int = 1000) -> None:
    while queue.busy and units:
        queue.unit()
        units -= 1


def code(task: Task) -> QueryCode:
    (answer,) = task.answers
    assert isinstance(answer, QueryError)
    return answer.code


def test_evaluations_in_their_order_and_dreams_by_turns(queue: QueryQueue, clock: Clock) -> None:
    log: list[str] = []
    for name, units, dream in (('a', 2, False), ('b', 1, False), ('D', 4, True)):
        task = Task(clock, units, name)
        task.log = log
        queue.put(task, dream=dream)
    run(queue)
    turns = [name for name in log if not name.startswith('begin')]
    assert sorted(turns) == list('DDDDaab') and turns.index('b') > turns.index('a')
    assert all(first != second for first, second in pairwise(turns))


def test_no_more_may_wait_than_is_allowed(queue: QueryQueue, clock: Clock) -> None:
    tasks = [Task(clock, 4) for _ in range(5)]
    queue.put(tasks[0])
    queue.unit()  # it has begun, so it waits no longer
    for task in tasks[1:4]:
        queue.put(task)
    with pytest.raises(QueryError) as refused:
        queue.put(tasks[4])
    assert refused.value.code is QueryCode.BUSY and refused.value.needed_ms == 2 * (3 + 4 * 4)
    run(queue)
    assert [task.answers for task in tasks] == [['done']] * 4 + [[]]
    assert [task.ended for task in tasks] == [1] * 4 + [0]


def test_what_cannot_make_it_is_refused_at_once(queue: QueryQueue, clock: Clock) -> None:
    queue.put(Task(clock, 10))
    late = Task(clock, 5, deadline_ns=deadline(clock, 29))
    with pytest.raises(QueryError) as refused:
        queue.put(late)
    assert refused.value.code is QueryCode.DEADLINE and refused.value.needed_ms == 30
    assert late.answers == [], 'whoever puts it hears it'
    queue.put(Task(clock, 5, deadline_ns=deadline(clock, 31)))
    queue.put(welcome := Task(clock, 5, deadline_ns=deadline(clock, 29), allow_partial=True))
    run(queue)
    assert len(welcome.answers) == 1


def test_the_stream_and_dreams_are_counted_in(clock: Clock, errors: list[str]) -> None:
    queue = QueryQueue(9, lambda now_ns: 0.5, lambda: None, errors.append)
    with pytest.raises(QueryError) as refused:
        queue.put(Task(clock, 5, deadline_ns=deadline(clock, 19)))
    assert refused.value.needed_ms == 20
    queue.put(Task(clock, 50), dream=True)
    with pytest.raises(QueryError) as refused:
        queue.put(Task(clock, 5, deadline_ns=deadline(clock, 39)))
    assert refused.value.needed_ms == 40


def test_a_deadline_that_passes_while_waiting_is_answered_then(
    queue: QueryQueue, clock: Clock
) -> None:
    queue.put(Task(clock, 50))
    waiting = Task(clock, 5, deadline_ns=deadline(clock, 10), allow_partial=True)
    queue.put(waiting)
    run(queue, 5)
    assert waiting.answers == []
    queue.unit()
    assert code(waiting) is QueryCode.DEADLINE and clock.now_ms == 1012 and waiting.ended == 0


def test_a_cancelled_job_stops_before_its_next_unit(queue: QueryQueue, clock: Clock) -> None:
    begun, waiting = Task(clock, 50), Task(clock, 50)
    queue.put(begun, dream=True)
    queue.put(waiting, dream=True)
    run(queue, 3)
    begun.ticket.cancelled = waiting.ticket.cancelled = True
    queue.unit()
    assert code(begun) is code(waiting) is QueryCode.CANCELLED and not queue.busy
    assert (begun.units, begun.ended, waiting.ended) == (47, 1, 0)


def test_what_a_job_raises_becomes_its_answer(
    queue: QueryQueue, clock: Clock, errors: list[str]
) -> None:
    tasks = [Task(clock, 1) for _ in range(3)]
    tasks[0].raises = QueryError(QueryCode.INVALID_GOAL, 'flat')
    tasks[1].raises = NonFiniteError('latent')
    tasks[2].raises = ZeroDivisionError('oops')
    for task in tasks:
        queue.put(task)
    run(queue)
    assert [code(task) for task in tasks] == [
        QueryCode.INVALID_GOAL,
        QueryCode.MODEL_NOT_FINITE,
        QueryCode.UNKNOWN,
    ]
    assert [task.ended for task in tasks] == [1, 1, 1]
    assert len(errors) == 1 and 'ZeroDivisionError' in errors[0], 'only what is no refusal'


def test_closing_answers_everything_once(queue: QueryQueue, clock: Clock) -> None:
    tasks = [Task(clock, 5) for _ in range(3)]
    for task in tasks:
        queue.put(task)
    queue.unit()
    queue.close()
    assert [code(task) for task in tasks] == [QueryCode.NOT_ACTIVE] * 3 and not queue.busy
    queue.unit()
    tasks[0].ticket.answer('too late')
    queue.end()
    assert [task.ended for task in tasks] == [1, 0, 0]
    assert all(len(task.answers) == 1 for task in tasks)
    with pytest.raises(QueryError) as refused:
        queue.put(Task(clock, 1))
    assert refused.value.code is QueryCode.NOT_ACTIVE


# --- the two kinds of jobs, on the toy model ---


@pytest.fixture
def model(tmp_path: Path) -> WorldModel:
    package = write_toy_package(tmp_path / 'toy', CONTRACT)
    return WorldModel(package, resolve_backend('toy', package))


def evaluation(model: WorldModel, ticket: Ticket, shown: list[Any], **query: Any) -> EvaluationJob:
    """A job of 1 + 10 * 2 sub-batches and 2 units of costs, all believed to take 2 ms."""
    evaluator = Evaluator(model, Limits(16, 16))
    for kind in KINDS:
        evaluator.pace.add(kind, 2.0)
    evaluator.pace.add = lambda kind, time_ms: None
    start = Start(model.reset(), np.zeros(A, np.float32))
    actions_KTA = np.random.default_rng(0).uniform(-1, 1, (16, 10, A)).astype(np.float32)
    question = Query(start, actions_KTA, (Smoothness(),), **query)
    return EvaluationJob(ticket, evaluator, question, lambda: start, lambda f, s: shown.append(f))


def drain(job: EvaluationJob, clock: Clock) -> None:
    """Do all units; each takes 2 ms."""
    job.begin()
    more = True
    while more:
        more = job.unit(0.0)
        clock.now_ms += 2
    job.end()


@pytest.mark.parametrize(('ms', 'horizon'), [(10, 1), (20, 3), (30, 6), (1000, 10)])
def test_an_evaluation_stops_in_time_for_its_costs(
    model: WorldModel, clock: Clock, ms: float, horizon: int
) -> None:
    answers: list[Any] = []
    ticket = Ticket(answers.append, allow_partial=True)
    job = evaluation(model, ticket, [])
    ticket.deadline_ns = deadline(clock, ms)
    drain(job, clock)
    (answer,) = answers
    assert isinstance(answer, Evaluated)
    found = answer.evaluation
    assert (found.horizon, found.partial) == (horizon, horizon < 10)
    assert ticket.left_ms(clock()) >= 0


def test_no_step_by_the_deadline_is_no_answer(model: WorldModel, clock: Clock) -> None:
    ticket = Ticket(lambda answer: None, allow_partial=True)
    job = evaluation(model, ticket, [])
    ticket.deadline_ns = deadline(clock, 2)
    with pytest.raises(QueryError) as refused:
        drain(job, clock)
    assert refused.value.code is QueryCode.DEADLINE and refused.value.needed_ms > 20


def test_without_partial_the_deadline_ends_it(model: WorldModel, clock: Clock) -> None:
    ticket = Ticket(lambda answer: None)
    job = evaluation(model, ticket, [])
    ticket.deadline_ns = deadline(clock, 9)
    with pytest.raises(QueryError) as refused:
        drain(job, clock)
    assert refused.value.code is QueryCode.DEADLINE and refused.value.needed_ms > 10
    assert ticket.left_ms(clock()) > -2


def test_the_answer_does_not_wait_for_frames(model: WorldModel, clock: Clock) -> None:
    answered_after: list[int] = []
    shown: list[Any] = []
    ticket = Ticket(lambda answer: answered_after.append(len(shown)))
    drain(evaluation(model, ticket, shown, frames=FramesWanted.LAST), clock)
    assert answered_after == [0] and len(shown) == 16


def test_a_dream_is_kept_only_at_its_end(model: WorldModel) -> None:
    answers: list[Any] = []
    kept: list[Start] = []
    steps: list[int] = []

    def keep(start: Start) -> int:
        kept.append(start)
        return 17

    job = DreamJob(
        Ticket(answers.append),
        model,
        lambda: Start(model.reset(), np.zeros(A, np.float32)),
        np.zeros((5, A), np.float32),
        0,
        frames=False,
        show=lambda frame, start: None,
        progress=lambda dream, start: steps.append(dream.steps_done),
        keep=keep,
    )
    job.begin()
    while job.unit(0.0):
        assert not kept and not answers
    job.end()
    (answer,) = answers
    assert isinstance(answer, Dreamt) and (answer.handle, answer.steps) == (17, 5)
    assert steps == [0, 1, 2, 3, 4, 5]
    assert kept[0].imagined == 6 and kept[0].latched_A is None


# --- the thread and the session ---


def test_the_frame_goes_first(model: WorldModel, clock: Clock) -> None:
    """A frame that comes during a unit is predicted before the next unit."""
    order: list[str] = []
    inbox = Inbox()
    done = threading.Event()

    class Long(Task):
        def unit(self, busy_share: float) -> bool:
            order.append('unit')
            if self.units == 8:
                inbox.put(ArrivedCommands(0, (Command(np.zeros(A), 10**18),), 10**18))
                frame = Frame(np.zeros((64, 64, 3), np.uint8), 10**18, 'cam')
                inbox.put(ArrivedFrame(frame, 10**18, (64, 64)), 1)
            more = super().unit(busy_share)
            if not more:
                done.set()
            return more

    statistics = Statistics(100, CONTRACT.period_ns)
    session = Session(
        model, CONTRACT, horizon=1, seed=0, statistics=statistics, on_rejection=print
    )

    def publish(outcome: Outcome) -> None:
        order.append('frame')

    queue = QueryQueue(3, statistics.stream_share, inbox.wake, print)
    worker = Worker(session, inbox, queue, publish, print)
    worker.start()
    queue.put(Long(clock, 12))
    assert done.wait(10)
    worker.stop()
    assert order == ['unit'] * 5 + ['frame'] + ['unit'] * 7


def test_now_is_the_newest_step_with_its_command(
    model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox()
    session = Session(
        model,
        CONTRACT,
        horizon=1,
        seed=0,
        statistics=Statistics(100, CONTRACT.period_ns),
        on_rejection=print,
    )

    def nothing() -> bool:
        with pytest.raises(QueryError) as refused:
            start_of_now(session, inbox)
        return refused.value.code is QueryCode.NOTHING_OBSERVED

    assert nothing()
    low_A, high_A = CONTRACT.limits_A2.T
    for index, values_A in enumerate((low_A, high_A)):
        stamp_ns = 10**18 + index * CONTRACT.period_ns
        frame = Frame(np.zeros((64, 64, 3), np.uint8), stamp_ns, 'cam')
        command = ArrivedCommands(0, (Command(values_A, stamp_ns),), stamp_ns)
        arrived = ArrivedFrame(frame, stamp_ns, (64, 64))
        session.put(Mail(arrived, index * CONTRACT.period_ns, (command,)))
        assert len(list(session.advance(index * CONTRACT.period_ns))) == 1
        start = start_of_now(session, inbox)
        assert start.memory is session.memory and start.memory.stamp_ns == stamp_ns
        np.testing.assert_array_equal(start.latched_A, CONTRACT.normalise(values_A))
    inbox.put(Restart(ResetReason.SERVICE))
    assert nothing(), 'asked for, not taken yet'
    assert current(session, inbox).frames == 0
    mail = inbox.take(0.0)
    assert nothing(), 'on its way from one to the other'
    assert current(session, inbox).frames == 0
    session.put(mail)
    assert nothing(), 'taken, not begun yet'
    seen: list[bool] = []
    reset = model.reset

    def meanwhile(*args: int) -> MemoryState:
        if seen:  # not in the questions of this function itself
            return reset(*args)
        seen.append(True)
        seen.append(nothing() and current(session, inbox).frames == 0)
        return reset(*args)

    monkeypatch.setattr(model, 'reset', meanwhile)
    stamp_ns = 10**18 + 2 * CONTRACT.period_ns
    frame = Frame(np.zeros((64, 64, 3), np.uint8), stamp_ns, 'cam')
    command = ArrivedCommands(0, (Command(low_A, stamp_ns),), stamp_ns)
    session.put(Mail(ArrivedFrame(frame, stamp_ns, (64, 64)), 0, (command,)))
    assert len(list(session.advance(2 * CONTRACT.period_ns))) == 1
    assert seen == [True, True], 'just beginning'
    assert start_of_now(session, inbox).memory.frames == 1


@pytest.mark.parametrize('close_first', [True, False])
def test_a_dream_that_ends_while_the_node_is_deactivated_leaves_no_state(
    model: WorldModel, monkeypatch: pytest.MonkeyPatch, close_first: bool
) -> None:
    store = StateStore(2**20)
    states, keep = StateServices(SimpleNamespace(), store), store.keep
    start = Start(model.reset(), None)
    states.open(lambda: start)
    assert states.keep_dream(start, 'me', 0.0) == len(store) == 1, 'else it is kept'

    def meanwhile(*args: Any) -> Any:
        if close_first:
            states.close()
        handle = keep(*args)
        if not close_first:
            states.close()
        return handle

    monkeypatch.setattr(store, 'keep', meanwhile)
    with pytest.raises(QueryError) as refused:
        states.keep_dream(start, 'me', 0.0)
    assert refused.value.code is QueryCode.NOT_ACTIVE
    assert (len(store), store.nbytes) == (0, 0)
