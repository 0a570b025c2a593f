"""`real` and `fine-tune`: from a robot's own bags to a package, from nothing or from finished
weights.

In: parsed arguments of `main.py`. Out: artefacts below the work folder and a package.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from training.origin import Origin, OriginError, find_origin, shapes_for
from training.recipes import FINE, REAL, Recipe, real_recipe, scaled
from training.run import Run, console
from wm_ros import share
from wm_ros.bag.episodes import find_episodes
from wm_ros.contract import StreamContract
from wm_ros.manifest_fields import require_name

HELD_OUT = 'episode_001'  # what `make demo-real` plays
DEMO_WORK = Path('out/demo_real/train')  # of its own: `wm train` holds out other bags


def run_real(args: argparse.Namespace) -> None:
    """Train and export a model from nothing."""
    bags = practice_bags(args.bags, args.hold_out)
    _run(args, real_recipe(StreamContract.load(args.contract), args.quick), bags, None)


def run_fine_tune(args: argparse.Namespace) -> None:
    """Train and export a model that begins with finished weights.

    Raises:
        OriginError: they cannot be gone on from, or would be written over.
    """
    contract = StreamContract.load(args.contract)
    origin = find_origin(
        args.origin, tokenizer_only=args.tokenizer_only, train_tokenizer=args.train_tokenizer
    )
    recipe = fine_recipe(origin, contract)
    bags = practice_bags(args.bags, args.hold_out)
    _run(args, recipe, bags, origin)


def fine_recipe(origin: Origin, contract: StreamContract) -> Recipe:
    """Return the recipe that goes on from an origin; where only the tokenizer is taken, the world
    model needs all of its steps.
    """
    model = shapes_for(origin, contract, REAL.model)
    compositor = FINE.compositor if model.reference else None
    recipe = replace(FINE, name=contract.name, model=model, compositor=compositor)
    if origin.world_model is None:
        recipe = replace(recipe, teachers=REAL.teachers, student=REAL.student)
    return recipe


def _run(
    args: argparse.Namespace, recipe: Recipe, bags: Sequence[Path], origin: Origin | None
) -> None:
    recipe = scaled(replace(recipe, name=args.name or recipe.name), args.effort)
    require_name(recipe.name)
    run = Run(
        recipe,
        work=args.work,
        artefacts=args.work / 'artefacts',
        contract=args.contract,
        bags=list(bags),
        workers=1,
        packages=args.packages,
        command=args.command,
        origin=origin,
    )
    if origin and origin.folder.resolve() == run.artefacts.resolve():
        raise OriginError(
            f'{origin.folder}: would be written over; give another --name or another folder'
        )
    if args.fresh:
        run.forget()
    model = run.train()
    console.print('package:', run.export(model, name=recipe.name, shared_tokenizer=None))


def practice_bags(paths: Sequence[Path], hold_out: str | None) -> list[Path]:
    """Return the bags to train on, in order of their names.

    Args:
        paths: bags, or folders that hold bags.
        hold_out: names kept apart, comma separated; None for the project's own choice, which is
            of its own bags only.

    Raises:
        FileNotFoundError: a name that is not among them, or nothing left.
        BagError: no bags there, or two of one name.
    """
    shown = ', '.join(map(str, paths))
    if hold_out is None:
        own = [path.resolve() for path in paths] == [share.g1_bottle().resolve()]
        hold_out = HELD_OUT if own else ''
    held_out = {name.strip() for name in hold_out.split(',')} - {''}
    bags = find_episodes(paths)
    if unknown := sorted(held_out - set(bags)):
        raise FileNotFoundError(
            f'--hold-out {", ".join(unknown)}: not in {shown}, which has {", ".join(bags)}'
        )
    kept = [path for name, path in bags.items() if name not in held_out]
    if not kept:
        raise FileNotFoundError(f'{shown}: no bag folders to train on')
    if held_out:
        console.print('held out:', ', '.join(sorted(held_out)))
    return kept
