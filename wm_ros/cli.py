"""`wm`: the command line. Every command is one line of a table and imports what it needs.

Exit codes: 0 done, 1 refused or failed with one clear line, 2 wrong usage or a condition of
`--fail-if` that holds. `--traceback` shows where an error came from.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wm_ros import cli_contract, cli_degrade, cli_lerobot, cli_play, cli_replay, cli_train

if TYPE_CHECKING:
    from wm_ros.bag import Recovery

START_NS = 1_000_000_000  # stamp of the first simulated frame; zero means "no stamp" in ROS


@dataclass(frozen=True)
class Command:
    """One command: its words, one line of help, its arguments, what it runs (-> exit code)."""

    words: tuple[str, ...]
    summary: str
    arguments: Callable[[argparse.ArgumentParser], object]
    run: Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(words)
    options.words = words
    try:
        code: int = options.run(options)
    except Exception as error:
        if options.traceback or not isinstance(error, _user_errors()):
            raise
        print(f'wm: error: {error}', file=sys.stderr)
        return 1
    return code


def _user_errors() -> tuple[type[Exception], ...]:
    """Errors whose text tells a user what to do; anything else is ours and keeps its traceback."""
    from wm_ros.backends import EngineUnavailable
    from wm_ros.manifest import PackageError

    return (ValueError, OSError, ImportError, PackageError, EngineUnavailable)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='wm', description='Tools of wm_ros, a world model for ROS 2.'
    )
    parser.add_argument('--traceback', action='store_true', help='show where an error came from')
    top = parser.add_subparsers(required=True, metavar='COMMAND')
    groups: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}
    for command in COMMANDS:
        place = top
        if len(command.words) == 2:
            group = command.words[0]
            if group not in groups:
                group_parser = top.add_parser(group, help=f'{group} commands')
                groups[group] = group_parser.add_subparsers(required=True, metavar='COMMAND')
            place = groups[group]
        one = place.add_parser(
            command.words[-1], help=command.summary, description=command.summary
        )
        command.arguments(one)
        one.set_defaults(run=command.run)
    return parser


def _path(name: str, what: str) -> Callable[[argparse.ArgumentParser], object]:
    return lambda parser: parser.add_argument(name, type=Path, help=what)


def _bag_info(options: argparse.Namespace) -> int:
    from wm_ros.bag import bag_info

    info = bag_info(options.bag)
    print(f'{info.path}: {info.messages} messages in {info.duration_s:.3f} s')
    for topic in info.topics:
        print(
            f'  {topic.name}  {topic.msgtype}  {topic.messages} messages, {topic.rate_hz:.2f} Hz'
        )
    return 0


def _bag_recover(options: argparse.Namespace) -> int:
    from wm_ros.bag import recover

    for found in recover(options.bag):
        _show_recovery(found)
    return 0


def _show_recovery(found: Recovery) -> None:
    kept, span_s = sum(found.messages.values()), (found.end_ns - found.start_ns) / 1e9
    if found.complete:
        print(f'{found.path}: was complete, {kept} messages')
        return
    print(f'{found.path}: kept {kept} messages over {span_s:.3f} s')
    for topic, messages in found.messages.items():
        print(f'  {topic}  {messages} messages')
    print(
        f'lost: {found.lost_bytes} of {found.file_bytes} bytes, {found.damaged_chunks} damaged '
        f'chunks, {found.orphans} messages without a readable topic'
    )
    if found.damaged_path is not None:
        print(f'the file as it was found: {found.damaged_path}')


def _bag_steps_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('bag', type=Path, help='bag folder, .mcap, .db3 or ROS 1 .bag')
    parser.add_argument('--contract', required=True, help='contract, by name or file')


def _bag_steps(options: argparse.Namespace) -> int:
    from wm_ros.bag import iter_steps
    from wm_ros.contract import StreamContract, find_contract

    contract = StreamContract.load(find_contract(options.contract))
    counts: Counter[str] = Counter()
    steps = sum(1 for _ in iter_steps(options.bag, contract, counts=counts))
    print(f'{options.bag}: {steps} steps of {1 / contract.rate_hz:.4f} s under {contract.name}')
    for name, count in sorted(counts.items()):
        if count:
            print(f'  {name} {count}')
    return 0


def _contract_check(options: argparse.Namespace) -> int:
    from wm_ros.contract import StreamContract, find_contract

    contract = StreamContract.load(find_contract(options.file))
    print(
        f'{options.file}: {contract.name}, {contract.rate_hz:g} Hz, '
        f'{contract.image_size} px, {contract.action_width} action entries'
    )
    for topic, msgtype in contract.topics.items():
        print(f'  {topic}  {msgtype}')
    if len(contract.cameras) > 1:
        height, width = contract.tile_size
        print(f'  {len(contract.cameras)} cameras, {width} x {height} px of the image each:')
        for name, camera in zip(contract.camera_names, contract.cameras, strict=True):
            print(f'    {name}  {camera.topic}')
    for source in contract.actions:
        if source.stamp == 'receive':
            print(f'  note: {source.topic} is placed by its time of receipt')
    return 0


def _inspect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('package', type=Path, help='model package, by name or folder')
    parser.add_argument(
        '--check', action='store_true', help='compare every engine here with what PyTorch gave'
    )


def _inspect(options: argparse.Namespace) -> int:
    from wm_ros.package_card import inspect_package

    return inspect_package(options.package, check=options.check)


def _sim_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('kind', help='kind of episode, such as practice, free, push, cup')
    parser.add_argument('--seed', type=int, default=0, help='which episode (default 0)')
    parser.add_argument('--frames', type=int, default=None, help='length (default: of the kind)')
    parser.add_argument('--out', type=Path, required=True, help='folder of the bag to write')
    parser.add_argument(
        '--contract', default='tabletop', help='contract, by name or file (default: tabletop)'
    )


def _sim(options: argparse.Namespace) -> int:
    from wm_ros.bag import BagRecorder
    from wm_ros.bag.stream import StreamRecorder
    from wm_ros.contract import StreamContract, find_contract
    from wm_ros.sim.config import SimConfig
    from wm_ros.sim.episodes import plan_episode, play
    from wm_ros.sim.scene import TableTop

    contract = StreamContract.load(find_contract(options.contract))
    plan = plan_episode(options.kind, options.seed, options.frames)
    table_top = TableTop(SimConfig(image_size=contract.image_size))
    with BagRecorder(options.out) as recorder:
        stream = StreamRecorder(recorder, contract)
        for frame in play(plan, table_top):
            stamp_ns = START_NS + frame.index * contract.period_ns
            stream.write_action(frame.action_A, stamp_ns)
            stream.write_frame(frame.image_HWC, stamp_ns)
    table_top.close()
    print(f'{options.out}: {plan.frames} frames of {options.kind}, seed {options.seed}')
    return 0


def _calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('package', help='model package, by name or folder')
    add('bags', nargs='+', type=Path, metavar='bag', help='held out; 1st, 3rd, ... for the fit')
    add('--draws', type=int, default=4, help='noise draws that it then holds for (default 4)')
    add('--every', type=int, default=8, help='imagine at every n-th frame (default 8)')
    add('--seed', type=int, default=0, help='of the noise (default 0)')
    add('--out', type=Path, default=Path('out/calibration'), help='default out/calibration')
    add('--write', action='store_true', help="put it into the package's manifest")
    add('--contract', default='', help="of the bags (default: the package's own)")
    add('--backend', default='auto', help='engine (default auto)')


def _calibrate(options: argparse.Namespace) -> int:
    from wm_ros.evaluation import calibration_report
    from wm_ros.evaluation.calibration import Plan

    return calibration_report.run(
        options.package,
        options.bags,
        Plan(options.draws, options.every, options.seed),
        options.out,
        write=options.write,
        contract=options.contract,
        backend=options.backend,
        command=shlex.join(['wm', *options.words]),
    )


COMMANDS: tuple[Command, ...] = (
    Command(('bag', 'info'), 'list what a bag holds', _path('bag', 'the bag'), _bag_info),
    Command(
        ('bag', 'recover'),
        'make a cut or unclosed bag readable',
        _path('bag', 'the bag'),
        _bag_recover,
    ),
    Command(
        ('bag', 'steps'), 'count the steps and refusals of a bag', _bag_steps_arguments, _bag_steps
    ),
    Command(
        ('contract', 'check'),
        'check a contract file',
        _path('file', 'contract, by name or file'),
        _contract_check,
    ),
    Command(
        ('contract', 'init'),
        'propose a contract from what bags hold',
        cli_contract.init_arguments,
        cli_contract.init,
    ),
    Command(
        ('calibrate',),
        "fit and judge a package's uncertainty on held-out bags",
        _calibrate_arguments,
        _calibrate,
    ),
    Command(
        ('degrade',),
        'make a bag with faults from a good one',
        cli_degrade.arguments,
        cli_degrade.run,
    ),
    Command(
        ('import', 'lerobot'),
        'turn a LeRobot dataset into bags and a contract',
        cli_lerobot.import_arguments,
        cli_lerobot.import_lerobot,
    ),
    Command(
        ('export', 'lerobot'),
        'turn bags into a LeRobot dataset v3.0',
        cli_lerobot.export_arguments,
        cli_lerobot.export_lerobot,
    ),
    Command(
        ('replay',),
        'evaluate a package on bags: metrics, report, film',
        cli_replay.arguments,
        cli_replay.run,
    ),
    Command(('inspect',), 'show and check a model package', _inspect_arguments, _inspect),
    Command(('play',), 'publish a bag as a robot would', cli_play.arguments, cli_play.run),
    Command(
        ('train',),
        "train a package on a robot's bags, judge it on others",
        cli_train.train_arguments,
        cli_train.train,
    ),
    Command(
        ('fine-tune',),
        'the same from finished weights',
        cli_train.fine_tune_arguments,
        cli_train.fine_tune,
    ),
    Command(('sim',), 'play a simulated episode into a bag', _sim_arguments, _sim),
)


if __name__ == '__main__':
    raise SystemExit(main())
