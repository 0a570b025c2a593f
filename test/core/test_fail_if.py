"""Conditions of a replay: what can be said, what they are held against, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from replay_bags import contract, metrics_of, wm_replay, write_bag

from wm_ros.evaluation import replay_figures, replay_run
from wm_ros.evaluation.fail_if import ConditionError, judge, parse
from wm_ros.evaluation.replay_baseline import with_baseline
from wm_ros.evaluation.replay_figures import bounds_of
from wm_ros.toy_package import write_toy_package

METRICS: dict[str, Any] = {
    'packages': {'model': {'not_finite': 0}, 'second': {'not_finite': 0}},
    'one_step': {'psnr': {'model': 20.0, 'copy_last': 15.0}, 'sharpness': {'model': 0.8}},
    'by_horizon': {
        'psnr': {
            'model': {'5': 18.0, '25': 12.0},
            'copy_last': {'5': 14.0, '25': 13.0},
            'hold_last': {'5': 17.0},
            'second': {'5': 19.0},
        },
        'perceptual': {'model': {'5': 0.4}, 'copy_last': {'5': 0.5}},
        'delta_hold': {'model': {'10': -0.5}},
    },
    'free_running': {'psnr': {'model': {'5s': 11.0, '60s': None}, 'copy_last': {'5s': 10.0}}},
    'by_lag': {
        'distinct': {
            '125-250': {'cells': 4, 'model': 16.0, 'copy_last': 9.0},
            '>1500': {'cells': 0},
        }
    },
}


@pytest.mark.parametrize(
    ('text', 'failed'),
    [
        ('psnr@25 < copy_last', True),
        ('psnr@5 < copy_last', False),
        ('psnr<=copy_last', False),
        ('psnr@5<=second', True),
        ('psnr@5 < hold_last', False),
        ('perceptual@5 > 0.9*copy_last', False),
        ('perceptual@5 > .7 * copy_last', True),
        ('perceptual@5 > .4', False),
        ('perceptual@5 >= 4e-1', True),
        ('delta_hold@10 < 0', True),
        ('delta_hold@10 < -1', False),
        ('psnr@5s < copy_last', False),
        ('recall@250 < copy_last', False),
        ('recall@126 > 15.5', True),
        ('sharpness < 0.7', False),
    ],
)
def test_conditions_hold_or_not(text: str, failed: bool) -> None:
    assert judge(parse(text), METRICS).failed is failed


@pytest.mark.parametrize(
    'text', ['psnr@60s < 1', 'recall@1501 < 1', 'psnr@25 < second', 'psnr@7 < 1']
)
def test_what_was_not_measured_counts_as_failed(text: str) -> None:
    judgement = judge(parse(text), METRICS)
    assert judgement.failed and str(judgement) == f'FAILED {text}: not measured'


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('', 'such as "psnr@25 < copy_last"'),
        ('psnr@25 = 3', 'operators: <= >= < >'),
        ('psnr@25 < copy_last or ssim@5 < 1', 'bounds: a number'),
        ('__import__ < 1', 'psnr, psnr_whole, ssim'),
        ('speed < 1', 'metric speed is none of psnr, psnr_whole'),
        ('psnr@26 < 1', 'psnr@25, psnr@5s'),
        ('ssim@2 < 1', 'ssim, ssim@1, ssim@5, ssim@10, ssim@25, ssim@5s'),
        ('sharpness@5 < 1', 'known are sharpness'),
        ('delta_hold < 1', 'known are delta_hold@1'),
        ('recall < 1', 'recall@250'),
        ('recall@24 < 1', 'from 25 on'),
        ('psnr@5s < hold_last', 'psnr@5s is not measured for hold_last; known are copy_last'),
        ('ssim@10 < shifted', 'ssim@10 is not measured for shifted'),
        ('psnr < hold_last', 'psnr is not measured for hold_last; known are copy_last, second, b'),
        ('psnr_whole@5 > 2*shifted', 'psnr_whole@5 is not measured for shifted'),
        ('recall@250 < hold_last', 'recall@250 is not measured for hold_last'),
        ('delta_hold@10 < copy_last', 'for copy_last; known are second, baseline'),
        ('delta_shifted@10 < hold_last', 'for hold_last; known are second, baseline'),
        ('psnr@5 < second_last', 'none of copy_last, second, baseline, hold_last, shifted'),
    ],
)
def test_what_cannot_be_read_is_told_with_what_is_known(text: str, words: str) -> None:
    with pytest.raises(ConditionError) as error:
        parse(text)
    assert words in str(error.value)


def test_no_condition_passes_where_an_output_was_not_finite() -> None:
    """Bounds that hold over what is left say nothing about what is not."""
    hurt = METRICS | {'packages': {'model': {'not_finite': 3}, 'second': {'not_finite': 0}}}
    judgement = judge(parse('psnr@5 < copy_last'), hurt)
    assert judgement.failed
    assert str(judgement) == (
        'FAILED psnr@5 < copy_last: 18 against 14, and 3 outputs of model were not finite'
    )
    assert '3 outputs of model' in str(judge(parse('psnr@60s < 1'), hurt))
    other = METRICS | {'packages': {'model': {'not_finite': 0}, 'second': {'not_finite': 2}}}
    assert judge(parse('psnr@5 < copy_last'), other).failed, 'its futures fell out for all'
    former = {'model': {'not_finite': 0}, 'baseline': {'not_finite': 1}}
    earlier = METRICS | {'packages': former, 'by_horizon': METRICS['by_horizon'] | {
        'psnr': METRICS['by_horizon']['psnr'] | {'baseline': {'5': 1.0}}}}  # fmt: skip
    assert judge(parse('psnr@5 < baseline'), earlier).failed
    assert not judge(parse('psnr@5 < copy_last'), earlier).failed, 'another run'


def test_every_condition_that_is_taken_can_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `bounds_of` names is in the metrics of a run that is long enough, and no more."""
    monkeypatch.setattr(replay_run, 'write_page', lambda path, *_: path.write_text('page'))
    bag, out = write_bag(tmp_path / 'bag', 180), tmp_path / 'out'
    package = write_toy_package(tmp_path / 'toy', contract()).path
    assert wm_replay(bag, package, out, '--compare', str(package)) == 0
    metrics = with_baseline(metrics_of(out), metrics_of(out))
    left_out = {'perceptual', 'perceptual_whole'} if metrics['left_out'] else set()
    for metric in set(replay_figures.KNOWN) - {replay_figures.RECALL} - left_out:
        for place in set(replay_figures.places_of(metric)) - {'10s', '30s', '60s'}:
            measured = {
                who
                for who, value in replay_figures.values_of(metrics, metric, place).items()
                if value is not None
            }
            assert measured - {'model'} == set(bounds_of(metric, place)), (metric, place)
