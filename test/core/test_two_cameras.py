"""A bag of two cameras: steps show both, a late or missing view is held, counted or bridged."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from wm_ros.bag import BagError, BagRecorder, iter_steps
from wm_ros.bag.stream import StreamRecorder, action_bytes, image_bytes
from wm_ros.cli import main
from wm_ros.contract import StreamContract, find_contract
from wm_ros.datatypes import Step
from wm_ros.rejection import Rejection, RejectReason
from wm_ros.sources import ACTION, IMAGE
from wm_ros.tiles import untile

T0, PERIOD_NS, MS = 5_000_000_000, 40_000_000, 1_000_000
CAMERAS = ('/head/image_raw', '/wrist/image_raw')
LATE, GONE, CUT = 6, range(10, 16), 20


def two_eyed() -> StreamContract:
    """The table-top's robot with a second camera, cropped to its right half."""
    values = StreamContract.load(find_contract('tabletop')).to_dict()
    crop = {'left': 40, 'top': 0, 'width': 40, 'height': 20}
    values |= {'name': 'two_eyed', 'image_size': 32, 'reset': {'gap_s': 0.1}}
    values['cameras'] = [
        {'topic': CAMERAS[0], 'type': IMAGE},
        {'topic': CAMERAS[1], 'type': IMAGE, 'crop': crop},
    ]
    return StreamContract.from_dict(values)


@pytest.fixture
def contract() -> StreamContract:
    return two_eyed()


def pictures(index: int) -> tuple[np.ndarray, np.ndarray]:
    """What each camera sends: one shade, and a second that only its right half shows."""
    head_HWC = np.full((48, 64, 3), 1 + index, np.uint8)
    wrist_HWC = np.full((20, 80, 3), 255, np.uint8)
    wrist_HWC[:, 40:] = 101 + index
    return head_HWC, wrist_HWC


def record(path: Path, frames: int = 30, spoilt: bool = False) -> Path:
    """Two cameras and their commands; the wrist's pictures are 2 ms early and come 9 ms later."""
    sent = []
    for i in range(frames):
        at = T0 + i * PERIOD_NS
        head_HWC, wrist_HWC = pictures(i)
        data = image_bytes(wrist_HWC, at - 2 * MS, 'wrist')
        late_ns = 9 * MS
        if spoilt and i == LATE:
            late_ns = 60 * MS  # after its successor
        if spoilt and i == CUT:
            data = data.replace(b'rgb8', b'xyz8')
        sent.append((at, 0, CAMERAS[0], IMAGE, image_bytes(head_HWC, at, 'head')))
        sent.append((at, 1, '/command', ACTION, action_bytes(np.full(11, 0.1), at)))
        if not spoilt or i not in GONE:
            sent.append((at + late_ns - 2 * MS, 2, CAMERAS[1], IMAGE, data))
    with BagRecorder(path) as recorder:
        for at, _, topic, kind, data in sorted(sent, key=lambda message: message[:2]):
            recorder.write(topic, kind, data, at)
    return path


def shades(step: Step) -> tuple[int, int]:
    """What the two views of a step show."""
    head_HWC, wrist_HWC = untile(step.frame.image_HWC, 2)
    assert head_HWC.shape == wrist_HWC.shape == (16, 32, 3)
    assert (head_HWC == head_HWC[0, 0]).all() and (wrist_HWC == wrist_HWC[0, 0]).all()
    return int(head_HWC[0, 0, 0]), int(wrist_HWC[0, 0, 0])


def test_every_step_shows_both_views(tmp_path: Path, contract: StreamContract) -> None:
    counts: Counter[str] = Counter()
    steps = list(iter_steps(record(tmp_path / 'bag'), contract, counts=counts))
    assert [shades(step) for step in steps] == [(1 + i, 101 + i) for i in range(30)]
    assert [step.stamp_ns for step in steps] == [T0 + i * PERIOD_NS for i in range(30)]
    assert {step.frame.frame_id for step in steps} == {'head'}
    assert {name for name, count in counts.items() if count} == {'reset.start'}


