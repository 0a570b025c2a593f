"""The worlds a recipe can name: the cups fixture, the simulated table-top, a folder of bags."""

from __future__ import annotations

from pathlib import Path

from training.recipes import Recipe
from training.world import World


def make_world(recipe: Recipe, contract: Path | None, bags: list[Path]) -> World:
    """Build the world of a recipe; imports only what that world needs."""
    if recipe.world == 'cups':
        from training.cups import CupsWorld

        return CupsWorld()
    if contract is None:
        raise ValueError(f'the world {recipe.world!r} needs a stream contract')
    if recipe.world == 'tabletop':
        from training.tabletop import TabletopWorld

        return TabletopWorld(contract, recipe.model.image_size)
    if recipe.world == 'bags':
        from training.bags import BagWorld

        return BagWorld(contract, bags, recipe.model.image_size, recipe.variants)
    raise ValueError(f'unknown world {recipe.world!r}')
