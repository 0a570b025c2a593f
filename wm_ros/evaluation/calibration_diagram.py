"""The reliability diagram of a calibration: what was expected against what came, and by horizon.

Axes: N samples.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wm_ros.evaluation import pictures
from wm_ros.evaluation.calibration_scores import (
    Outcome,
    expected_errors,
    judged_samples,
    reliability,
    values,
)

EXPECTED, SPREAD, COPY, TRUE = '#0b6e99', '#c0504d', '#bab0ac', '#212529'


def draw(outcome: Outcome, title: str) -> bytes:
    """Return the diagram of the judged half as PNG.

    Left: expected against true error, each sample a point, each bin of the calibration error a
    mark. Middle: errors and expectations by horizon. Right: rank correlations by horizon.
    """
    figure = Figure(figsize=(14, 4.8), layout='constrained')
    bins, errors, ranks = figure.subplots(1, 3)
    _draw_bins(bins, outcome)
    _draw_errors(errors, outcome)
    _draw_ranks(ranks, outcome)
    figure.suptitle(
        f'{title}: {outcome.overall.samples} samples on held-out bags, '
        f'{outcome.calibration.draws} draws',
        fontsize=11,
    )
    return pictures.figure_png(figure)


def _draw_bins(axes: Axes, outcome: Outcome) -> None:
    samples = judged_samples(outcome.samples)
    error = values(samples, 'error')
    expected = expected_errors(samples, outcome.calibration)
    colours = np.log2(values(samples, 'horizon'))
    axes.scatter(expected, error, c=colours, s=5, alpha=0.35, cmap='viridis', lw=0)
    score = outcome.overall
    for name, predicted, colour, mark, ece in (
        ('spread as it is', values(samples, 'spread'), SPREAD, 's', score.spread_ece_relative),
        ('calibrated', expected, EXPECTED, 'o', score.ece_relative),
    ):
        label = f'{name}: calibration error {100 * ece:.1f}%'
        axes.plot(*reliability(predicted, error), mark, color=colour, mec='w', ms=8, label=label)
    top = float(max(np.quantile(error, 0.995), expected.max())) * 1.05
    axes.plot([0, top], [0, top], color=TRUE, lw=1, ls=':')
    axes.set(xlim=(0, top), ylim=(0, top))
    axes.set(xlabel='expected RMS error of the latent', ylabel='true RMS error of the latent')
    axes.set_title('marks: bins of equal size; points: samples, the lighter the further ahead')
    _finish(axes)


def _draw_errors(axes: Axes, outcome: Outcome) -> None:
    horizons = list(outcome.by_horizon)
    for name, what, colour, style in (
        ('last frame repeated', 'copy_error', COPY, 's-'),
        ('true error', 'error', TRUE, 'o-'),
        ('calibrated uncertainty', 'expected', EXPECTED, 'D--'),
        ('error of the mean of the draws', 'centre_error', '#59a14f', 'x-'),
        ('spread', 'spread', SPREAD, 's-'),
    ):
        means = [getattr(score, what) for score in outcome.by_horizon.values()]
        axes.plot(horizons, means, style, color=colour, ms=5, label=name)
    axes.set_ylim(bottom=0)
    axes.set(xlabel='frames ahead', ylabel='mean, in units of the latent', title='by horizon')
    axes.set_xticks(horizons)
    _finish(axes)


def _draw_ranks(axes: Axes, outcome: Outcome) -> None:
    horizons = list(outcome.by_horizon)
    for name, what, colour, style in (
        ('with the true error', 'rank', EXPECTED, 'D-'),
        ('with the error of the mean of the draws', 'centre_rank', '#59a14f', 'x-'),
    ):
        ranks = [getattr(score, what) for score in outcome.by_horizon.values()]
        overall = getattr(outcome.overall, what)
        axes.plot(horizons, ranks, style, color=colour, ms=5, label=f'{name}; all {overall:.2f}')
    axes.axhline(0, color=TRUE, lw=1, ls=':')
    axes.set(ylim=(-0.2, 1.02), xlabel='frames ahead', ylabel="Spearman's rank correlation")
    axes.set_title('calibrated uncertainty, within one horizon')
    axes.set_xticks(horizons)
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.title.set_fontsize(9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
