"""`make demo`: simulator as a robot, world model and recorder on real ROS 2, for one episode.

    python -m wm_ros.nodes.demo --out out/demo

Leaves summary.json, report.html, side_by_side.mp4 and the bag. No display, no GPU, no PyTorch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from wm_ros.config import SimNodeConfig
from wm_ros.evaluation.recording import recall_moments
from wm_ros.model_package import ModelPackage, find_package
from wm_ros.nodes.rehearsal import Rehearsal, run
from wm_ros.nodes.sim_node import episode

RATE_HZ = 25.0


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return the exit status, see `rehearsal.run`."""
    defaults = SimNodeConfig()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=Path('out/demo'))
    parser.add_argument('--package', default='tabletop_small', help='directory or shipped name')
    parser.add_argument('--backend', default='auto')
    parser.add_argument('--kind', default=defaults.kind)
    parser.add_argument('--seed', type=int, default=defaults.seed)
    parser.add_argument('--frames', type=int, default=0, help='0 plays the episode to its end')
    given = parser.parse_args(arguments)
    return run('demo', lambda: plan(given))


def plan(given: argparse.Namespace) -> Rehearsal:
    """Choose package and episode.

    Raises:
        PackageError, ValueError: there is no such package or episode.
    """
    package = ModelPackage.load(find_package(given.package))
    played, frames = episode(given.kind, given.seed, given.frames)
    return Rehearsal(
        out=given.out,
        package=package.path,
        contract=package.manifest.contract,
        source='sim',
        source_parameters={
            'kind': given.kind,
            'seed': given.seed,
            'frames': given.frames,
            'truth_file': str(given.out.resolve() / 'truth.jsonl'),
        },
        frames=frames,
        rate_hz=RATE_HZ,
        title=f'Table-top, {given.kind} episode {given.seed}',
        model_parameters={'backend': given.backend},
        moments=lambda stamps_ns: recall_moments(played, stamps_ns),
    )


if __name__ == '__main__':
    raise SystemExit(main())
