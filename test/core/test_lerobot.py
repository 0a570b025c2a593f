"""LeRobot datasets into bags and back: actions bit for bit, pictures within what H.264 loses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wm_ros import cli
from wm_ros.bag import BagError, BagRecorder, iter_steps
from wm_ros.bag.read import iter_messages, open_bag
from wm_ros.bag.stream import STRING, compressed_image_bytes
from wm_ros.contract import StreamContract
from wm_ros.lerobot import Dataset, DatasetWriter, LeRobotError, export_bags, import_dataset
from wm_ros.lerobot.to_bags import FIRST_NS
from wm_ros.lerobot.video import VideoWriter
from wm_ros.messages import image_from_message
from wm_ros.preprocess import crop_resize
from wm_ros.sources import COMPRESSED_IMAGE, JOINT_STATE
from wm_ros.tiles import untile

EPISODES, FRAMES, HEIGHT, WIDTH, FPS = 3, 40, 48, 64, 30
NAMES = ['shoulder', 'elbow', 'grip']
CAMERA = 'observation.images.top'
# Mean absolute error of one pass through H.264 at crf 18, of 255: 2.2 to 2.7 measured on these
# pictures, whose block has hard coloured edges.
VIDEO_MAE = 3.5


def pictures(episode: int) -> np.ndarray:
    """Smooth ground with a bright block that moves: uint8 [T, H, W, 3]."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ground = np.stack([x * 3, y * 4, np.full_like(x, 60 * episode)], -1).astype(np.uint8)
    frames = np.repeat(ground[None], FRAMES, 0)
    for t in range(FRAMES):
        frames[t, 10:26, t % 44 : t % 44 + 16] = (250, 240, 40)
    return frames


def numbers(episode: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(episode)
    actions = rng.normal(0, 2, (FRAMES, 3)).astype(np.float32)
    actions[3] = (0.0, 1e-12, -1e-30)
    return actions, rng.normal(0, 1, (FRAMES, 2)).astype(np.float32)


def task(episode: int) -> str:
    return ('pick', 'place')[episode % 2]


def png(image_HWC: np.ndarray) -> bytes:
    return cv2.imencode('.png', image_HWC[..., ::-1])[1].tobytes()


def make_v21(root: Path, as_images: bool = False) -> Path:
    """One parquet and one MP4 per episode, metadata as JSON lines."""
    (root / 'meta').mkdir(parents=True)
    (root / 'data/chunk-000').mkdir(parents=True)
    for episode in range(EPISODES):
        actions, states = numbers(episode)
        columns = {
            'observation.state': pa.array(states.tolist(), pa.list_(pa.float32())),
            'action': pa.array(actions.tolist(), pa.list_(pa.float32())),
            'timestamp': pa.array((np.arange(FRAMES) / FPS).astype(np.float32)),
            'frame_index': pa.array(np.arange(FRAMES)),
            'episode_index': pa.array(np.full(FRAMES, episode)),
            'index': pa.array(np.arange(FRAMES) + FRAMES * episode),
            'task_index': pa.array(np.full(FRAMES, episode % 2)),
        }
        if as_images:
            columns[CAMERA] = pa.array(
                [
                    {'bytes': png(image), 'path': f'{t}.png'}
                    for t, image in enumerate(pictures(episode))
                ]
            )
        else:
            path = root / f'videos/chunk-000/{CAMERA}/episode_{episode:06d}.mp4'
            video = VideoWriter(path, FPS, HEIGHT, WIDTH)
            for image in pictures(episode):
                video.write(image)
            video.close()
        pq.write_table(pa.table(columns), root / f'data/chunk-000/episode_{episode:06d}.parquet')
    lines(
        root / 'meta/episodes.jsonl',
        [{'episode_index': e, 'tasks': [task(e)], 'length': FRAMES} for e in range(EPISODES)],
    )
    lines(root / 'meta/tasks.jsonl', [{'task_index': i, 'task': task(i)} for i in range(2)])
    info = {
        'codebase_version': 'v2.1',
        'robot_type': 'arm',
        'total_episodes': EPISODES,
        'total_frames': EPISODES * FRAMES,
        'total_tasks': 2,
        'total_chunks': 1,
        'chunks_size': 1000,
        'fps': FPS,
        'splits': {'train': f'0:{EPISODES}'},
        'data_path': 'data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet',
        'video_path': (
            'videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4'
        ),
        'features': {
            'action': {'dtype': 'float32', 'shape': [3], 'names': {'motors': NAMES}},
            'observation.state': {'dtype': 'float32', 'shape': [2], 'names': None},
            CAMERA: {
                'dtype': 'image' if as_images else 'video',
                'shape': [HEIGHT, WIDTH, 3],
                'names': ['height', 'width', 'channels'],
            },
            'timestamp': {'dtype': 'float32', 'shape': [1], 'names': None},
        },
    }
    (root / 'meta/info.json').write_text(json.dumps(info))
    return root


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))


