"""The readable card of a model package, for `wm inspect`: what it is, whether it is whole, whether
engines agree.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from wm_ros import parity, parity_long
from wm_ros.backends import EngineUnavailable, resolve_backend
from wm_ros.model_package import ModelPackage, PackageError, find_package

ENGINES = ('onnxruntime', 'openvino', 'cuda')


def inspect_package(path: str | Path, check: bool = False, console: Console | None = None) -> int:
    """Print a package's card; with `check`, compare every engine that runs here with PyTorch.

    Returns:
        0 when everything holds, 1 when the package is refused, an engine disagrees or none runs.
    """
    console = console or Console()
    try:
        package = ModelPackage.load(find_package(str(path)))
        console.print(card(package))
        if not check:
            return 0
        reports, skipped = check_engines(package)
    except (PackageError, EngineUnavailable) as error:
        console.print(f'[red]refused[/red] {error}', soft_wrap=True, highlight=False)
        return 1
    for line in skipped:
        console.print(f'not checked: {line}', soft_wrap=True, highlight=False, markup=False)
    for report in reports:
        console.print(str(report), soft_wrap=True, highlight=False)
    return 0 if all(report.ok for report in reports) else 1


def check_engines(package: ModelPackage) -> tuple[list[parity.ParityReport], list[str]]:
    """Compare engines with what PyTorch gave: every one in fp32 on the short sample and over 200
    observed frames, then the one that `auto` takes, in its own precision, on the short sample.

    Returns:
        The reports, and for each engine that cannot run here its name and why.

    Raises:
        EngineUnavailable: none can run here.
        PackageError: the stored samples cannot be used.
    """
    reports: list[parity.ParityReport] = []
    skipped: list[str] = []
    for kind in ENGINES:
        try:
            backend = resolve_backend(kind, package, precision='fp32')
        except EngineUnavailable as error:
            skipped.append(str(error))
            continue
        reports.append(parity.check_sample(package, backend))
        reports.append(parity_long.check_long(package, backend))
    reports.append(parity.check_sample(package, resolve_backend('auto', package)))
    return reports, skipped


def card(package: ModelPackage) -> Table:
    """Return the card as a table of rows."""
    manifest, model = package.manifest, package.model
    provenance, goal_db = manifest.provenance, manifest.planning.goal_db
    table = Table('', package.name, show_lines=False)
    steps = ', '.join(f'{step:g}' for step in manifest.sampler.steps)
    entries = ', '.join(
        f'{e.name} [{e.low:g}, {e.high:g}] {e.unit}' for e in manifest.contract.entries
    )
    total = sum(package.graph_path(graph).stat().st_size for graph in manifest.graphs)
    graphs = ', '.join(
        f'{graph} {package.graph_path(graph).stat().st_size / 1e6:.2f} MB'
        for graph in manifest.graphs
    )
    memory = ', '.join(f'{spec.name} {list(spec.shape)}' for spec in manifest.memory)
    for name, text in (
        ('directory', str(package.path)),
        ('sha256', package.sha256),
        ('licence', manifest.licence),
        (
            'provenance',
            f'{provenance.command} at {provenance.commit}, {provenance.date}',
        ),
        ('arm', model.arm),
        (
            'frame',
            f'{model.image_size} x {model.image_size} px, latent {list(model.latent_shape)}',
        ),
        ('trunk', f'{model.layers} layers of width {model.width}, {model.tokens} tokens'),
        (
            'sampler',
            f'{len(manifest.sampler.steps)} steps at {steps}, {manifest.sampler.noise} noise',
        ),
        ('memory', f'{manifest.state_bytes} bytes: {memory}'),
        ('contract', f'{manifest.contract.name} at {manifest.contract.rate_hz:g} Hz'),
        ('actions', entries),
        ('graphs', f'{graphs}; {total / 1e6:.2f} MB'),
        (
            'planning',
            f'sub-batches of {manifest.planning.batch}, uncertainty '
            + ('calibrated' if manifest.planning.uncertainty else 'not calibrated')
            + ('' if goal_db is None else f', goal pictures from {goal_db:g} dB'),
        ),
        ('renderer', manifest.renderer or 'none'),
    ):
        table.add_row(name, text)
    return table
