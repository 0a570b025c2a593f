"""The report of one run: what the camera saw, what was predicted, and how well, to look at.

In: camera frames, the predictions of the same instants, a summary. Out: `report.html` (one file,
pictures inside) and `side_by_side.mp4`. Runs no model; `recording.py` gets the frames from a bag.

Axes: T time, H W pixels, C channels.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from wm_ros.datatypes import ImageArray
from wm_ros.evaluation import metrics, pictures
from wm_ros.evaluation.page import page, table, tiles

FloatSeries = npt.NDArray[np.float64]

STRIP_FRAMES = 9
PANEL_PX = 256


@dataclass(frozen=True)
class Recording:
    """Camera frames and, for each, the prediction of that instant.

    Attributes:
        camera_THWC: uint8 RGB [T, S, S, 3], after the contract's crop and resize.
        prediction_THWC: uint8 RGB [T, S, S, 3], row t shows what was predicted for row t of
            the camera; anything where `predicted_T` is False.
        predicted_T: bool [T], whether a prediction of that instant exists.
        stamps_ns_T: int64 [T], the camera's stamps, growing.
        horizon: frames between the newest observed frame and the predicted one.
        latency_ms: one entry per prediction: from reception of the frame to publication, ms.
        memory_bytes: resident memory of the node over the run, bytes; empty if not sampled.
        moments_ns: what to show besides the automatic choice: text -> stamp of the frame.
    """

    camera_THWC: ImageArray
    prediction_THWC: ImageArray
    predicted_T: npt.NDArray[np.bool_]
    stamps_ns_T: npt.NDArray[np.int64]
    horizon: int = 1
    latency_ms: Sequence[float] = ()
    memory_bytes: Sequence[float] = ()
    moments_ns: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {
            name: len(getattr(self, name))
            for name in ('camera_THWC', 'prediction_THWC', 'predicted_T', 'stamps_ns_T')
        }
        if len(set(lengths.values())) != 1:
            raise ValueError(f'a recording needs one entry per camera frame, found {lengths}')
        if self.camera_THWC.shape != self.prediction_THWC.shape:
            raise ValueError(
                f'camera frames {self.camera_THWC.shape} and predictions '
                f'{self.prediction_THWC.shape} differ in shape'
            )
        if not self.predicted_T.any():
            raise ValueError(f'{len(self.camera_THWC)} camera frames, prediction of none of them')

    @property
    def rate_hz(self) -> float:
        """Camera frames per second, from the median gap of the stamps."""
        if len(self.stamps_ns_T) < 2:
            return 1.0
        return 1e9 / float(np.median(np.diff(self.stamps_ns_T)))

    @property
    def seconds_T(self) -> FloatSeries:
        """Seconds since the first camera frame."""
        return np.asarray((self.stamps_ns_T - self.stamps_ns_T[0]) / 1e9, np.float64)


@dataclass(frozen=True)
class Curves:
    """Quality per frame, NaN where a frame has no prediction or nothing moved.

    Attributes:
        model_T, copy_last_T: PSNR in dB of the whole frame.
        model_changed_T, copy_last_changed_T: the same on the pixels that changed over the horizon.
        changed_T: share of pixels that changed over the horizon, 0 to 1.
    """

    model_T: FloatSeries
    copy_last_T: FloatSeries
    model_changed_T: FloatSeries
    copy_last_changed_T: FloatSeries
    changed_T: FloatSeries


def quality_over_time(recording: Recording) -> Curves:
    """Measure every prediction beside the copy of the newest frame that it was made from."""
    total, horizon = len(recording.camera_THWC), recording.horizon
    values = np.full((5, total), np.nan)
    for t in range(horizon, total):
        truth_HWC, last_HWC = recording.camera_THWC[t], recording.camera_THWC[t - horizon]
        prediction_HWC = recording.prediction_THWC[t]
        mask_HW = metrics.changed_mask(last_HWC, truth_HWC)
        values[4, t] = mask_HW.mean()
        if not recording.predicted_T[t]:
            continue
        values[:2, t] = metrics.psnr(prediction_HWC, truth_HWC), metrics.psnr(last_HWC, truth_HWC)
        if mask_HW.any():
            values[2, t] = metrics.psnr(prediction_HWC, truth_HWC, mask_HW)
            values[3, t] = metrics.psnr(last_HWC, truth_HWC, mask_HW)
    return Curves(*values)


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


def _smooth(values_T: FloatSeries, window: int) -> FloatSeries:
    """Median over a window, NaN left out; NaN where nothing is known."""
    padded = np.pad(values_T, window // 2, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, window)
    known = ~np.isnan(windows).all(-1)
    result = np.full(len(windows), np.nan)
    result[known] = np.nanmedian(windows[known], -1)
    return result[: len(values_T)]


def draw_curves(recording: Recording, curves: Curves) -> bytes:
    """Return PSNR over time, model against copy of the last frame, as PNG: median of a second."""
    window = max(3, round(recording.rate_hz)) // 2 * 2 + 1
    figure = Figure(figsize=(10, 5))
    whole, changed = figure.subplots(2, 1, sharex=True)
    seconds = recording.seconds_T
    for axis, model, last, text in (
        (whole, curves.model_T, curves.copy_last_T, 'whole frame'),
        (changed, curves.model_changed_T, curves.copy_last_changed_T, 'pixels that change'),
    ):
        for values, name, colour in (
            (model, 'prediction', '#0b6e99'),
            (last, 'copy of last frame', '#c0504d'),
        ):
            axis.plot(seconds, _smooth(values, window), color=colour, label=name)
        axis.set_ylabel(f'PSNR, dB\n{text}')
        axis.grid(alpha=0.3)
        for stamp_ns in recording.moments_ns.values():
            axis.axvline((stamp_ns - recording.stamps_ns_T[0]) / 1e9, color='#999', lw=0.8, ls=':')
    whole.legend(loc='lower right', ncols=2)
    changed.set_xlabel('time, s')
    return pictures.figure_png(figure)


def draw_machine(recording: Recording) -> bytes | None:
    """Return the latency histogram and the memory curve as PNG, None if neither was recorded."""
    wanted = [
        name
        for name, values in (('latency', recording.latency_ms), ('memory', recording.memory_bytes))
        if len(values)
    ]
    if not wanted:
        return None
    figure = Figure(figsize=(5 * len(wanted), 2.6))
    axes = np.atleast_1d(np.asarray(figure.subplots(1, len(wanted))))
    for axis, name in zip(axes, wanted, strict=True):
        if name == 'latency':
            latency = np.asarray(recording.latency_ms)
            axis.hist(latency, bins=60, color='#0b6e99')
            for share, style in ((50, '-'), (99, '--')):
                at = float(np.percentile(latency, share))
                axis.axvline(at, color='#222', ls=style, lw=1, label=f'p{share} {at:.1f} ms')
            axis.set(xlabel='latency, ms', ylabel='predictions')
            axis.legend()
        else:
            mebibytes = np.asarray(recording.memory_bytes) / 2**20
            axis.plot(np.linspace(0, 100, len(mebibytes)), mebibytes, color='#0b6e99')
            axis.set(xlabel='run, %', ylabel='resident memory, MiB')
            axis.set_ylim(0, mebibytes.max() * 1.1)
            axis.grid(alpha=0.3)
    return pictures.figure_png(figure)


def summarise(curves: Curves) -> dict[str, float]:
    """Return the medians of the curves, dB, and the share of frames that beat the copy."""
    both = ~np.isnan(curves.model_changed_T)
    figures = {
        'psnr_db': float(np.nanmedian(curves.model_T)),
        'psnr_copy_last_db': float(np.nanmedian(curves.copy_last_T)),
    }
    if both.any():
        model, last = curves.model_changed_T[both], curves.copy_last_changed_T[both]
        figures |= {
            'psnr_changed_db': float(np.median(model)),
            'psnr_changed_copy_last_db': float(np.median(last)),
            'share_better_than_copy': float((model > last).mean()),
        }
    return figures


def write_report(
    out_dir: Path,
    summary: Mapping[str, Any],
    recording: Recording,
    title: str = 'wm_ros: camera and prediction',
) -> Path:
    """Write `report.html` and `side_by_side.mp4` into `out_dir` and return the path of the page.

    Args:
        out_dir: made if missing.
        summary: figures of the run, nested dictionaries allowed; shown as they are.
        recording: frames and predictions.
        title: heading of the page.
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
            '<h2>Latency and memory</h2>' + pictures.html_image(machine, 'latency, memory')
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