def test_late_and_missing_views_are_held_counted_and_bridged(
    tmp_path: Path, contract: StreamContract
) -> None:
    """A view may be held for 0.1 s here: two frames; the third without one has no frame."""
    counts: Counter[str] = Counter()
    refused: list[Rejection] = []
    bag = record(tmp_path / 'bag', spoilt=True)
    steps = list(iter_steps(bag, contract, counts=counts, on_rejection=refused.append))
    assert [step.index for step in steps] == list(range(30))
    assert [step.frame is None for step in steps] == [i in (12, 13, 14, 15) for i in range(30)]
    held = {LATE: 106, 10: 110, 11: 110, CUT: 120}
    for i, step in enumerate(steps):
        if step.frame is not None:
            assert shades(step) == (1 + i, held.get(i, 101 + i)), i
    found = {name: count for name, count in counts.items() if count}
    assert found == {
        'reset.start': 1,
        f'view.held {CAMERAS[1]}': 4,
        f'view.lost {CAMERAS[1]}': 4,
        'frame.missing': 4,
        'view.backward_stamp': 1,
        'view.encoding': 1,
    }
    assert [(item.kind, item.reason) for item in refused] == [
        ('view', RejectReason.BACKWARD_STAMP),
        ('view', RejectReason.ENCODING),
    ]
    assert all(item.detail.startswith(CAMERAS[1]) for item in refused)


def test_a_bag_without_the_second_camera_is_refused_by_name(
    tmp_path: Path, contract: StreamContract
) -> None:
    with BagRecorder(tmp_path / 'one') as recorder:
        recorder.write(CAMERAS[0], IMAGE, image_bytes(pictures(0)[0], T0), T0)
        recorder.write('/command', ACTION, action_bytes(np.zeros(11), T0), T0)
    with pytest.raises(BagError, match='has no topic /wrist/image_raw; it holds /command'):
        list(iter_steps(tmp_path / 'one', contract))
    with BagRecorder(tmp_path / 'two') as recorder, pytest.raises(BagError, match='Image.*Image'):
        StreamRecorder(recorder, contract)


def test_a_wrist_that_never_sees_in_time_says_so(tmp_path: Path, contract: StreamContract) -> None:
    """Its pictures are stamped by another clock: nothing begins, and the error says why."""
    with BagRecorder(tmp_path / 'bag') as recorder:
        for i in range(10):
            at, (head_HWC, wrist_HWC) = T0 + i * PERIOD_NS, pictures(i)
            recorder.write('/command', ACTION, action_bytes(np.zeros(11), at), at)
            recorder.write(CAMERAS[1], IMAGE, image_bytes(wrist_HWC, at - T0 + 1), at)
            recorder.write(CAMERAS[0], IMAGE, image_bytes(head_HWC, at), at)
    with pytest.raises(BagError, match=r'frame\.no_view 10.*no view yet from /wrist/image_raw'):
        list(iter_steps(tmp_path / 'bag', contract))


def test_the_command_line_shows_the_cameras(
    tmp_path: Path, contract: StreamContract, capsys: pytest.CaptureFixture[str]
) -> None:

    path = tmp_path / 'two_eyed.yaml'
    path.write_text(yaml.safe_dump(contract.to_dict()))
    assert main(['contract', 'check', str(path)]) == 0
    shown = capsys.readouterr().out
    assert '2 cameras, 32 x 16 px of the image each' in shown
    assert 'head  /head/image_raw' in shown and 'wrist  /wrist/image_raw' in shown
    bag = record(tmp_path / 'bag', spoilt=True)
    assert main(['bag', 'steps', str(bag), '--contract', str(path)]) == 0
    assert 'view.held /wrist/image_raw 4' in capsys.readouterr().out
