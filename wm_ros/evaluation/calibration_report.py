"""`wm calibrate`: a package's uncertainty fitted and judged on held-out bags, for people to see.

In: a package and bags. Out: a table, `calibration.json`, `reliability.png` and, where asked for,
the calibration and the bar of goal pictures in the package's manifest.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from wm_ros import share
from wm_ros.backends import resolve_backend
from wm_ros.bag import bag_info
from wm_ros.contract import StreamContract, find_contract
from wm_ros.evaluation import machine
from wm_ros.evaluation.calibration import Plan, calibrate, check_bags
from wm_ros.evaluation.calibration_diagram import draw
from wm_ros.evaluation.calibration_goals import goal_bar
from wm_ros.evaluation.calibration_scores import Outcome, Score, part_of
from wm_ros.manifest import Calibration, Manifest
from wm_ros.model_package import MANIFEST, ModelPackage, PackageError, find_package
from wm_ros.world_model import WorldModel

COLUMNS = (
    *('ahead', 'N', 'true\nerror', 'expec-\nted', 'spread', 'copy\nlast'),
    *('ECE', 'ECE\nspread', 'rank', 'rank\nspread', 'rank\ncentre'),
)
JSON, PNG = 'calibration.json', 'reliability.png'


def run(
    package_name: str,
    bags: Sequence[Path],
    plan: Plan,
    out: Path,
    *,
    write: bool = False,
    contract: str = '',
    backend: str = 'auto',
    command: str = '',
    console: Console | None = None,
) -> int:
    """Calibrate, print, and write the files; everything that can be refused is refused first.

    Args:
        package_name: name or directory.
        bags: fitted on the first, third, ..., judged on the others.
        plan: what is measured.
        out: folder of the two files, made if missing.
        write: put the calibration into the manifest.
        contract: of the bags, by name or file; the package's own when empty.
        backend: engine, as `resolve_backend`.
        command: for the JSON file.
        console: to print to.

    Returns:
        0.

    Raises:
        PackageError: no such package, damaged, or one that cannot be written to.
        EngineUnavailable: the engine does not run here.
        ValueError: fewer than two bags, bags that cannot be used, a contract that does not fit.
        OSError: the files cannot be written.
    """
    console = console or Console()
    check_bags(bags)
    package = ModelPackage.load(find_package(package_name))
    if write:
        check_writable(package)
    streams = package.manifest.contract
    if contract:
        streams = StreamContract.load(find_contract(contract))
        streams.require_fit(package.manifest.contract)
    for bag in bags:
        bag_info(bag)
    model = WorldModel(package, resolve_backend(backend, package))
    out.mkdir(parents=True, exist_ok=True)
    listed: list[dict[str, Any]] = []

    def told(number: int, anchors: int) -> None:
        listed.append({'bag': str(bags[number]), 'part': part_of(number), 'anchors': anchors})
        _say(console, f'{part_of(number):5}  {bags[number]}: {anchors} anchors')

    began_s = time.monotonic()
    outcome = calibrate(model, streams, bags, plan, told)
    goals = goal_bar(model, streams, bags, plan.every)
    figures = {
        'command': command,
        'commit': machine.commit(),
        'machine': machine.describe(),
        'seconds': round(time.monotonic() - began_s, 1),
        'package': {'name': package.name, 'sha256': package.sha256},
        'engine': f'{model.backend.name} {model.backend.precision}',
        'contract': streams.name,
        'plan': asdict(plan),
        'bags': listed,
        **figures_of(outcome),
        'goals': asdict(goals),
    }
    (out / JSON).write_text(json.dumps(figures, indent=1, allow_nan=False) + '\n')
    (out / PNG).write_bytes(draw(outcome, f'{package.name}, {figures["engine"]}'))
    console.print(table(outcome))
    for line in (*notes(outcome), str(goals)):
        _say(console, line)
    _say(console, f'look at {out / PNG}; all figures: {out / JSON}')
    if write:
        write_calibration(package, outcome.calibration, goals.goal_db)
        _say(
            console,
            f'written to {package.path / MANIFEST}: it names the package anew, so memories saved '
            'before are no longer accepted',
        )
    return 0


def figures_of(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome for JSON; ranks that do not exist are null."""
    return {
        'calibration': outcome.calibration.to_dict(),
        'judged': {
            'overall': _score_json(outcome.overall),
            'by_horizon': {str(h): _score_json(score) for h, score in outcome.by_horizon.items()},
        },
        'fitted': _score_json(outcome.fitted),
    }


