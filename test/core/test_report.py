"""The report is written from frames and read back: page, pictures, video, choice of moments."""

import base64
import re
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from rosbags.typesys.store import Typestore

from wm_ros.bag.record import BagRecorder
from wm_ros.bag.types import BagError, ros_types
from wm_ros.config import PREDICTION_TOPIC
from wm_ros.contract import StreamContract
from wm_ros.evaluation import curves, pictures, report
from wm_ros.evaluation.recording import Recording, read_recording, recall_moments
from wm_ros.sim.episodes import plan_episode


def moving_square(total: int = 40, size: int = 32, wrong_at: int = 25) -> Recording:
    camera = np.full((total, size, size, 3), 60, np.uint8)
    for t in range(total):
        camera[t, 8:14, t % (size - 6) : t % (size - 6) + 6] = (220, 40, 40)
    prediction = camera.copy()
    prediction[wrong_at] = 255
    predicted = np.ones(total, bool)
    predicted[0] = False
    stamps = 1_000_000_000 + np.arange(total, dtype=np.int64) * 40_000_000
    return Recording(
        camera,
        prediction,
        predicted,
        stamps,
        latency_ms=[4.0, 5.0, 9.0],
        memory_bytes=[1e8, 1.1e8],
        moments_ns={'cup <0> opens': int(stamps[12])},
    )


@pytest.fixture(scope='module')
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out_dir = tmp_path_factory.mktemp('report')
    report.write_report(out_dir, {'latency_ms': {'p50': 5.0}, 'backend': 'toy'}, moving_square())
    return out_dir


def test_page_holds_its_pictures_and_the_summary(written: Path) -> None:
    text = (written / 'report.html').read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|side_by_side\.mp4")', text)
    embedded = re.findall(r'data:image/png;base64,([^"]+)', text)
    assert len(embedded) >= 5
    for data in embedded:
        raw = np.frombuffer(base64.b64decode(data), np.uint8)
        assert cv2.imdecode(raw, cv2.IMREAD_COLOR).std() > 0
    assert text.index('<img') < text.index('latency_ms.p50')  # pictures first
    assert 'cup &lt;0&gt; opens' in text and 'toy' in text


def test_video_shows_camera_prediction_and_difference(written: Path) -> None:
    with av.open(str(written / 'side_by_side.mp4')) as container:
        frames = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
        assert float(container.streams.video[0].average_rate) == 25
    assert len(frames) == 40
    panels = np.split(frames[25][pictures.LABEL_PX :], 3, 1)
    assert abs(panels[0].mean() - 60) < 20 and panels[1].min() > 240
    gap = frames[20][pictures.LABEL_PX :, 2 * panels[0].shape[1] :]
    assert gap.mean() < 12  # the prediction was exact


def test_worst_prediction_and_wished_moments_get_a_strip() -> None:
    recording = moving_square()
    chosen = report.choose_moments(recording, curves.quality_over_time(recording))
    assert list(chosen.values())[:2] == [12, 25]


def test_curves_stand_beside_copy_last() -> None:
    recording = moving_square()
    found = curves.quality_over_time(recording)
    assert np.isnan(found.model_T[0])  # frame 0 was not predicted
    assert found.model_T[20] == 60 and found.model_changed_T[25] < found.copy_last_changed_T[25]
    figures = curves.summarise(found)
    assert figures['share_better_than_copy'] == pytest.approx(38 / 39)


def test_copy_last_of_a_longer_horizon_copies_an_older_frame() -> None:
    near = moving_square()
    far = Recording(
        near.camera_THWC, near.prediction_THWC, near.predicted_T, near.stamps_ns_T, horizon=5
    )
    assert (
        curves.quality_over_time(far).copy_last_T[10]
        < curves.quality_over_time(near).copy_last_T[10]
    )


def test_recordings_that_do_not_fit_are_refused() -> None:
    good = moving_square()
    with pytest.raises(ValueError, match='one entry per camera frame'):
        Recording(good.camera_THWC, good.prediction_THWC[:-1], good.predicted_T, good.stamps_ns_T)
    with pytest.raises(ValueError, match='prediction of none'):
        Recording(good.camera_THWC, good.prediction_THWC, np.zeros(40, bool), good.stamps_ns_T)


def test_sheet_names_rows_of_unequal_length() -> None:
    frame = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="'b': 1"):
        pictures.sheet({'a': [frame, frame], 'b': [frame]})


RATE_NS = 40_000_000


