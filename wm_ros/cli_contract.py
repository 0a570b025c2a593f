"""`wm contract init`: arguments and output; `wm_ros/contract_init` does the work."""

from __future__ import annotations

import argparse
from pathlib import Path


def init_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `wm contract init`."""
    add = parser.add_argument
    add('bags', nargs='+', type=Path, metavar='bag', help='of one robot; folders of bags, too')
    add('--out', type=Path, default=Path('my_robot.yaml'), help='default my_robot.yaml')
    add('--image', metavar='TOPIC', help='camera (default: the one with most messages)')
    add(
        '--action',
        action='append',
        default=[],
        metavar='TOPIC',
        help='command topic; again for more (default: those whose name says so)',
    )
    add(
        '--hold-out',
        metavar='NAMES',
        help='bags that no limit may know: names, comma separated, or how many (default: those '
        'that wm train holds out)',
    )
    add('--rate', type=float, metavar='HZ', help="steps per second (default: the camera's)")
    add('--image-size', type=int, default=64, metavar='PX', help='what the model sees, default 64')


def init(options: argparse.Namespace) -> int:
    """Propose a contract, read the bags under it, write it, say what to check.

    Raises:
        FileExistsError: the output is there already, and may have been edited.
        BagError, ContractError, ValueError: bags or a split that cannot be used; nothing is
            written.
    """
    from wm_ros.bag.episodes import find_episodes
    from wm_ros.contract_init import Wish, propose, try_out
    from wm_ros.evaluation.held_out import choose

    if options.out.exists():
        raise FileExistsError(f'{options.out} exists and may have been edited: give another --out')
    wish = Wish(
        options.out.stem, options.image, tuple(options.action), options.rate, options.image_size
    )
    bags = find_episodes(options.bags)
    split = choose(list(bags), options.hold_out)
    apart = [bags[name] for name in split.held_out]
    proposal = propose([bags[name] for name in split.practice], wish, apart)
    contract = proposal.contract
    tried = {name: try_out(bags[name], contract) for name in split.practice}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(proposal.text, encoding='utf-8')
    print(f'{options.out}: {contract.name}, {contract.rate_hz:g} Hz, {contract.image_size} px')
    print(f'  camera  {contract.camera.topic}')
    for source in contract.actions:
        print(f'  action  {source.topic}  {len(source.entries)} entries, {source.stamp} stamps')
    for name, (steps, counts) in tried.items():
        odd = ', '.join(f'{what} {n}' for what, n in sorted(counts.items()) if n)
        print(f'  {name}: the first {steps} steps read ({odd})')
    print(f'  held out, so not in any range: {", ".join(split.held_out) or "nothing"}')
    print('to check:')
    for line in proposal.to_check:
        print(f'  {line}')
    return 0