def table(outcome: Outcome) -> Table:
    """Return the scores on the judged half, one row per horizon and one for all of them."""
    shown = Table(
        title='held-out bags, RMS error of the latent', box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for name in COLUMNS:
        shown.add_column(name, justify='right', no_wrap=True)
    last = list(outcome.by_horizon)[-1]
    for horizon, score in outcome.by_horizon.items():
        shown.add_row(str(horizon), *_cells(score), end_section=horizon == last)
    shown.add_row('all', *_cells(outcome.overall))
    return shown


def notes(outcome: Outcome) -> list[str]:
    """Return what a reader of the table should know."""
    calibration, overall, fitted = outcome.calibration, outcome.overall, outcome.fitted
    return [
        f'expected calibration error {overall.ece:.4f} ({_percent(overall.ece_relative)} of the '
        f'mean error), rank correlation with the true error {_rank(overall.rank)}, '
        f'{overall.samples} samples; the spread as it is: {overall.spread_ece:.4f} '
        f'({_percent(overall.spread_ece_relative)}), {_rank(overall.spread_rank)}; on the '
        f'{fitted.samples} samples of the fit: {fitted.ece:.4f} '
        f'({_percent(fitted.ece_relative)}), {_rank(fitted.rank)}',
        f'fitted for {calibration.draws} draws: error = offset + scale * spread; '
        + ', '.join(
            f'{h} ahead {offset:.3f} + {scale:.2f} s'
            for h, offset, scale in zip(
                calibration.horizons, calibration.offset, calibration.scale, strict=True
            )
        ),
        'rank centre: with the error of the mean of the draws, which the spread is no part of',
    ]


def check_writable(package: ModelPackage) -> None:
    """Refuse a package that is installed (the next installation would undo it) or read-only.

    Raises:
        PackageError: as said.
    """
    place = package.path / MANIFEST
    _, *installed = share.folders('packages', 'wm_ros/packages')
    if any(package.path.is_relative_to(folder.resolve()) for folder in installed):
        raise PackageError(
            f'{package.path} is an installed copy: calibrate the package that it was installed '
            'from, then install again'
        )
    if not (os.access(package.path, os.W_OK) and os.access(place, os.W_OK)):
        raise PackageError(f'{place} cannot be written to; leave --write away or use a copy')


def write_calibration(package: ModelPackage, calibration: Calibration, goal_db: float) -> None:
    """Put a calibration and the bar of goal pictures into the manifest, whole or not at all;
    nothing else in it changes.

    Raises:
        PackageError: as `check_writable`, or the manifest is no longer the one that was loaded.
        OSError: the file cannot be written.
    """
    check_writable(package)
    place = (package.path / MANIFEST).resolve()
    raw = place.read_bytes()
    if hashlib.sha256(raw).hexdigest() != package.sha256:
        raise PackageError(
            f'{place} changed while it was calibrated: the calibration is of another model'
        )
    values = json.loads(raw)
    values['planning'] |= {'uncertainty': calibration.to_dict(), 'goal_db': goal_db}
    Manifest.from_dict(values)  # what a robot would refuse is not written
    beside = place.with_name(f'.{place.name}.{os.getpid()}')
    try:
        with beside.open('w') as file:
            file.write(json.dumps(values, indent=1) + '\n')
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(place, beside)
        beside.replace(place)
    finally:
        beside.unlink(missing_ok=True)


def _score_json(score: Score) -> dict[str, float | None]:
    return {name: None if math.isnan(x) else x for name, x in asdict(score).items()}


def _cells(score: Score) -> list[str]:
    numbers = (score.error, score.expected, score.spread, score.copy_error)
    ranks = (score.rank, score.spread_rank, score.centre_rank)
    return [
        str(score.samples),
        *(f'{number:.3f}' for number in numbers),
        _percent(score.ece_relative),
        _percent(score.spread_ece_relative),
        *map(_rank, ranks),
    ]


def _percent(share_of_error: float) -> str:
    return f'{100 * share_of_error:.1f}%'


def _rank(rank: float) -> str:
    return '-' if math.isnan(rank) else f'{rank:.2f}'


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
