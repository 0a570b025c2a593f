"""Quality over the time of a recording: PSNR per frame beside a copy of the last, and plots.

In: a recording. Out: curves, medians, PNG.

Axes: T camera frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from wm_ros.evaluation import metrics, pictures
from wm_ros.evaluation.recording import Recording

FloatSeries = npt.NDArray[np.float64]


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
    whole.legend(loc='lower right', bbox_to_anchor=(1, 1), ncols=2, frameon=False)
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
            axis.set(xlabel='latency inside the node, ms', ylabel='predictions')
            axis.legend()
        else:
            mebibytes = np.asarray(recording.memory_bytes) / 2**20
            axis.plot(np.linspace(0, 100, len(mebibytes)), mebibytes, color='#0b6e99')
            axis.set(xlabel='run, %', ylabel='resident memory, MiB')
            axis.set_ylim(0, mebibytes.max() * 1.1)
            axis.grid(alpha=0.3)
    return pictures.figure_png(figure)