def make_v30(root: Path) -> Path:
    with DatasetWriter(
        root,
        fps=FPS,
        cameras={CAMERA: (HEIGHT, WIDTH)},
        action_names=NAMES,
        state_names=['a', 'b'],
    ) as writer:
        for episode in range(EPISODES):
            for image, action, state in zip(pictures(episode), *numbers(episode), strict=True):
                writer.add_frame({CAMERA: image}, action, state, task(episode))
            writer.end_episode()
    return root


MAKERS: dict[str, Callable[[Path], Path]] = {'v2.1': make_v21, 'v3.0': make_v30}


@pytest.fixture(scope='module')
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp('lerobot')
    return {version: make(folder / version.replace('.', '')) for version, make in MAKERS.items()}


def error_of(images: np.ndarray, truth: np.ndarray) -> float:
    return float(np.abs(images.astype(int) - truth.astype(int)).mean())


@pytest.mark.parametrize('version', MAKERS)
def test_reading_gives_what_was_written(made: dict[str, Path], version: str) -> None:
    dataset = Dataset(made[version])
    assert dataset.info.version == version
    assert (len(dataset), dataset.info.fps, dataset.info.cameras) == (EPISODES, FPS, (CAMERA,))
    assert dataset.info.action.names == tuple(NAMES)
    for index, episode in enumerate(dataset):
        actions, states = numbers(index)
        assert episode.action_TA.dtype == np.float32
        assert np.array_equal(episode.action_TA, actions)
        assert np.array_equal(episode.state_TD, states)
        assert np.abs(episode.seconds_T - np.arange(FRAMES) / FPS).max() < 1e-6
        assert episode.tasks_T == (task(index),) * FRAMES
        images = np.stack(list(dataset.frames(episode, CAMERA)))
        assert images.shape == (FRAMES, HEIGHT, WIDTH, 3)
        assert error_of(images, pictures(index)) < VIDEO_MAE
        # A frame earlier or later would show the block elsewhere.
        assert error_of(images[1:], pictures(index)[:-1]) > error_of(images, pictures(index)) + 1


@pytest.mark.parametrize('version', MAKERS)
def test_a_dataset_becomes_bags_and_a_contract(
    made: dict[str, Path], version: str, tmp_path: Path
) -> None:
    dataset = Dataset(made[version])
    done = import_dataset(dataset, tmp_path / 'arm', image_size=48)
    contract = StreamContract.load(done.contract)
    assert (contract.name, contract.rate_hz, done.frames) == ('arm', FPS, EPISODES * FRAMES)
    assert [entry.name for entry in contract.entries] == NAMES
    for index, bag in enumerate(done.bags):
        actions, states = numbers(index)
        steps = list(iter_steps(bag, contract))
        stamps = [FIRST_NS + round(t * 1e9 / FPS) for t in range(FRAMES)]
        assert [step.stamp_ns for step in steps] == stamps
        images = list(dataset.frames(dataset.episode(index), CAMERA))
        for step, image, action in zip(steps, images, actions, strict=True):
            assert step.frame is not None
            assert np.array_equal(step.frame.image_HWC, crop_resize(image, None, 48))
            assert np.array_equal(step.action_A, contract.normalise(action))
            assert not contract.count_clipped(action)
        raw = [m.values for _, m, _ in iter_messages(bag, {'/action': contract.actions[0].type})]
        assert np.array_equal(np.stack(raw), actions)
        state = [m.position for _, m, _ in iter_messages(bag, {'/state': JOINT_STATE})]
        assert np.array_equal(np.stack(state).astype(np.float32), states)
        (said,) = [message.data for _, message, _ in iter_messages(bag, {'/task': STRING})]
        assert said == task(index)
    with open_bag(done.bags[0]) as reader:
        (connection,) = [c for c in reader.connections if c.topic == '/task']
        (qos,) = connection.ext.offered_qos_profiles
        assert (qos.depth, qos.durability.name) == (1, 'TRANSIENT_LOCAL')


