"""`make demo-real`: a real robot's recording played into the world model over real ROS 2.

    python -m wm_ros.nodes.demo_real --bag ../shared/data/g1_bottle/episode_001 --out out/demo_real

The bag's messages are re-stamped to now, so that the node sees a live robot. Leaves the same files
as the demo. The episode should be one that the package was not trained on: the package is that of
`python -m training.main real --quick`, which has a folder of its own beside that of `wm train`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from wm_ros import share
from wm_ros.bag.read import bag_info
from wm_ros.contract import StreamContract, find_contract
from wm_ros.model_package import ModelPackage, find_package
from wm_ros.nodes.rehearsal import Rehearsal, run

HELD_OUT = 'episode_001'  # what `training.main real` does not train on
PACKAGE = 'out/demo_real/train/packages/g1_bottle'  # where it leaves its package


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return the exit status, see `rehearsal.run`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=Path('out/demo_real'))
    held_out = share.g1_bottle() / HELD_OUT
    parser.add_argument('--bag', type=Path, default=held_out, help='episode to play')
    parser.add_argument('--package', default=PACKAGE)
    parser.add_argument('--contract', default='', help='name or file (default: in the package)')
    parser.add_argument('--backend', default='auto')
    given = parser.parse_args(arguments)
    return run('demo_real', lambda: plan(given))


def plan(given: argparse.Namespace) -> Rehearsal:
    """Choose package and bag.

    Raises:
        PackageError, ValueError: one of them is missing, or the bag has not got the topics.
    """
    package = ModelPackage.load(find_package(given.package))
    contract = package.manifest.contract
    if given.contract:
        contract = StreamContract.load(find_contract(given.contract))
    info = bag_info(given.bag)
    camera = contract.camera.topic
    counts = {topic.name: topic.messages for topic in info.topics}
    if missing := sorted(set(contract.topics) - set(counts)):
        raise ValueError(f'{given.bag} has no {", ".join(missing)}, which the contract names')
    return Rehearsal(
        out=given.out,
        package=package.path,
        contract=contract,
        source='player',
        source_parameters={
            'bag': str(given.bag.resolve()),
            'camera': camera,
            'topics': tuple(contract.topics),
        },
        frames=counts[camera],
        rate_hz=contract.rate_hz,
        title=f'{contract.name}, {given.bag.name}',
        model_parameters={'backend': given.backend, 'contract': given.contract},
    )


if __name__ == '__main__':
    raise SystemExit(main())
