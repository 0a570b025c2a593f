"""Chance in faults: drawn for a message by its number in the good bag, whatever came before."""

from __future__ import annotations

from itertools import pairwise

import pytest
from test_degrade import ACTION, CAMERA, COMMAND, FRAME, numbers, raw

from wm_ros.bag.degrade import Ledger, degrade
from wm_ros.bag.faults import Burst, Drop, Duplicate, Fault, JitterStamps, Silence, WrongStamps
from wm_ros.bag.lateness import JitterArrival, Reorder
from wm_ros.bag.raw import RawMessage
from wm_ros.bag.stamps import read_stamp_ns

COUNT = 400
GOOD = [raw(topic, i) for i in range(COUNT) for topic in (COMMAND, CAMERA)]
FAULTS = (
    Drop(ACTION, 0.2),
    Burst(0.05, 3),
    Silence(2.0, 3.0),
    Duplicate(0.3),
    WrongStamps(0.3),
    JitterStamps(2.0),
    Reorder(0.2),
    JitterArrival(20.0),
)


def done(*faults: Fault) -> tuple[list[RawMessage], Ledger]:
    """Return what is left of the good bag, and what was done."""
    ledger = Ledger(faults, 5)
    return list(degrade(GOOD, {CAMERA: FRAME, COMMAND: ACTION}, ledger)), ledger


@pytest.mark.parametrize('fault', FAULTS, ids=lambda fault: fault.name)
@pytest.mark.parametrize('before', [(), (Duplicate(0.3),)], ids=['drop', 'drop and double'])
def test_dropped_frames_change_nothing_for_the_others(
    fault: Fault, before: tuple[Fault, ...]
) -> None:
    drop = Drop(FRAME, 0.3)
    before = () if isinstance(fault, Duplicate) else before  # of one name each has its own chance
    _, alone = done(fault)
    _, both = done(drop, *before, fault)
    lost = {CAMERA: set(numbers(both, 'dropped', CAMERA)), COMMAND: set()}
    assert len(lost[CAMERA]) > 80 and alone.done[0]
    for what, topics in alone.done[0].items():
        for topic in topics:
            expected = set(numbers(alone, what, topic)) - lost[topic]
            found = set(numbers(both, what, topic, fault=len(before) + 1))
            assert found == expected, (what, topic)


def test_a_fault_does_the_same_to_a_message_and_to_its_double() -> None:
    def stamps(*faults: Fault) -> dict[int, set[int]]:
        """Number of a frame, by its stamp in the good bag -> stamps that it is left with."""
        found: dict[int, set[int]] = {}
        given, ledger = done(*faults, JitterStamps(2.0))
        for each in given:
            found.setdefault(each.log_ns, set()).add(read_stamp_ns(each.data))
        assert ledger.complete
        return found

    alone, doubled = stamps(), stamps(Duplicate(0.5))
    assert alone == doubled and all(len(values) == 2 for values in alone.values())


def test_doubles_alone_do_not_depend_on_the_share() -> None:
    few, many = (done(Duplicate(share))[1] for share in (0.1, 0.3))
    assert set(numbers(few, 'doubled', CAMERA)) < set(numbers(many, 'doubled', CAMERA))
    assert numbers(few, 'doubled', CAMERA) != numbers(few, 'doubled', COMMAND)


def test_late_ones_whose_next_was_lost_come_behind_the_next_on_time() -> None:
    given, ledger = done(Drop(FRAME, 0.5), Reorder(0.5))
    late = set(numbers(ledger, 'overtaken', CAMERA, fault=1))
    assert late and not late & {i + 1 for i in late}, 'of the good bag, the next one is on time'
    order = [read_stamp_ns(each.data) for each in given if each.topic == CAMERA]
    back = [(a, b) for a, b in pairwise(order) if b < a]
    assert len(set(order)) == len(order) == COUNT - len(numbers(ledger, 'dropped', CAMERA))
    assert 0 < len(back) <= len(late)
    logged = [each.log_ns for each in given]
    assert logged == sorted(logged)
