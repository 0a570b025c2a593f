"""Training reads what a robot sees: a rendered clip equals the same episode read from a bag."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from training.bags import BagWorld
from training.reading import read_bag
from training.tabletop import TabletopWorld
from wm_ros.bag.record import BagRecorder
from wm_ros.bag.stream import StreamRecorder, action_bytes, image_bytes
from wm_ros.contract import StreamContract
from wm_ros.sim.config import SimConfig
from wm_ros.sim.episodes import plan_episode, play
from wm_ros.sim.scene import TableTop
from wm_ros.sources import ACTION, IMAGE

CONTRACT = Path('contracts/tabletop.yaml')
FRAMES = 60


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty frames of practice episode 3, as a bag."""
    path = tmp_path_factory.mktemp('bags') / 'episode_3'
    contract = StreamContract.load(CONTRACT)
    with BagRecorder(path) as recorder, TableTop(SimConfig()) as sim:
        stream = StreamRecorder(recorder, contract)
        for frame in play(plan_episode('practice', 3, FRAMES), sim):
            stamp_ns = 1_000_000_000 + frame.index * contract.period_ns
            stream.write_action(frame.action_A, stamp_ns)
            stream.write_frame(frame.image_HWC, stamp_ns)
    return path


def test_rendered_clip_equals_the_recorded_one(bag: Path) -> None:
    rendered = TabletopWorld(CONTRACT, 64).practice(3, FRAMES)
    (recorded,) = read_bag(bag, StreamContract.load(CONTRACT)).clips
    assert np.array_equal(recorded.images_THWC, rendered.images_THWC)
    np.testing.assert_allclose(recorded.actions_TA, rendered.actions_TA, rtol=0, atol=1e-6)


def test_probe_twins_share_all_but_the_frames_that_show_the_pair() -> None:
    world = TabletopWorld(CONTRACT, 64)
    plan = plan_episode('cup', 900_000)
    episode = world.probe(900_000)
    assert episode.images_VTHWC.shape[:2] == (4, plan.frames)
    assert [test.lag for test in episode.tests] == [test.lag for test in plan.tests]
    for test in episode.tests:
        base, other = episode.images_VTHWC[[0, test.version]]
        differs = (base != other).any((1, 2, 3))
        assert differs[test.scored_frame]
        assert not differs[test.hidden_frame - 45 : test.hidden_frame + 1].any()


def test_a_folder_without_long_enough_recordings_is_refused(tmp_path: Path, bag: Path) -> None:
    world = BagWorld(CONTRACT, [bag], 64)
    assert (world.clips, world.clip_names) == (1, ['episode_3'])
    assert world.practice(5, 40).images_THWC.shape[0] == 40
    with pytest.raises(ValueError, match='image_size'):
        BagWorld(CONTRACT, [bag], 128)
    with pytest.raises(NotImplementedError, match='no twin'):
        world.probe(0)


def test_clips_of_two_cameras_hold_both_views(tmp_path: Path) -> None:
    """A view that is gone for longer than the contract's gap ends a clip."""
    head, wrist = '/head/image_raw', '/wrist/image_raw'
    values = yaml.safe_load(CONTRACT.read_text()) | {'image_size': 32, 'reset': {'gap_s': 0.1}}
    values['cameras'] = [{'topic': topic, 'type': IMAGE} for topic in (head, wrist)]
    contract = tmp_path / 'two_eyed.yaml'
    contract.write_text(yaml.safe_dump(values))
    with BagRecorder(tmp_path / 'bag') as recorder:
        for i in range(90):
            at = 1_000_000_000 + i * 40_000_000
            recorder.write('/command', ACTION, action_bytes(np.full(11, 0.1), at), at)
            for topic, shade in ((wrist, 100 + i), (head, i)):
                if topic == head or not 40 <= i < 46:
                    view_HWC = np.full((30, 40, 3), shade, np.uint8)
                    recorder.write(topic, IMAGE, image_bytes(view_HWC, at), at)
    world = BagWorld(contract, [tmp_path / 'bag'], 32)
    lengths = [len(world.practice(seed, 0).images_THWC) for seed in range(world.clips)]
    assert lengths == [42, 44], 'two frames hold the last view, four have none'
    clip = world.practice(1, 0)
    assert clip.images_THWC.shape == (44, 32, 32, 3)
    assert (clip.images_THWC[:, :16] == np.arange(46, 90)[:, None, None, None]).all()
    assert (clip.images_THWC[:, 16:] == np.arange(146, 190)[:, None, None, None]).all()
