"""`make demo`: simulator as a robot, world model and recorder on real ROS 2, for one episode.

    python -m wm_ros.nodes.demo --out out/demo

Leaves summary.json, report.html, side_by_side.mp4 and the bag. No display, no GPU, no PyTorch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from wm_ros.config import SimNodeConfig
from wm_ros.model_package import ModelPackage, PackageError, find_package
from wm_ros.nodes.processes import ProcessFailed
from wm_ros.nodes.rehearsal import Rehearsal, rehearse, show
from wm_ros.nodes.sim_node import episode
from wm_ros.sim.plan import EpisodePlan

RATE_HZ = 25.0


def reveals(plan: EpisodePlan, stamps_ns: list[int]) -> Mapping[str, int]:
    """Return the frames in which something long hidden shows again: text -> stamp."""
    tests = sorted(plan.tests, key=lambda test: test.lag)
    return {
        f'{test.fact} uncovered, last seen {test.lag / RATE_HZ:.0f} s before': stamps_ns[
            test.scored_frame
        ]
        for test in tests
        if test.scored_frame < len(stamps_ns)
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return the exit status."""
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
    console = Console()
    try:
        package = ModelPackage.load(find_package(given.package))
        plan, frames = episode(given.kind, given.seed, given.frames)
        rehearsal = Rehearsal(
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
            moments=lambda stamps_ns: reveals(plan, stamps_ns),
        )
        summary = rehearse(rehearsal, console)
    except (PackageError, ProcessFailed, ValueError) as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    show(summary, given.out, console)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
