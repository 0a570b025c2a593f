"""`wm replay`: its arguments and how they become an order. Imports what it needs when it runs."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add('bags', nargs='+', type=Path, metavar='bag', help='bag folder, .mcap, .db3 or ROS 1 .bag')
    add('--package', required=True, help='model package, by name or folder')
    add('--contract', default='', help="of the bag, by name or file (default: the package's own)")
    add('--out', type=Path, default=Path('out/replay'), help='folder (default out/replay)')
    add('--compare', default='', metavar='PACKAGE', help='a second package beside the first')
    add(
        '--baseline',
        type=Path,
        metavar='METRICS.json',
        help='of an earlier replay, whose figures stand beside the new ones',
    )
    add(
        '--fail-if',
        action='append',
        default=[],
        metavar='CONDITION',
        help='exit status 2 where it holds, such as "psnr@25 < copy_last" or '
        '"perceptual@5 > 0.9*copy_last" (METRIC[@PLACE] OP BOUND); may be repeated',
    )
    add('--backend', default='auto', help='engine (default auto)')
    add('--seed', type=int, default=0, help='of the noise (default 0)')
    add('--frames', type=int, default=None, help='stop after so many steps')


def run(options: argparse.Namespace) -> int:
    """Replay; conditions are read first, so that a mistyped one costs no minutes. Several bags get
    a folder each, and a page over all of them.
    """
    from wm_ros.evaluation import replay_run
    from wm_ros.evaluation.fail_if import parse

    if options.frames is not None and options.frames < 1:
        raise ValueError(f'--frames {options.frames}: expected 1 or more')
    if options.seed < 0:
        raise ValueError(f'--seed {options.seed}: expected 0 or more')
    if options.baseline and len(options.bags) > 1:
        raise ValueError(f'--baseline stands beside one bag, found {len(options.bags)}')
    order = replay_run.Order(
        options.bags[0],
        options.package,
        options.compare,
        options.contract,
        options.backend,
        options.seed,
        options.frames,
        tuple(parse(text) for text in options.fail_if),
        shlex.join(['wm', *options.words]),
        options.baseline,
    )
    if len(options.bags) == 1:
        return replay_run.run(order, options.out)
    from wm_ros.bag.episodes import by_name
    from wm_ros.evaluation.replay_several import run_several

    return run_several(order, by_name(options.bags), options.out)