def test_two_cameras_become_two_views_and_come_back(tmp_path: Path) -> None:
    keys = ('observation.images.top', 'observation.images.wrist')
    with DatasetWriter(
        tmp_path / 'two',
        fps=FPS,
        cameras=dict.fromkeys(keys, (HEIGHT, WIDTH)),
        action_names=NAMES,
    ) as writer:
        for image, action in zip(pictures(0), numbers(0)[0], strict=True):
            writer.add_frame(dict(zip(keys, (image, 255 - image), strict=True)), action, None, '')
        writer.end_episode()
    dataset = Dataset(tmp_path / 'two')
    done = import_dataset(dataset, tmp_path / 'arm', image_size=48)
    contract = StreamContract.load(done.contract)
    assert contract.camera_names == ('top', 'wrist')
    steps = list(iter_steps(done.bags[0], contract))
    assert len(steps) == FRAMES
    sources = zip(*(dataset.frames(dataset.episode(0), key) for key in keys), strict=True)
    for step, images in zip(steps, sources, strict=True):
        assert step.frame is not None
        for seen, image in zip(untile(step.frame.image_HWC, 2), images, strict=True):
            assert np.array_equal(seen, crop_resize(image, None, 48, 2))
    export_bags(done.bags, contract, tmp_path / 'back')
    back = Dataset(tmp_path / 'back')
    assert back.info.cameras == keys
    for key, view in zip(keys, (0, 1), strict=True):
        frames = list(back.frames(back.episode(0), key))
        truth = [untile(step.frame.image_HWC, 2)[view] for step in steps if step.frame]
        assert np.stack(frames).shape == (FRAMES, 24, 48, 3)
        assert np.abs(np.stack(frames).astype(int) - np.stack(truth)).mean() < 6


def test_images_in_parquet_are_kept_byte_for_byte(tmp_path: Path) -> None:
    dataset = Dataset(make_v21(tmp_path / 'set', as_images=True))
    done = import_dataset(dataset, tmp_path / 'bags', episodes=range(1, 2))
    assert [bag.name for bag in done.bags] == ['episode_000001']
    contract = StreamContract.load(done.contract)
    topic = contract.camera.topic
    assert topic == '/camera/top/image_raw/compressed'
    for at, (_, message, _) in enumerate(iter_messages(done.bags[0], {topic: COMPRESSED_IMAGE})):
        assert bytes(message.data) == png(pictures(1)[at])
        assert np.array_equal(image_from_message(contract.camera, message), pictures(1)[at])


def test_images_that_no_camera_sends_are_refused(tmp_path: Path) -> None:
    root = make_v21(tmp_path / 'set', as_images=True)
    path = root / 'data/chunk-000/episode_000000.parquet'
    table = pq.read_table(path)
    for image, words in (
        ({'bytes': b'RIFF', 'path': None}, 'frame 0 of .* begins with 52494646, expected PNG'),
        ({'bytes': None, 'path': 'gone.png'}, "frame 0 of .* no bytes and no file .*'gone.png'"),
    ):
        column = pa.array([image] * FRAMES, table.schema.field(CAMERA).type)
        at = table.schema.get_field_index(CAMERA)
        pq.write_table(table.set_column(at, CAMERA, column), path)
        with pytest.raises(LeRobotError, match=words):
            import_dataset(Dataset(root), tmp_path / words[-4:])


def test_a_round_trip_keeps_every_number(made: dict[str, Path], tmp_path: Path) -> None:
    """v2.1 -> bags -> v3.0, by the command line."""
    bags, out = tmp_path / 'bags', tmp_path / 'v30'
    assert cli.main(
        ['import', 'lerobot', str(made['v2.1']), '--out', str(bags), '--image-size', '48']
    ) == 0  # fmt: skip
    names = sorted(str(path) for path in bags.glob('episode_*'))
    contract = str(bags / 'contract.yaml')
    assert cli.main(['export', 'lerobot', *names, '--contract', contract, '--out', str(out)]) == 0
    before, after = Dataset(made['v2.1']), Dataset(out)
    assert after.info.version == 'v3.0'
    assert after.info.cameras == (CAMERA,)
    assert after.info.action.names == tuple(NAMES)
    for ours, theirs in zip(after, before, strict=True):
        assert np.array_equal(ours.action_TA, theirs.action_TA)
        assert np.array_equal(ours.state_TD, theirs.state_TD)
        assert np.array_equal(ours.seconds_T, theirs.seconds_T)
        assert ours.tasks_T == theirs.tasks_T
        truth = [crop_resize(image, None, 48) for image in before.frames(theirs, CAMERA)]
        assert error_of(np.stack(list(after.frames(ours, CAMERA))), np.stack(truth)) < VIDEO_MAE


