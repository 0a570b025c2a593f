"""`wm contract init`: arguments and output; `wm_ros/contract_init` does the work."""

from __future__ import annotations

import argparse
from pathlib import Path


def init_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `wm contract init`."""
    add = parser.add_argument
    add('bags', nargs='+', type=Path, metavar='bag', help='recordings of one robot')
    add('--out', type=Path, default=Path('my_robot.yaml'), help='default my_robot.yaml')
    add('--image', metavar='TOPIC', help='camera (default: the one with most messages)')
    add(
        '--action',
        action='append',
        default=[],
        metavar='TOPIC',
        help='command topic; again for more (default: those whose name says so)',
    )
    add('--rate', type=float, metavar='HZ', help="steps per second (default: the camera's)")
    add('--image-size', type=int, default=64, metavar='PX', help='what the model sees, default 64')


def init(options: argparse.Namespace) -> int:
    """Write a proposed contract, read the bags under it, say what to check.

    Raises:
        FileExistsError: the output is there already, and may have been edited.
    """
    from wm_ros.contract import StreamContract
    from wm_ros.contract_init import Wish, propose, try_out

    if options.out.exists():
        raise FileExistsError(f'{options.out} exists and may have been edited: give another --out')
    wish = Wish(
        options.out.stem, options.image, tuple(options.action), options.rate, options.image_size
    )
    proposal = propose(options.bags, wish)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(proposal.text, encoding='utf-8')
    contract = StreamContract.load(options.out)
    print(f'{options.out}: {contract.name}, {contract.rate_hz:g} Hz, {contract.image_size} px')
    print(f'  camera  {contract.camera.topic}')
    for source in contract.actions:
        print(f'  action  {source.topic}  {len(source.entries)} entries, {source.stamp} stamps')
    for bag in options.bags:
        steps, counts = try_out(bag, contract)
        odd = ', '.join(f'{name} {n}' for name, n in sorted(counts.items()) if n)
        print(f'  {bag.name}: the first {steps} steps read ({odd})')
    print('to check:')
    for line in proposal.to_check:
        print(f'  {line}')
    return 0
