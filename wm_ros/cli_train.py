"""`wm train` and `wm fine-tune`: from a robot's bags to a package, and a report on bags that were
kept apart.

In: the command line. Out: `<out>/packages/<name>` and `<out>/report/<name>/`. Training itself
needs the repository and PyTorch: it runs there as a process of its own, never imported here.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wm_ros import share

if TYPE_CHECKING:
    from wm_ros.contract import StreamContract

NEEDED = ('torch', 'onnx', 'onnxscript', 'onnxruntime')  # the last checks what is exported
INTERRUPTED = 130


def train_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `wm train`."""
    _arguments(parser, Path('out/train'))
    parser.add_argument('--quick', action='store_true', help='a small model, in ten minutes')


def fine_tune_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `wm fine-tune`."""
    add = parser.add_argument
    add(
        '--from',
        dest='origin',
        required=True,
        metavar='NAME',
        help="what to go on from: tabletop_small, or a folder of artefacts such as wm train's "
        'OUT/artefacts/NAME',
    )
    add('--tokenizer-only', action='store_true', help='train the world model from nothing')
    add('--train-tokenizer', action='store_true', help='train the tokenizer on, too')
    _arguments(parser, Path('out/fine_tune'))


def _arguments(parser: argparse.ArgumentParser, out: Path) -> None:
    add = parser.add_argument
    add('bags', nargs='+', type=Path, metavar='bag', help='of one robot; folders of bags, too')
    add('--contract', required=True, help='contract, by name or file (wm contract init)')
    add('--out', type=Path, default=out, help=f'folder (default {out})')
    add(
        '--hold-out',
        metavar='NAMES',
        help='bags kept apart for the report: names, comma separated, or how many (default: a '
        'fifth, evenly spread; fine-tune: of those that --from has not practised)',
    )
    add('--name', default='', help="of the package (default: the contract's)")
    add('--effort', type=float, default=1.0, metavar='F', help='times the steps of the recipe')
    add('--fresh', action='store_true', help='start from nothing, not where it was cut off')
    add('--threads', type=int, help="of PyTorch (default: PyTorch's own choice)")
    add('--backend', default='auto', help='engine of the report (default auto)')


def train(options: argparse.Namespace) -> int:
    """Train from nothing. See `_run`."""
    return _run(options, 'real', ['--quick'] * options.quick, None)


def fine_tune(options: argparse.Namespace) -> int:
    """Train from finished weights. See `_run`."""
    folder = Path(options.origin)
    words = ['--from', str(folder.resolve()) if folder.is_dir() else options.origin]
    words += ['--tokenizer-only'] * options.tokenizer_only
    words += ['--train-tokenizer'] * options.train_tokenizer
    found = folder if folder.is_dir() else share.REPOSITORY / 'training/artefacts' / folder
    return _run(options, 'fine-tune', words, found)


def _run(
    options: argparse.Namespace, what: str, words: list[str], origin: Path | None
) -> int:
    """Split the bags, train on some in a process of its own, report on the others.

    Returns:
        0; 1 where training failed or a held-out bag could not be read whole; 130 where training
        was interrupted.

    Raises:
        ImportError: no repository or no PyTorch, and how to get them.
        BagError, ContractError, ValueError: bags, contract or split that cannot be used.
        PackageError: no name for a package.
    """
    from wm_ros.bag.episodes import find_episodes
    from wm_ros.contract import StreamContract, find_contract
    from wm_ros.evaluation.held_out import kept_split
    from wm_ros.evaluation.practised import Practised, read
    from wm_ros.manifest_fields import require_name

    _require_training(share.REPOSITORY)
    _check(options)
    contract_file = find_contract(options.contract).resolve()
    contract = StreamContract.load(contract_file)
    name, out = options.name or contract.name, options.out.resolve()
    require_name(name, '--name' if options.name else f'of {contract_file}; --name gives another')
    bags = find_episodes(options.bags)
    _require_topics(bags, contract)
    before = read(origin) if origin else Practised()
    seen = before.among(bags)
    split = kept_split(out / name, list(bags), options.hold_out, options.fresh, seen)
    notes = before.notes(origin.name, split.held_out) if origin else []
    print(*_seen_line(seen), split, *notes, sep='\n', flush=True)
    command = [sys.executable, '-m', 'training.main', what, *words]
    command += ['--contract', str(contract_file), '--work', str(out), '--name', name]
    command += ['--effort', f'{options.effort:g}', '--hold-out', '']
    command += ['--threads', str(options.threads)] if options.threads else []
    command += ['--fresh'] * options.fresh
    command += ['--command', shlex.join(['wm', *options.words])]
    command += ['--bags', *(str(bags[bag]) for bag in split.practice)]
    try:
        code = run_training(command)
    except KeyboardInterrupt:
        print('interrupted: the same command goes on from the last minute', file=sys.stderr)
        return INTERRUPTED
    if code:
        print(f'wm: error: training ended with status {code}, see above', file=sys.stderr)
        return 1
    held_out = {bag: bags[bag] for bag in split.held_out}
    report = out / 'report' / name
    return _report(options, held_out, out / 'packages' / name, report, notes)


def run_training(command: list[str]) -> int:
    """Run training in the repository and return its exit status."""
    return subprocess.run(command, cwd=share.REPOSITORY, check=False).returncode


def _seen_line(seen: Mapping[str, str]) -> list[str]:
    """Say which bags cannot be held out, and what they were called when they were practised."""
    words = [name if name == then else f'{name} (then {then})' for name, then in seen.items()]
    return [f'practised already by --from, never held out: {", ".join(words)}'] if words else []


def _report(
    options: argparse.Namespace,
    bags: Mapping[str, Path],
    package: Path,
    out: Path,
    notes: Sequence[str],
) -> int:
    """Replay the held-out bags with the new package; what an earlier one left there goes first."""
    from wm_ros.evaluation.replay_run import Order
    from wm_ros.evaluation.replay_several import forget, run_several

    forget(out)
    if not bags:
        print('no report: no bag was held out, and one that was learnt from proves nothing')
        return 0
    command = shlex.join(['wm', *options.words])
    first = next(iter(bags.values()))
    order = Order(first, str(package), backend=options.backend, command=command)
    return run_several(order, bags, out, notes=notes)


def _check(options: argparse.Namespace) -> None:
    from wm_ros.backends import KINDS

    if options.backend not in KINDS:
        raise ValueError(f'--backend {options.backend}: expected one of {", ".join(KINDS)}')
    if options.threads is not None and options.threads < 1:
        raise ValueError(f'--threads {options.threads}: expected 1 or more')
    if not 0 < options.effort < float('inf'):
        raise ValueError(f'--effort {options.effort:g}: expected above 0')


def _require_topics(bags: Mapping[str, Path], contract: StreamContract) -> None:
    """Open every bag once: a bag that is damaged or of another robot is refused before hours have
    gone by.
    """
    from wm_ros.bag import BagError, bag_info

    for path in bags.values():
        held = {topic.name: topic.messages for topic in bag_info(path).topics}
        wanted = {camera.topic for camera in contract.cameras}
        wanted |= {source.topic for source in contract.actions}
        if missing := sorted(topic for topic in wanted if not held.get(topic)):
            raise BagError(
                f'bag {path} has no messages of {", ".join(missing)}, which contract '
                f'{contract.name} names; it holds {_listed(held)}'
            )


def _listed(topics: Iterable[str]) -> str:
    return ', '.join(sorted(topics)) or 'nothing'


def _require_training(repository: Path) -> None:
    """Say what is missing where training cannot run here.

    Raises:
        ImportError: no repository, or no PyTorch in this Python.
    """
    if not (repository / 'training' / 'main.py').is_file():
        raise ImportError(
            'training needs a clone of the repository, which has training/ and export/; this '
            f'wm_ros is installed in {repository}. In a clone: make setup-train, then .venv/bin/wm'
        )
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        engines = ' ENGINES=ort,openvino' if 'onnxruntime' in missing else ''
        raise ImportError(
            f'training needs {", ".join(missing)}, which this Python lacks: make setup-train'
            f'{engines} in {repository}, then .venv/bin/wm there'
        )