def test_the_layout_is_that_of_v30(made: dict[str, Path]) -> None:
    root = made['v3.0']
    found = sorted(str(path.relative_to(root)) for path in root.rglob('*') if path.is_file())
    assert found == [
        'data/chunk-000/file-000.parquet',
        'meta/episodes/chunk-000/file-000.parquet',
        'meta/info.json',
        'meta/stats.json',
        'meta/tasks.parquet',
        f'videos/{CAMERA}/chunk-000/file-000.mp4',
    ]
    rows = pq.read_table(root / 'meta/episodes/chunk-000/file-000.parquet').to_pylist()
    assert [row['dataset_from_index'] for row in rows] == [0, FRAMES, 2 * FRAMES]
    assert [row[f'videos/{CAMERA}/from_timestamp'] for row in rows] == pytest.approx(
        [0, FRAMES / FPS, 2 * FRAMES / FPS]
    )
    tasks = pq.read_table(root / 'meta/tasks.parquet')
    assert json.loads(tasks.schema.metadata[b'pandas'])['index_columns'] == ['task']
    assert tasks.to_pylist() == [
        {'task_index': 0, 'task': 'pick'},
        {'task_index': 1, 'task': 'place'},
    ]
    stats = json.loads((root / 'meta/stats.json').read_text())
    actions = np.concatenate([numbers(episode)[0] for episode in range(EPISODES)]).astype(float)
    assert stats['action']['mean'] == pytest.approx(actions.mean(0).tolist())
    assert stats['action']['std'] == pytest.approx(actions.std(0).tolist())
    assert stats['action']['min'] == pytest.approx(actions.min(0).tolist())
    images = np.concatenate([pictures(episode) for episode in range(EPISODES)]) / 255
    assert np.ravel(stats[CAMERA]['mean']) == pytest.approx(images.mean((0, 1, 2)))
    assert np.ravel(stats[CAMERA]['std']) == pytest.approx(images.std((0, 1, 2)))
    assert np.shape(stats[CAMERA]['max']) == (3, 1, 1)


def test_a_vector_of_one_entry_is_a_plain_number(tmp_path: Path) -> None:
    with DatasetWriter(
        tmp_path / 'one', fps=10, cameras={'cam': (16, 17)}, action_names=['push']
    ) as writer:
        for t in range(4):
            writer.add_frame({'cam': np.full((16, 17, 3), 60 * t, np.uint8)}, [t / 8])
        writer.end_episode()
    table = pq.read_table(tmp_path / 'one/data/chunk-000/file-000.parquet')
    assert table.schema.field('action').type == pa.float32()
    dataset = Dataset(tmp_path / 'one')
    episode = dataset.episode(0)
    assert episode.action_TA.tolist() == [[0], [0.125], [0.25], [0.375]]
    assert episode.state_TD is None
    assert [int(image.mean()) for image in dataset.frames(episode, 'cam')] == pytest.approx(
        [0, 60, 120, 180], abs=2
    )


def test_a_gap_begins_a_new_episode_and_a_missing_frame_is_held(
    made: dict[str, Path], tmp_path: Path
) -> None:
    done = import_dataset(Dataset(made['v2.1']), tmp_path / 'bags', episodes=range(1))
    contract = StreamContract.load(done.contract)
    camera = contract.camera.topic
    pause_ns = 5_000_000_000
    with open_bag(done.bags[0]) as reader, BagRecorder(tmp_path / 'gappy') as recorder:
        seen = 0
        for connection, log_ns, raw in reader.messages():
            if connection.topic == camera:
                seen += 1
                if seen == 11 or seen > 20:  # frame 10 is missing; silence after frame 19
                    continue
            recorder.write(connection.topic, connection.msgtype, raw, log_ns)
        for message_index, (_, message, _) in enumerate(
            iter_messages(done.bags[0], {camera: COMPRESSED_IMAGE})
        ):
            if message_index < 5:
                stamp_ns = FIRST_NS + pause_ns + message_index * contract.period_ns
                data = compressed_image_bytes(message.data.tobytes(), 'png', stamp_ns)
                recorder.write(camera, COMPRESSED_IMAGE, data, stamp_ns)
    exported = export_bags([tmp_path / 'gappy'], contract, tmp_path / 'out')
    assert (exported.episodes, exported.frames, exported.held_frames) == (2, 25, 1)
    dataset = Dataset(tmp_path / 'out')
    assert [episode.length for episode in dataset] == [20, 5]
    assert np.array_equal(dataset.episode(0).action_TA, numbers(0)[0][:20])
    assert (dataset.episode(1).action_TA == numbers(0)[0][-1]).all()


