"""`wm degrade`: a bad bag from a good one; the arguments and what they mean. The work is done by
`wm_ros/bag/degrade.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wm_ros.bag.degrade import Ledger
    from wm_ros.bag.faults import Fault

EPILOG = """Faults are done in the order in which they are listed here. P is a chance from 0 to 1,
for each frame or command on its own. Frames and commands are what the contract names; all else is
copied, but for topics of unknown types. faults.json in the folder of BAG2 lists what was done to
which message. The same bag, faults and seed give the same bytes."""


NAMES = {float: 'a number', int: 'a whole number'}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add('bag', type=Path, help='bag folder, .mcap, .db3 or ROS 1 .bag')
    add('--out', type=Path, required=True, help='folder of the bag to write')
    add('--contract', required=True, help='contract, by name or file')
    add('--seed', type=int, default=0, help='of all chance (default 0)')
    faults = parser.add_argument_group('faults')
    add = faults.add_argument
    add('--drop-frames', type=float, metavar='P', help='frames that never came')
    add('--burst', type=_burst, metavar='P,LENGTH', help='LENGTH frames lost in a row')
    add('--drop-actions', type=float, metavar='P', help='commands that never came')
    add('--silence-actions', type=_span, metavar='FROM,TO', help='s; no command in between')
    add('--duplicate', type=float, metavar='P', help='frames and commands that come twice')
    add('--wrong-stamps', type=float, metavar='P', help='zero, a day ahead or 0.5 s backwards')
    add('--jitter-stamps', type=float, metavar='MS', help='header stamps off by up to MS')
    add('--reorder', type=float, metavar='P', help='come right behind the next of their topic')
    add('--jitter-arrival', type=float, metavar='MS', help='log times up to MS late')


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit status.

    Raises:
        ValueError: no fault, or one with a value that makes no sense.
        BagError, ContractError: see `degrade_bag`.
    """
    from wm_ros.bag.degrade import degrade_bag
    from wm_ros.contract import StreamContract, find_contract

    contract = StreamContract.load(find_contract(options.contract))
    ledger = degrade_bag(options.bag, options.out, contract, faults_of(options), options.seed)
    show(options.out, ledger)
    return 0


def faults_of(options: argparse.Namespace) -> list[Fault]:
    """Return the faults that were asked for, in their order.

    Raises:
        ValueError: none, or a value that makes no sense.
    """
    from wm_ros.bag import faults, lateness

    makers: dict[str, Callable[[Any], Fault]] = {
        'drop_frames': lambda share: faults.Drop(faults.FRAME, share),
        'burst': lambda pair: faults.Burst(*pair),
        'drop_actions': lambda share: faults.Drop(faults.ACTION, share),
        'silence_actions': lambda pair: faults.Silence(*pair),
        'duplicate': faults.Duplicate,
        'wrong_stamps': faults.WrongStamps,
        'jitter_stamps': faults.JitterStamps,
        'reorder': lateness.Reorder,
        'jitter_arrival': lateness.JitterArrival,
    }
    given = {name: getattr(options, name) for name in makers}
    chosen = [makers[name](value) for name, value in given.items() if value is not None]
    if not chosen:
        words = ', '.join(f'--{name.replace("_", "-")}' for name in makers)
        raise ValueError(f'no fault asked for; choose from {words}')
    return chosen


def show(out: Path, ledger: Ledger) -> None:
    """Print what was done."""
    print(f'{out}: {sum(ledger.messages.values())} messages, seed {ledger.seed}')
    for why in ledger.left_out.values():
        print(f'  left out: {why}')
    for place, fault in enumerate(ledger.faults):
        counts = [
            f'{topic} {ledger.count(place, what, topic)} {what}'
            for what, topics in sorted(ledger.done[place].items())
            for topic in sorted(topics)
        ]
        print(f'  {fault}: {"; ".join(counts) or "nothing befell"}')


def _pair(text: str, kinds: tuple[type, type]) -> tuple[Any, ...]:
    try:
        return tuple(kind(part) for kind, part in zip(kinds, text.split(','), strict=True))
    except ValueError:
        words = ' and '.join(NAMES[kind] for kind in kinds)
        raise argparse.ArgumentTypeError(f'{text!r}: expected {words}, with a comma') from None


def _burst(text: str) -> tuple[Any, ...]:
    return _pair(text, (float, int))


def _span(text: str) -> tuple[Any, ...]:
    return _pair(text, (float, float))
