"""`wm import lerobot` and `wm export lerobot`: arguments and output, for `wm_ros/lerobot`."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path


def import_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `wm import lerobot`."""
    add = parser.add_argument
    add('dataset', type=Path, help='folder of a dataset v2.1 or v3.0, the one with meta/')
    add('--out', type=Path, required=True, help='folder of the bags to write')
    add('--camera', action='append', default=[], metavar='KEY', help='again for more (all)')
    add('--episodes', default='', metavar='A:B', help='from A up to but not with B (all)')
    add('--image-size', type=int, default=64, metavar='PX', help='of the contract, default 64')


def import_lerobot(options: argparse.Namespace) -> int:
    """Write bags and a contract."""
    _require_pyarrow()
    from wm_ros.lerobot import Dataset, import_dataset

    dataset = Dataset(options.dataset)
    info = dataset.info
    print(
        f'{options.dataset}: LeRobot {info.version}, {len(dataset)} episodes, {info.frames} '
        f'frames, {info.fps:g} Hz, {info.action.width} action entries'
    )
    done = import_dataset(
        dataset,
        options.out,
        cameras=options.camera,
        episodes=_episodes(options.episodes, len(dataset)),
        image_size=options.image_size,
        on_bag=_tell,
    )
    print(f'{options.out}: {len(done.bags)} bags, {done.frames} frames; contract {done.contract}')
    return 0


def export_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `wm export lerobot`."""
    add = parser.add_argument
    add('bags', nargs='+', type=Path, metavar='bag', help='one or more episodes each')
    add('--contract', required=True, help='contract, by name or file')
    add('--out', type=Path, required=True, help='folder of the dataset to write')
    add('--state', metavar='TOPIC', help='JointState that is the state (default: /state if there)')
    add('--task', default='', metavar='TEXT', help='what was to be done, of bags without /task')


def export_lerobot(options: argparse.Namespace) -> int:
    """Write a dataset v3.0."""
    _require_pyarrow()
    from wm_ros.contract import StreamContract, find_contract
    from wm_ros.lerobot import export_bags

    contract = StreamContract.load(find_contract(options.contract))
    done = export_bags(
        options.bags,
        contract,
        options.out,
        state_topic=options.state,
        task=options.task,
        on_bag=_tell,
    )
    print(
        f'{options.out}: LeRobot v3.0, {done.episodes} episodes, {done.frames} frames, '
        f'{done.held_frames} of them repeat the picture before'
    )
    return 0


def _tell(bag: Path, frames: int) -> None:
    print(f'  {bag.name}: {frames} frames')


def _episodes(text: str, episodes: int) -> range | None:
    """Turn A:B into a range; either may be missing."""
    if not text:
        return None
    first, colon, last = text.partition(':')
    try:
        begin, end = int(first or 0), int(last or episodes)
    except ValueError:
        begin, end = 0, -1
    if not colon or not 0 <= begin < end <= episodes:
        raise ValueError(f'--episodes {text}: expected A:B with 0 <= A < B <= {episodes}')
    return range(begin, end)


def _require_pyarrow() -> None:
    if importlib.util.find_spec('pyarrow') is None:
        raise ImportError("LeRobot datasets need pyarrow: pip install 'wm_ros[lerobot]'")
