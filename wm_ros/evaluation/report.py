"""The report of one run: what the camera saw, what was predicted, and how well, to look at.

In: a recording (or a bag) and a summary. Out: `report.html` (one file, pictures inside) and
`side_by_side.mp4`. Runs no model.

Axes: T camera frames, H W pixels, C channels.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wm_ros.config import PREDICTION_TOPIC
from wm_ros.contract import StreamContract
from wm_ros.datatypes import ImageArray
from wm_ros.evaluation import pictures
from wm_ros.evaluation.curves import (
    Curves,
    draw_curves,
    draw_machine,
    quality_over_time,
    summarise,
)
from wm_ros.evaluation.page import page, table, tiles
from wm_ros.evaluation.recording import Recording, read_recording

STRIP_FRAMES = 9
PANEL_PX = 256
TITLE = 'wm_ros: camera and prediction'


def choose_moments(recording: Recording, curves: Curves, each: int = 3) -> dict[str, int]:
    """Return frames worth a strip: those asked for, the worst, the liveliest, a typical one."""
    chosen: dict[str, int] = {}
    taken: list[int] = []

    def take(text: str, order: npt.NDArray[np.intp], count: int) -> None:
        for t in order:
            if count == 0:
                return
            if all(abs(int(t) - other) >= STRIP_FRAMES for other in taken):
                taken.append(int(t))
                chosen[f'{text} ({recording.seconds_T[t]:.1f} s)'] = int(t)
                count -= 1

    for text, stamp_ns in recording.moments_ns.items():
        t = int(np.abs(recording.stamps_ns_T - stamp_ns).argmin())
        taken.append(t)
        chosen[f'{text} ({recording.seconds_T[t]:.1f} s)'] = t
    known = np.flatnonzero(~np.isnan(curves.model_T))
    take('worst prediction', known[np.argsort(curves.model_T[known])], each)
    take('most in motion', known[np.argsort(-curves.changed_T[known])], each)
    take(
        'typical prediction',
        known[np.argsort(np.abs(curves.model_T[known] - np.median(curves.model_T[known])))],
        1,
    )
    return chosen


def filmstrip(recording: Recording, t: int) -> ImageArray:
    """Return camera, prediction and difference around frame t, one column per frame."""
    total = len(recording.camera_THWC)
    first = min(max(0, t - STRIP_FRAMES // 2), max(0, total - STRIP_FRAMES))
    span = range(first, min(total, first + STRIP_FRAMES))
    camera = [recording.camera_THWC[i] for i in span]
    predicted = [_shown(recording, i) for i in span]
    gaps = [pictures.difference(a, b) for a, b in zip(camera, predicted, strict=True)]
    captions = [f'{"> " if i == t else ""}{recording.seconds_T[i]:.2f} s' for i in span]
    rows = {'camera': camera, 'prediction': predicted, f'diff. x{pictures.DIFFERENCE_GAIN}': gaps}
    return pictures.sheet(rows, captions)


def _shown(recording: Recording, t: int) -> ImageArray:
    if recording.predicted_T[t]:
        return recording.prediction_THWC[t]
    return np.full_like(recording.camera_THWC[t], 128)


def side_by_side(recording: Recording) -> Iterator[ImageArray]:
    """Yield camera | prediction | difference for every frame, enlarged, with text above."""
    for t in range(len(recording.camera_THWC)):
        camera_HWC, predicted_HWC = recording.camera_THWC[t], _shown(recording, t)
        gap_HWC = pictures.difference(camera_HWC, predicted_HWC)
        panels = [pictures.enlarge(x, PANEL_PX) for x in (camera_HWC, predicted_HWC, gap_HWC)]
        width = panels[0].shape[1]
        texts = (
            f'camera  {recording.seconds_T[t]:6.2f} s',
            f'predicted {recording.horizon} frame(s) ahead'
            if recording.predicted_T[t]
            else 'no prediction',
            f'difference x{pictures.DIFFERENCE_GAIN}',
        )
        picture = np.vstack(
            [np.hstack([pictures.label(text, width) for text in texts]), np.hstack(panels)]
        )
        height, width = picture.shape[:2]
        yield np.ascontiguousarray(
            picture[: height // 2 * 2, : width // 2 * 2]
        )  # H.264 wants even


def write_report(
    out_dir: Path,
    summary: Mapping[str, Any],
    recording: Recording,
    title: str = TITLE,
    memory_text: str = '',
) -> Path:
    """Write `report.html` and `side_by_side.mp4` into `out_dir` and return the path of the page.

    Args:
        out_dir: made if missing.
        summary: figures of the run, nested dictionaries allowed; shown as they are.
        recording: frames and predictions.
        title: heading of the page.
        memory_text: what the memory curve shows, in a sentence.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    curves = quality_over_time(recording)
    figures = summarise(curves)
    pictures.write_video(out_dir / 'side_by_side.mp4', side_by_side(recording), recording.rate_hz)
    parts = [
        tiles(
            {
                'predictions': f'{int(recording.predicted_T.sum())}',
                'length': f'{recording.seconds_T[-1]:.1f} s at {recording.rate_hz:.1f} Hz',
                'PSNR, pixels that change': _against(figures, 'psnr_changed'),
                'PSNR, whole frame': _against(figures, 'psnr'),
            }
        )
    ]
    for text, t in choose_moments(recording, curves).items():
        strip = pictures.html_image(pictures.png(filmstrip(recording, t)), text)
        parts.append(f'<h2>{html.escape(text)}</h2>{strip}')
    parts.append(
        '<h2>Film</h2><video controls loop muted src="side_by_side.mp4"></video>'
        '<p>camera | prediction | difference: <code>side_by_side.mp4</code></p>'
    )
    parts.append(
        '<h2>Quality over time</h2>'
        + pictures.html_image(draw_curves(recording, curves), 'PSNR over time')
    )
    if machine := draw_machine(recording):
        parts.append(
            '<h2>Latency and memory</h2>'
            + pictures.html_image(machine, 'latency, memory')
            + f'<p>{html.escape(memory_text)}</p>'
        )
    parts.append('<h2>Summary</h2>' + table({**summary, 'pictures': figures}))
    path = out_dir / 'report.html'
    path.write_text(page(title, parts), encoding='utf-8')
    return path


def _against(figures: Mapping[str, float], key: str) -> str:
    if f'{key}_db' not in figures:
        return 'nothing moved'
    model, last = figures[f'{key}_db'], figures[f'{key}_copy_last_db']
    return f'{model:.1f} dB (copy of last frame {last:.1f})'


def write_report_from_bag(
    bag: str | Path,
    contract: StreamContract,
    out_dir: Path,
    summary: Mapping[str, Any],
    *,
    title: str = TITLE,
    topic: str = PREDICTION_TOPIC,
    horizon: int = 1,
    memory_bytes: Sequence[float] = (),
    memory_text: str = '',
    moments_ns: Mapping[str, int] | None = None,
) -> Path:
    """Read a bag (see `read_recording`) and write its report (see `write_report`)."""
    recording = read_recording(
        bag,
        contract,
        topic=topic,
        horizon=horizon,
        memory_bytes=memory_bytes,
        moments_ns=moments_ns,
    )
    return write_report(out_dir, summary, recording, title, memory_text)
