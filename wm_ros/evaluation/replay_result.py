"""What a replay found, as plain values for `metrics.json` and `timing.json`.

In: a finished replay and where it came from. Out: dictionaries. `metrics` holds no time of day and
no duration, and no path but in an error's text, so the same bag, packages and seed give the same
bytes; `timing` holds the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wm_ros.evaluation import machine
from wm_ros.evaluation.replay import STAGES, Replay
from wm_ros.evaluation.replay_contender import Contender
from wm_ros.evaluation.replay_moments import Strip
from wm_ros.evaluation.replay_one_step import CURVES
from wm_ros.evaluation.replay_tally import rounded

FORMAT = 2  # 2: all means over what every contender has; `not_finite` in every part
PERCENTILES = (50, 90, 99)
WARM_SHARE = 0.2  # of the bag, after which resident memory is judged


@dataclass(frozen=True)
class Origin:
    """Where a replay came from.

    Attributes:
        bag: name of the bag, without its folder.
        seed: of the noise.
        counts: of the synchroniser.
        error: what ended the bag early; None when it was read to the end.
        faults: that were put into the bag on purpose, as `replay_faults.faults_of`.
    """

    bag: str
    seed: int
    counts: Mapping[str, int]
    error: str | None = None
    faults: Mapping[str, Any] | None = None


def metrics(replay: Replay, origin: Origin) -> dict[str, Any]:
    """Return the content of `metrics.json`."""
    return {
        'format': FORMAT,
        'complete': origin.error is None,
        'error': origin.error,
        'bag': origin.bag,
        'contract': replay.contract.name,
        'rate_hz': rounded(replay.contract.rate_hz),
        'seed': origin.seed,
        'packages': {one.name: _package(one) for one in replay.contenders},
        'steps': replay.steps,
        'missing': replay.missing,
        'resets': dict(replay.resets),
        'left_out': list(replay.left_out),
        'counts': {name: count for name, count in sorted(origin.counts.items()) if count},
        'faults': origin.faults,
        'one_step': replay.one_step.results(),
        'by_horizon': {
            **replay.horizons.results(),
            'anchors_broken_off': replay.futures.broken_off,
            'not_finite': replay.futures.not_finite,
        },
        'free_running': replay.marks.results(replay.free),
        'by_lag': replay.lags.results(),
        'memory': {who: _norms(replay, who) for who in replay.norms},
        'over_time': _over_time(replay),
        'worst': [_worst(strip) for strip in replay.moments.worst],
    }


def timing(replay: Replay, seconds: float, command: str) -> dict[str, Any]:
    """Return the content of `timing.json`."""
    times, parts = replay.timing.times, range(replay.timeline.parts)
    return {
        'command': command,
        'commit': machine.commit(),
        'machine': machine.describe(),
        'seconds': rounded(seconds, 2),
        'bag_seconds': rounded(replay.steps / replay.contract.rate_hz, 2),
        'latency_ms': {
            one.name: {
                stage: {
                    f'p{percent}': rounded(times[one.name, stage].percentile(percent))
                    for percent in PERCENTILES
                }
                for stage in STAGES
                if (one.name, stage) in times
            }
            for one in replay.contenders
        },
        'over_time': {
            'step': replay.timeline.middles(),
            **{f'{stage}_ms': replay.timing.curves.series(stage, parts) for stage in STAGES},
        },
        'rss': _rss(replay),
    }


def text(values: Mapping[str, Any]) -> str:
    """Return values as JSON in their order, so horizons rise; NaN is refused."""
    return json.dumps(values, indent=1, allow_nan=False) + '\n'


def _package(contender: Contender) -> dict[str, Any]:
    package, backend = contender.model.package, contender.model.backend
    return {
        'name': package.name,
        'sha256': package.sha256,
        'engine': f'{backend.name} {backend.precision}',
        'not_finite': contender.not_finite,
    }


def _norms(replay: Replay, who: str) -> dict[str, Any]:
    norms = replay.norms[who]
    return {
        'bytes': norms.state_bytes,
        'norm_first': rounded(norms.first),
        'norm_last': rounded(norms.last),
        'norm_largest': rounded(norms.largest),
    }


def _over_time(replay: Replay) -> dict[str, Any]:
    parts = range(replay.timeline.parts)
    curves = {name: replay.one_step.curves.series(name, parts) for name in CURVES}
    norms = replay.norm_curves.series('memory_norm', parts)
    return {'step': replay.timeline.middles(), **curves, 'memory_norm': norms}


def _worst(strip: Strip) -> dict[str, Any]:
    return {
        'step': strip.number,
        'stamp_ns': strip.stamp_ns,
        'psnr': rounded(strip.verdict.psnr_db),
        'psnr_copy_last': rounded(strip.verdict.copy_db),
        'changed_share': rounded(strip.verdict.changed_share),
    }


def _rss(replay: Replay) -> dict[str, Any]:
    readings = replay.timing.rss_bytes
    warm = [(done, rss) for done, rss in readings if done >= WARM_SHARE * replay.steps]
    slope = machine.bytes_per_frame(*zip(*warm, strict=True)) if len(warm) > 2 else None
    return {
        'step': [done for done, _ in readings],
        'bytes': [rss for _, rss in readings],
        'slope_bytes_per_step': rounded(slope, 2),
    }
