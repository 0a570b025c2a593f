"""How many steps a replay expects of a bag, from the two ends of its camera's topic."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from replay_bags import CAMERA, COMMAND, PERIOD_NS, START_NS, command, contract, square, write_bag

from wm_ros.bag import BagError, BagRecorder, iter_steps
from wm_ros.bag.extent import Extent, topic_extent
from wm_ros.bag.stream import action_bytes, image_bytes
from wm_ros.evaluation.replay_free import choose_anchors
from wm_ros.evaluation.replay_length import expected_steps
from wm_ros.sources import ACTION, IMAGE


def bag_of(path: Path, stamps_ns: list[int], commands_ns: list[int]) -> Path:
    """A bag with frames and commands at given times."""
    with BagRecorder(path) as recorder:
        for stamp_ns, topic in sorted(
            [(ns, CAMERA) for ns in stamps_ns] + [(ns, COMMAND) for ns in commands_ns]
        ):
            if topic == CAMERA:
                recorder.write(topic, IMAGE, image_bytes(square(0), stamp_ns), stamp_ns)
            else:
                recorder.write(topic, ACTION, action_bytes(command(0), stamp_ns), stamp_ns)
    return path


def test_lost_frames_are_steps_too(tmp_path: Path) -> None:
    lost = tuple(number for number in range(1, 199) if number % 10 in (0, 3, 6))
    bag = write_bag(tmp_path / 'bag', 200, missing=lost)
    assert expected_steps(bag, contract()) == len(list(iter_steps(bag, contract()))) == 200
    assert expected_steps(bag, contract(), 90) == 90
    assert choose_anchors(200, 25.0)[-1] == 200 - 128


def test_a_faster_camera_gives_no_more_steps(tmp_path: Path) -> None:
    half_ns = PERIOD_NS // 2
    stamps_ns = [START_NS + number * half_ns for number in range(120)]
    bag = bag_of(tmp_path / 'bag', stamps_ns, stamps_ns[::2])
    steps = len(list(iter_steps(bag, contract())))
    assert abs(expected_steps(bag, contract()) - steps) <= 1 and 59 <= steps <= 61


def test_a_pause_is_not_filled(tmp_path: Path) -> None:
    """Two episodes with an hour between them: no more than two steps for a message."""
    stamps_ns = [START_NS + number * PERIOD_NS for number in range(30)]
    stamps_ns += [ns + 3_600_000_000_000 for ns in stamps_ns]
    bag = bag_of(tmp_path / 'bag', stamps_ns, stamps_ns)
    assert len(list(iter_steps(bag, contract()))) == 60
    assert expected_steps(bag, contract()) == 120


def test_only_the_camera_counts(tmp_path: Path) -> None:
    """Commands go on for a minute after the camera: its end is found, and only looked for."""
    stamps_ns = [START_NS + number * PERIOD_NS for number in range(50, 100)]
    commands_ns = [START_NS + number * PERIOD_NS for number in range(1600)]
    bag = bag_of(tmp_path / 'bag', stamps_ns, commands_ns)
    assert topic_extent(bag, CAMERA) == Extent(50, stamps_ns[0], stamps_ns[-1])
    assert topic_extent(bag, '/none') is None
    assert expected_steps(bag, contract()) == 50
    (file,) = bag.glob('*.mcap')
    assert topic_extent(file, CAMERA) == topic_extent(bag, CAMERA), 'a bare file'


def test_the_middle_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wm_ros.bag import extent

    read = []
    iter_raw = extent.iter_raw

    def reading(*given: object) -> object:
        for item in iter_raw(*given):
            read.append(item)
            yield item

    monkeypatch.setattr(extent, 'iter_raw', reading)
    found = topic_extent(write_bag(tmp_path / 'bag', 500), CAMERA)
    assert found is not None and found.seconds == pytest.approx(499 * 0.04)
    assert len(read) <= 1 + 51, 'the first, and two seconds'


def test_a_bag_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BagError, match='no bag at'):
        expected_steps(tmp_path / 'none', contract())


def test_a_damaged_end_is_that_of_the_bag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run will name the damage; here what can be read, or the bag's own times, will do."""
    from wm_ros.bag import extent

    bag = write_bag(tmp_path / 'bag', 100)
    iter_raw, whole = extent.iter_raw, topic_extent(bag, CAMERA)
    for readable, last_ns in ((0, START_NS + 99 * PERIOD_NS), (10, START_NS + 59 * PERIOD_NS)):

        def broken(*given: Any, readable: int = readable) -> Iterator[Any]:
            yield from islice(iter_raw(*given), readable)
            raise BagError('damaged')

        monkeypatch.setattr(extent, 'iter_raw', broken)
        found = topic_extent(bag, CAMERA)
        assert whole is not None and found is not None
        assert (found.messages, found.first_ns) == (100, START_NS)
        assert abs(found.last_ns - last_ns) <= PERIOD_NS
