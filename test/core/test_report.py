"""The report is written from frames and read back: page, pictures, video, choice of moments."""

import base64
import re
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from wm_ros.evaluation import pictures, report


def moving_square(total: int = 40, size: int = 32, wrong_at: int = 25) -> report.Recording:
    camera = np.full((total, size, size, 3), 60, np.uint8)
    for t in range(total):
        camera[t, 8:14, t % (size - 6) : t % (size - 6) + 6] = (220, 40, 40)
    prediction = camera.copy()
    prediction[wrong_at] = 255
    predicted = np.ones(total, bool)
    predicted[0] = False
    stamps = 1_000_000_000 + np.arange(total, dtype=np.int64) * 40_000_000
    return report.Recording(
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
    chosen = report.choose_moments(recording, report.quality_over_time(recording))
    assert list(chosen.values())[:2] == [12, 25]


def test_curves_stand_beside_copy_last() -> None:
    recording = moving_square()
    curves = report.quality_over_time(recording)
    assert np.isnan(curves.model_T[0])  # frame 0 was not predicted
    assert curves.model_T[20] == 60 and curves.model_changed_T[25] < curves.copy_last_changed_T[25]
    figures = report.summarise(curves)
    assert figures['share_better_than_copy'] == pytest.approx(38 / 39)


def test_copy_last_of_a_longer_horizon_copies_an_older_frame() -> None:
    near = moving_square()
    far = report.Recording(
        near.camera_THWC, near.prediction_THWC, near.predicted_T, near.stamps_ns_T, horizon=5
    )
    assert (
        report.quality_over_time(far).copy_last_T[10]
        < report.quality_over_time(near).copy_last_T[10]
    )


def test_recordings_that_do_not_fit_are_refused() -> None:
    good = moving_square()
    with pytest.raises(ValueError, match='one entry per camera frame'):
        report.Recording(
            good.camera_THWC, good.prediction_THWC[:-1], good.predicted_T, good.stamps_ns_T
        )
    with pytest.raises(ValueError, match='prediction of none'):
        report.Recording(
            good.camera_THWC, good.prediction_THWC, np.zeros(40, bool), good.stamps_ns_T
        )


def test_sheet_names_rows_of_unequal_length() -> None:
    frame = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="'b': 1"):
        pictures.sheet({'a': [frame, frame], 'b': [frame]})
