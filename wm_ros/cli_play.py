"""`wm play`: publish a bag as a robot would. The arguments; the work is done by `player_node`.

ROS is imported when the command runs, not before: `wm` is there without it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wm_ros.contract import StreamContract

CLOCK_HZ = 100.0
EPILOG = """With --clock, start nodes with use_sim_time: time runs at the speed of playing
and stamps keep their recorded spacing. With --loop time goes on growing over the seam; with
--no-restamp it jumps back there, as when a robot is restarted. Ends with the bag or at Ctrl-C."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add('bag', type=Path, help='bag folder, .mcap, .db3 or ROS 1 .bag')
    add('--contract', default='', help='play the topics of this contract, by name or file')
    add('--topics', nargs='+', default=(), metavar='TOPIC', help='play these (default: all)')
    add('--camera', default='', metavar='TOPIC', help='whose subscribers are waited for')
    add('--rate', type=float, default=1.0, help='speed, 1 is as recorded (default)')
    add('--loop', action='store_true', help='begin again at the end')
    add('--start-offset', type=float, default=0.0, metavar='S', help='where to begin, s')
    add(
        '--clock',
        type=float,
        nargs='?',
        const=CLOCK_HZ,
        default=0.0,
        metavar='HZ',
        help=f'publish /clock, at least this often (default {CLOCK_HZ:g})',
    )
    add('--no-restamp', action='store_true', help='keep the recorded stamps in headers')
    add(
        '--wait-subscribers',
        type=int,
        default=1,
        metavar='N',
        help='of the camera, before it begins (default 1; 0 begins at once)',
    )
    add('--remap', nargs='+', default=(), metavar='FROM:=TO', help='publish under other names')


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit status.

    Raises:
        ImportError: there is no ROS 2 here.
        BagError, ContractError, ValueError: the bag cannot be played as asked.
    """
    from wm_ros.nodes.table import yaml_value

    words = ['--ros-args']
    for name, value in parameters(options).items():
        words += ['-p', f'{name}:={yaml_value(value)}']
    for remap in options.remap:
        words += ['-r', remap]
    try:
        from wm_ros.nodes import player_node
    except ImportError as error:
        raise ImportError(
            f'wm play needs ROS 2 in this Python ({error}): source a distribution, or install '
            'the extra [ros]; wm replay needs none'
        ) from error
    if options.wait_subscribers:
        print(f'{options.bag}: begins with {options.wait_subscribers} subscriber(s) of the camera')
    return player_node.main(words)


def parameters(options: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters of `player_node` for a command line.

    Raises:
        BagError, ContractError, ValueError: see `run`.
    """
    from wm_ros.config import PlayerConfig
    from wm_ros.contract import StreamContract, find_contract

    contract = None
    if options.contract:
        contract = StreamContract.load(find_contract(options.contract))
    camera, topics = choose(options.bag, contract, options.camera, tuple(options.topics))
    values = {
        'bag': str(options.bag),
        'topics': topics or ('',),
        'camera': camera,
        'rate': options.rate,
        'start_offset_s': options.start_offset,
        'loop': options.loop,
        'clock_hz': options.clock,
        'restamp': not options.no_restamp,
        'wait_subscribers': options.wait_subscribers,
    }
    PlayerConfig(**values)  # ranges are checked here: a node would only say so in its log
    return values


def choose(
    bag: Path, contract: StreamContract | None, camera: str, topics: tuple[str, ...]
) -> tuple[str, tuple[str, ...]]:
    """Return the camera's topic and the topics to play; none means all.

    Raises:
        BagError: the bag cannot be read.
        ValueError: the bag lacks a topic of the contract, or does not tell which is the camera.
    """
    from wm_ros.bag import bag_info
    from wm_ros.config import CAMERA_TOPIC
    from wm_ros.sources import CAMERA_TYPES

    held = {topic.name: topic.msgtype for topic in bag_info(bag).topics}
    if contract is not None:
        needed = set(contract.topics) - {contract.reset.topic}
        if missing := sorted(needed - set(held)):
            raise ValueError(f'{bag} has no {", ".join(missing)}, which the contract names')
        topics = topics or tuple(topic for topic in contract.topics if topic in held)
        camera = camera or contract.camera.topic
    if camera:
        return camera, topics
    wanted = set(topics) or set(held)
    cameras = [name for name in held if held[name] in CAMERA_TYPES and name in wanted]
    if CAMERA_TOPIC in cameras:
        return CAMERA_TOPIC, topics
    if len(cameras) != 1:
        raise ValueError(
            f'{bag} has {len(cameras)} camera topics ({", ".join(cameras) or "none"}): say which '
            'with --camera, or give a --contract'
        )
    return cameras[0], topics
