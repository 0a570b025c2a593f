"""What of recordings is not learnt from is said: frames, commands beyond their limits, clips."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from training.bags import BagWorld
from training.reading import read_bag, told
from training.shards import Shards
from wm_ros.bag import BagError, BagRecorder
from wm_ros.bag.stream import action_bytes, image_bytes
from wm_ros.contract import StreamContract
from wm_ros.sources import ACTION, IMAGE

PERIOD_NS = 40_000_000
LIMITS = {'shoulder': (-1.0, 1.0), 'grip': (0.0, 1.0)}


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    entries = [{'name': n, 'unit': 'rad', 'low': a, 'high': b} for n, (a, b) in LIMITS.items()]
    values = {
        'name': 'arm', 'rate_hz': 25.0, 'image_size': 32,
        'cameras': [{'topic': '/cam', 'type': IMAGE}],
        'actions': [{'topic': '/cmd', 'type': ACTION, 'entries': entries}],
    }  # fmt: skip
    path = tmp_path / 'arm.yaml'
    path.write_text(yaml.safe_dump(values))
    return path


def record(
    path: Path,
    frames: int,
    *,
    missing: tuple[int, ...] = (),
    twice: tuple[int, ...] = (),
    beyond: tuple[int, int] = (0, 0),
) -> Path:
    """A bag of so many periods; in the first `beyond` of them shoulder and grip are far out."""
    with BagRecorder(path) as recorder:
        for i in range(frames):
            at_ns = 10**9 + i * PERIOD_NS
            values = [90.0 if i < count else 0.5 for count in beyond]
            recorder.write('/cmd', ACTION, action_bytes(values, at_ns), at_ns)
            picture_HWC = np.full((32, 32, 3), i % 250, np.uint8)
            for shift_ns in (0, 5_000_000)[: (i not in missing) + (i in twice)]:
                data = image_bytes(picture_HWC, at_ns + shift_ns)
                recorder.write('/cam', IMAGE, data, at_ns + shift_ns)
    return path


def test_every_bag_says_what_of_it_is_lost(
    tmp_path: Path, contract: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bags = [
        record(tmp_path / 'cut', 100, missing=(20, 80), twice=(50, 51)),
        record(tmp_path / 'far', 60, beyond=(3, 10)),
        record(tmp_path / 'good', 60),
        record(tmp_path / 'holed', 90, missing=(45,)),
    ]
    world = BagWorld(contract, bags, 32)
    lines = capsys.readouterr().out.splitlines()
    assert (
        'cut: 59 of 100 frames kept; 39 in stretches of less than 32; frame.missing 2, '
        'frame.too_soon 2'
    ) in lines
    assert 'far: 60 of 60 frames kept; action.clipped 13' in lines
    assert '2 other bags: all of 149 frames kept; frame.missing 1' in lines
    assert sum(': ' in line for line in lines) == 3
    assert world.clip_names == ['cut', 'far', 'good', 'holed', 'holed']
    assert [len(world.practice(seed, 0).images_THWC) for seed in range(5)] == [59, 60, 60, 45, 44]
    one = [read_bag(bags[2], StreamContract.load(contract))]
    assert told(one) == ['1 bag: all of 60 frames kept']


def test_a_bag_beyond_the_limits_is_warned_of_and_a_robot_beyond_them_refused(
    tmp_path: Path, contract: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [record(tmp_path / f'good{i}', 60) for i in range(2)]
    odd = record(tmp_path / 'odd', 60, beyond=(60, 25))
    BagWorld(contract, [*good, odd], 32)
    said = capsys.readouterr().out
    assert (
        'warning: odd: 85 of 120 values of actions lie outside the limits of contract arm, most '
        'of the time those of shoulder (-1 to 1 rad)\n'
    ) in said
    assert 'good' not in said
    half = record(tmp_path / 'half', 60, beyond=(60, 0))
    BagWorld(contract, [half], 32)
    assert 'warning' not in capsys.readouterr().out
    with pytest.raises(
        BagError,
        match=r'145 of 240 values .* of shoulder \(-1 to 1 rad\); are they in other units',
    ):
        BagWorld(contract, [odd, half], 32)


def shards_of(folder: Path, *lengths: int) -> Shards:
    """Clips of these lengths, their frames numbered."""
    folder.mkdir()
    frames = np.arange(sum(lengths))
    frames.astype(np.float16).tofile(folder / 'latents.f16')
    frames.astype(np.float32).tofile(folder / 'actions.f32')
    np.zeros(0, np.uint8).tofile(folder / 'visible.u8')
    index = {'made_of': {'seeds': [0, len(lengths)]}, 'lengths': lengths, 'facts': 0}
    (folder / 'index.json').write_text(json.dumps(index))
    return Shards([folder], (1, 1, 1), 1)


@pytest.mark.parametrize(
    ('lengths', 'wanted', 'window', 'left_out'),
    [
        ((200, 40, 40, 40), 96, 40, 0),  # a single long one shuts out no others
        ((200, 50), 96, 96, 1),  # four fifths of all frames are in the long one
        ((200, 51), 96, 51, 0),
        ((50, 40, 300), 96, 50, 1),
        ((60, 60), 96, 60, 0),
        ((60, 60), 24, 24, 0),
        ((120,), 96, 96, 0),
    ],
)
def test_windows_leave_out_a_fifth_of_the_frames_at_most(
    tmp_path: Path, lengths: tuple[int, ...], wanted: int, window: int, left_out: int
) -> None:
    shards = shards_of(tmp_path / 'shards', *lengths)
    assert shards.window(wanted) == window
    short = shards.too_short(wanted)
    assert short.sum() == left_out and 5 * shards.lengths[short].sum() <= sum(lengths)
    rng = np.random.default_rng(0)
    drawn = shards.sample(rng, clips=200, frames=wanted, loss_frames=2, event_share=0.0)
    assert drawn.actions_BTA.shape == (200, window, 1)
    first = drawn.actions_BTA[:, 0, 0].numpy()
    from_clips = np.searchsorted(np.cumsum(lengths), first, side='right')
    assert set(from_clips.tolist()) == set(np.flatnonzero(~short).tolist())


def test_variants_are_the_same_clips_seen_differently(tmp_path: Path, contract: Path) -> None:
    bags = [record(tmp_path / name, 40 + 10 * i) for i, name in enumerate('ab')]
    plain, world = BagWorld(contract, bags, 32), BagWorld(contract, bags, 32, variants=2)
    assert world.clips == 6 and world.clip_names == ['a', 'b'] * 3
    assert world.made_of() != plain.made_of() == BagWorld(contract, bags, 32, 0).made_of()
    clips = [world.practice(seed, 0) for seed in range(6)]
    for number, clip in enumerate(clips):
        recorded = plain.practice(number % 2, 0)
        same = np.array_equal(clip.images_THWC, recorded.images_THWC)
        assert same == (number < 2) and clip.images_THWC.shape == recorded.images_THWC.shape
        np.testing.assert_array_equal(clip.actions_TA, recorded.actions_TA)
        again = world.practice(number, 33).images_THWC
        np.testing.assert_array_equal(again, clip.images_THWC[:33])
