"""Kept states: owners, ages, budget, expiry; nothing grows, no id comes back."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from planning_world import A, ask, content, drain, live, toy_model

from wm_ros.datatypes import MemoryState
from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.planning.evaluator import Evaluator
from wm_ros.planning.query import Limits, Start
from wm_ros.planning.states import REMEMBERED, StateStore
from wm_ros.world_model import WorldModel


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> WorldModel:
    return toy_model(tmp_path_factory.mktemp('package') / 'toy')


@pytest.fixture(scope='module')
def start(model: WorldModel) -> Start:
    return live(model)


def tiny(value: float = 0.0) -> Start:
    return Start(MemoryState({'latents': np.full((1, 25), value, np.float32)}), None)


def code_of(store: StateStore, id: int, now_s: float) -> QueryCode:
    with pytest.raises(QueryError) as caught:
        store.get(id, now_s)
    assert str(id) in caught.value.message
    return caught.value.code


def test_a_kept_state_is_what_was_kept(start: Start) -> None:
    store = StateStore(1 << 20, keep_s=60)
    handle = store.keep(start, 'arm', 10.0)
    kept = store.get(handle.id, 11.0)
    assert content(kept.memory) == content(start.memory)
    np.testing.assert_array_equal(kept.latched_A, start.latched_A)
    assert (kept.handle, handle.id, handle.owner) == (1, 1, 'arm')
    assert (handle.frames, handle.stamp_ns) == (5, start.memory.stamp_ns)
    assert (handle.imagined, handle.latched) == (0, True)
    assert (handle.created_s, handle.expires_s, handle.age_s(13.0)) == (10.0, 70.0, 3.0)
    assert handle.nbytes == start.memory.nbytes + 4 * A == store.nbytes
    assert len(store) == 1


def test_a_state_expires_and_is_remembered_as_expired() -> None:
    store = StateStore(1000, keep_s=60)
    short, usual = (store.keep(tiny(), 'x', 0.0, keep_s).id for keep_s in (5.0, 0.0))
    assert store.get(short, 4.9)
    assert code_of(store, short, 5.0) is QueryCode.EXPIRED_STATE
    assert store.get(usual, 59.9)
    assert store.extend(usual, 59.9, 10.0).expires_s == pytest.approx(69.9)
    assert store.get(usual, 69.0)
    assert store.expire(70.0) == (usual,)
    assert code_of(store, usual, 70.0) is QueryCode.EXPIRED_STATE
    assert code_of(store, 99, 70.0) is QueryCode.UNKNOWN_STATE
    with pytest.raises(QueryError):
        store.extend(usual, 70.0)
    assert (len(store), store.nbytes) == (0, 0)


def test_of_states_that_expired_long_ago_nothing_is_kept() -> None:
    store = StateStore(1000, keep_s=1)
    for second in range(REMEMBERED + 5):
        store.keep(tiny(), 'x', 2.0 * second)
    assert code_of(store, 1, 1e6) is QueryCode.UNKNOWN_STATE
    assert code_of(store, REMEMBERED, 1e6) is QueryCode.EXPIRED_STATE


def test_the_budget_holds_and_says_what_is_used() -> None:
    store = StateStore(250)
    first = store.keep(tiny(), 'x', 0.0)
    store.keep(tiny(), 'x', 0.0)
    with pytest.raises(QueryError) as caught:
        store.keep(tiny(), 'x', 0.0)
    assert caught.value.code is QueryCode.STATE_BUDGET
    assert '2 states hold 200 of 250 bytes, this one needs 100' in caught.value.message
    store.drop(first.id, 0.0)
    store.keep(tiny(), 'x', 0.0)
    assert store.nbytes == 200
    assert len(store.list(60.0)) == 0  # what has expired makes room
    store.keep(tiny(), 'x', 60.0)


def test_a_fork_is_charged_in_full_and_lives_on_its_own() -> None:
    store = StateStore(250)
    parent = store.keep(tiny(3.0), 'x', 0.0, 5.0)
    child = store.fork(parent.id, 'y', 1.0, 50.0)
    assert (store.nbytes, child.owner, child.expires_s) == (200, 'y', 51.0)
    assert child.id > parent.id
    store.drop(parent.id, 2.0)
    assert code_of(store, parent.id, 2.0) is QueryCode.UNKNOWN_STATE
    assert float(store.get(child.id, 2.0).memory.arrays['latents'][0, 0]) == 3.0
    with pytest.raises(QueryError):
        store.fork(parent.id, 'y', 3.0)


def test_owners_are_listed_and_dropped_apart() -> None:
    store = StateStore(1000)
    ids = [store.keep(tiny(), owner, 0.0).id for owner in ('x', 'y', 'x')]
    assert [handle.id for handle in store.list(1.0)] == ids
    assert [handle.id for handle in store.list(1.0, 'x')] == [ids[0], ids[2]]
    assert store.handle(ids[1], 1.0).owner == 'y'
    assert (store.drop_owner('x'), store.drop_owner('x'), len(store)) == (2, 0, 1)
    assert (store.clear(), len(store), store.nbytes) == (1, 0, 0)


@pytest.mark.parametrize('keep_s', [-1.0, float('nan'), float('inf'), 1e9])
def test_a_time_that_is_none_is_refused(keep_s: float) -> None:
    store = StateStore(1000)
    handle = store.keep(tiny(), 'x', 0.0)
    for work in (
        lambda: store.keep(tiny(), 'x', 0.0, keep_s),
        lambda: store.extend(handle.id, 0.0, keep_s),
        lambda: store.keep(tiny(), 'x' * 257, 0.0),
    ):
        with pytest.raises(QueryError) as caught:
            work()
        assert caught.value.code is QueryCode.INVALID_REQUEST
    assert len(store) == 1


def test_a_view_of_a_large_array_is_kept_as_a_copy_of_its_own() -> None:
    large = np.zeros((1000, 25), np.float32)
    store = StateStore(1000)
    kept = store.get(store.keep(Start(MemoryState({'latents': large[3:4]}), None), 'x', 0).id, 0)
    large[:] = 1
    array = kept.memory.arrays['latents']
    assert array.base is None and not array.flags.writeable and (array == 0).all()


def test_a_query_begins_from_a_kept_state(model: WorldModel, start: Start) -> None:
    store = StateStore(1 << 20)
    kept = store.get(store.keep(start, 'arm', 0.0).id, 1.0)
    evaluator = Evaluator(model, Limits(8, 8))
    costs = [drain(evaluator.start(ask(where, seed=9))).costs_K for where in (start, kept)]
    assert costs[0].tobytes() == costs[1].tobytes()


def test_abuse_from_several_threads_stays_within_the_budget() -> None:
    store = StateStore(1000)
    seen_ids: list[int] = []
    most = 0

    def abuse(owner: str) -> None:
        nonlocal most
        for turn in range(2500):
            try:
                handle = store.keep(tiny(), owner, 0.001 * turn, 0.01)
                seen_ids.append(handle.id)
                if turn % 3 == 0:
                    store.drop(handle.id, 0.001 * turn)
                if turn % 7 == 0:
                    store.fork(handle.id, owner, 0.001 * turn)
            except QueryError as error:
                assert error.code in (
                    QueryCode.STATE_BUDGET,
                    QueryCode.UNKNOWN_STATE,
                    QueryCode.EXPIRED_STATE,
                )
            most = max(most, store.nbytes)

    threads = [threading.Thread(target=abuse, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen_ids) > 100
    assert len(set(seen_ids)) == len(seen_ids)
    assert most <= 1000
    store.expire(1e9)
    assert (len(store), store.nbytes) == (0, 0)