@pytest.mark.parametrize(
    ('found', 'names'),
    [
        (['a', 'b', 'c'], ('a', 'b', 'c')),
        ({'motors': ['a', 'b', 'c']}, ('a', 'b', 'c')),
        ({'left': ['a'], 'right': ['b', 'c']}, ('a', 'b', 'c')),
        ({'c': 2, 'a': 0, 'b': 1}, ('a', 'b', 'c')),
        (None, ('action_0', 'action_1', 'action_2')),
        (['actions'], ('action_0', 'action_1', 'action_2')),
        (['a', 'a', 'b'], ('action_0', 'action_1', 'action_2')),
    ],
)
def test_action_names_in_all_their_forms(
    made: dict[str, Path], tmp_path: Path, found: Any, names: tuple[str, ...]
) -> None:
    root = copy(made['v2.1'], tmp_path)
    edit(root, lambda info: info['features']['action'].update(names=found))
    assert Dataset(root).info.action.entry_names('action') == names


def copy(root: Path, folder: Path) -> Path:
    return Path(shutil.copytree(root, folder / 'copy'))


def edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = root / 'meta/info.json'
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def read_all(root: Path) -> None:
    dataset = Dataset(root)
    for episode in dataset:
        for camera in dataset.info.cameras:
            list(dataset.frames(episode, camera))


def cut_rows(root: Path) -> None:
    path = next((root / 'data').rglob('*.parquet'))
    pq.write_table(pq.read_table(path).slice(0, FRAMES - 3), path)


def shorten_video(root: Path) -> None:
    path = sorted((root / 'videos').rglob('*.mp4'))[0]
    video = VideoWriter(path, FPS, HEIGHT, WIDTH)
    for image in pictures(0)[: FRAMES - 3]:
        video.write(image)
    video.close()


def drop_column(root: Path) -> None:
    path = sorted((root / 'data').rglob('*.parquet'))[0]
    pq.write_table(pq.read_table(path).drop_columns(['action']), path)


def first(root: Path, pattern: str) -> Path:
    return sorted(root.rglob(pattern))[0]


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    'no info': (lambda root: (root / 'meta/info.json').unlink(), r'info\.json is missing'),
    'no json': (lambda root: (root / 'meta/info.json').write_text('{'), r'info\.json: no JSON'),
    'version': (
        lambda root: edit(root, lambda info: info.update(codebase_version='v1.6')),
        r"info\.json: codebase_version is 'v1\.6', expected v2\.1 or v3\.0",
    ),
    'fps 0': (lambda root: edit(root, lambda info: info.update(fps=0)), r'info\.json: fps is 0'),
    'dtype': (
        lambda root: edit(root, lambda info: info['features']['action'].update(dtype='complex')),
        r"info\.json: features\.action\.dtype is 'complex'",
    ),
    'no action': (
        lambda root: edit(root, lambda info: info['features'].pop('action')),
        r'info\.json: features: no action, found observation\.state',
    ),
    'frames': (
        lambda root: edit(root, lambda info: info.update(total_frames=7)),
        rf'info\.json: total_frames is 7, the episodes have {EPISODES * FRAMES}',
    ),
    'episodes': (
        lambda root: edit(root, lambda info: info.update(total_episodes=9)),
        r'info\.json: total_episodes is 9, .*episodes\.jsonl lists 3',
    ),
    'no video': (
        lambda root: first(root, '*.mp4').unlink(),
        rf'episode_000000\.mp4 is missing \({CAMERA}, episode 0\)',
    ),
    'damaged video': (
        lambda root: first(root, '*.mp4').write_bytes(b'nothing'),
        r'episode_000000\.mp4: damaged after frame 0',
    ),
    'short video': (
        shorten_video,
        rf'episode_000000\.mp4: {FRAMES - 3} frames of {CAMERA}, episode 0, expected {FRAMES}',
    ),
    'no data': (
        lambda root: first(root, '*.parquet').unlink(),
        r'episode_000000\.parquet is missing',
    ),
    'damaged data': (
        lambda root: first(root, '*.parquet').write_bytes(b'PAR1'),
        r'episode_000000\.parquet: cannot be read',
    ),
    'short data': (
        cut_rows,
        rf'parquet: {FRAMES - 3} rows of episode \d, .*episodes\.jsonl gives its length as 40',
    ),
    'no column': (drop_column, r'episode_000000\.parquet: no column action'),
    'no tasks': (
        lambda root: (root / 'meta/tasks.jsonl').unlink(),
        r'tasks\.jsonl is missing',
    ),
    'bad line': (
        lambda root: (root / 'meta/episodes.jsonl').write_text('{}\n{'),
        r'episodes\.jsonl: line 2',
    ),
}