def ros_image(types: Typestore, image: np.ndarray, stamp_ns: int) -> object:
    of = types.types
    stamp = of['builtin_interfaces/msg/Time'](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    height, width = image.shape[:2]
    return of['sensor_msgs/msg/Image'](
        header=of['std_msgs/msg/Header'](stamp=stamp, frame_id='camera'),
        height=height,
        width=width,
        encoding='rgb8',
        is_bigendian=0,
        step=3 * width,
        data=np.ascontiguousarray(image).reshape(-1),
    )


def made_bag(path: Path, total: int = 30, horizons: tuple[int, ...] = (1, 5)) -> np.ndarray:
    """Camera, commands, and predictions that show the right frame with its first row in white."""
    types = ros_types()
    of = types.types
    frames = np.repeat(moving_square(total).camera_THWC, 2, 1).repeat(2, 2)

    def time(stamp_ns: int) -> object:
        return of['builtin_interfaces/msg/Time'](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)

    with BagRecorder(path) as recorder:
        for t in range(total):
            at = 10**9 + t * RATE_NS
            head = of['std_msgs/msg/Header'](stamp=time(at), frame_id='')
            messages = [
                (
                    '/command',
                    of['wm_ros_msgs/msg/Action'](header=head, values=np.zeros(11, np.float32)),
                ),
                ('/camera/image_raw', ros_image(types, frames[t], at)),
            ]
            for horizon in horizons:
                ahead = at + horizon * RATE_NS + 3_000_000  # a jitter that must not matter
                image = frames[min(t + horizon, total - 1)].copy()
                image[0] = 255
                prediction = of['wm_ros_msgs/msg/Prediction'](
                    header=of['std_msgs/msg/Header'](stamp=time(ahead), frame_id='camera'),
                    source_stamp=time(at),
                    horizon=horizon,
                    index=t,
                    image=ros_image(types, image, ahead),
                    latency_ms=float(horizon),
                    package='toy',
                )
                messages.append((PREDICTION_TOPIC, prediction))
            for topic, message in messages:
                msgtype = message.__msgtype__
                recorder.write(topic, msgtype, bytes(types.serialize_cdr(message, msgtype)), at)
    return frames


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('bags') / 'run'
    made_bag(path)
    return path


@pytest.fixture(scope='module')
def contract() -> StreamContract:
    return StreamContract.load(Path(__file__).parents[2] / 'contracts' / 'tabletop.yaml')


@pytest.mark.parametrize('horizon', [1, 5])
def test_predictions_of_a_bag_stand_beside_the_frames_they_predict(
    bag: Path, contract: StreamContract, horizon: int
) -> None:
    recording = read_recording(bag, contract, horizon=horizon)
    assert recording.camera_THWC.shape == (30, 64, 64, 3)
    assert np.flatnonzero(~recording.predicted_T).tolist() == list(range(horizon))
    known = recording.predicted_T
    assert np.array_equal(recording.prediction_THWC[known, 1:], recording.camera_THWC[known, 1:])
    assert (recording.prediction_THWC[known, 0] == 255).all()
    assert set(recording.latency_ms) == {float(horizon)}


def test_report_from_a_bag(bag: Path, contract: StreamContract, tmp_path: Path) -> None:
    path = report.write_report_from_bag(bag, contract, tmp_path, {'predictions': 30})
    assert '<b>29</b>' in path.read_text()  # the last of 30 predictions has no frame to meet
    assert (tmp_path / 'side_by_side.mp4').stat().st_size > 1000


def test_bag_without_fitting_predictions_says_what_it_holds(
    bag: Path, contract: StreamContract
) -> None:
    with pytest.raises(BagError, match=r'horizon 7; horizons found: \[1, 5\]'):
        read_recording(bag, contract, horizon=7)
    with pytest.raises(BagError, match='has no topic /other'):
        read_recording(bag, contract, topic='/other')
    with pytest.raises(BagError, match='Action, expected'):
        read_recording(bag, contract, topic='/command')


def test_moments_are_the_tests_that_were_played() -> None:
    plan = plan_episode('cup', 10_000_003)
    stamps = [1000 + 40 * t for t in range(plan.tests[1].scored_frame + 1)]
    moments = recall_moments(plan, stamps)
    assert [text.split(' after ')[1] for text in moments] == ['48 frames', '128 frames']
    assert list(moments.values()) == [1000 + 40 * test.scored_frame for test in plan.tests[:2]]


@pytest.mark.parametrize('write', [pictures.png, pictures.jpeg])
def test_a_page_holds_its_pictures_and_says_of_what_kind_they_are(write) -> None:
    ramp_HWC = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 32, 0)
    ramp_HWC = np.concatenate([ramp_HWC, ramp_HWC[:, ::-1], ramp_HWC // 2], 2)
    tag = pictures.html_image(write(ramp_HWC), 'a ramp')
    kind, data = re.fullmatch(
        r'<img alt="a ramp" src="data:image/(\w+);base64,([^"]+)">', tag
    ).groups()
    raw = base64.b64decode(data)
    assert kind == write.__name__ and raw[:3] == {'png': b'\x89PN', 'jpeg': b'\xff\xd8\xff'}[kind]
    shown_HWC = cv2.cvtColor(cv2.imdecode(np.frombuffer(raw, np.uint8), 1), cv2.COLOR_BGR2RGB)
    assert np.abs(shown_HWC.astype(int) - ramp_HWC).mean() < 4