@pytest.mark.parametrize('fault', BROKEN)
def test_what_is_wrong_is_named(made: dict[str, Path], tmp_path: Path, fault: str) -> None:
    spoil, words = BROKEN[fault]
    root = copy(made['v2.1'], tmp_path)
    read_all(root)
    spoil(root)
    with pytest.raises(LeRobotError, match=words):
        read_all(root)


def test_v30_faults_are_named(made: dict[str, Path], tmp_path: Path) -> None:
    root = copy(made['v3.0'], tmp_path)
    path = root / 'meta/episodes/chunk-000/file-000.parquet'
    table = pq.read_table(path)
    pq.write_table(table.drop_columns([f'videos/{CAMERA}/from_timestamp']), path)
    with pytest.raises(LeRobotError, match=rf'file-000\.parquet: no videos/{CAMERA}/from_timest'):
        Dataset(root)
    late = pa.array([0.0, 1.0, 2.0])
    at = table.schema.get_field_index(f'videos/{CAMERA}/from_timestamp')
    pq.write_table(table.set_column(at, f'videos/{CAMERA}/from_timestamp', late), path)
    read_all_but_last = Dataset(root)
    list(read_all_but_last.frames(read_all_but_last.episode(0), CAMERA))
    (root / f'videos/{CAMERA}/chunk-000/file-000.mp4').unlink()
    with pytest.raises(LeRobotError, match=r'file-000\.mp4 is missing'):
        read_all(root)


def test_imports_and_exports_refuse_what_they_cannot_do(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = str(made['v2.1'])
    for words, text in (
        (
            ['import', 'lerobot', dataset, '--out', str(tmp_path / 'a'), '--camera', 'x'],
            'camera x',
        ),
        (['import', 'lerobot', dataset, '--out', str(tmp_path / 'b'), '--episodes', '2:9'], '2:9'),
        (['import', 'lerobot', str(tmp_path), '--out', str(tmp_path / 'c')], 'is missing'),
        (
            ['export', 'lerobot', 'x', '--contract', 'tabletop', '--out', str(tmp_path / 'd')],
            'no bag at x',
        ),
    ):
        assert cli.main(words) == 1
        assert text in capsys.readouterr().err
    done = import_dataset(Dataset(made['v2.1']), tmp_path / 'bags', episodes=range(1))
    contract = StreamContract.load(done.contract)
    with pytest.raises(LeRobotError, match=r'contract\.yaml exists'):
        import_dataset(Dataset(made['v2.1']), tmp_path / 'bags', episodes=range(1, 2))
    with pytest.raises(BagError, match='no topic /measured'):
        export_bags(done.bags, contract, tmp_path / 'e', state_topic='/measured')
    with pytest.raises(LeRobotError, match='exists'):
        export_bags(done.bags, contract, tmp_path / 'bags')
    with DatasetWriter(
        tmp_path / 'f', fps=10, cameras={'c': (4, 4)}, action_names=['x']
    ) as writer:
        with pytest.raises(LeRobotError, match=r'episode 0, frame 0: c: shape \(4, 6, 3\)'):
            writer.add_frame({'c': np.zeros((4, 6, 3), np.uint8)}, [0])
        with pytest.raises(LeRobotError, match=r'action of shape \(2,\), expected \(1,\)'):
            writer.add_frame({'c': np.zeros((4, 4, 3), np.uint8)}, [0, 1])
