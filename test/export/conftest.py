"""Tiny exported packages with random weights: one per arm, made once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tiny_models import PROVENANCE, SAMPLERS, randomise, tiny_config, tiny_contract

from export.to_onnx import export_package
from models.autoencoder import Autoencoder
from models.world_model import LatentWorldModel
from wm_ros.model_package import ModelPackage


@pytest.fixture(scope='session')
def autoencoder() -> Autoencoder:
    torch.manual_seed(0)
    module = Autoencoder(tiny_config('ttt')).eval()
    randomise(module, 1)
    with torch.no_grad():
        module.latent_mean.fill_(0.1)
        module.latent_std.fill_(0.7)
    return module


@pytest.fixture(scope='session')
def build() -> Callable[[str], LatentWorldModel]:
    def world_model(arm: str) -> LatentWorldModel:
        torch.manual_seed(2)
        module = LatentWorldModel(tiny_config(arm)).eval()
        randomise(module, 3)
        return module

    return world_model


@pytest.fixture(scope='session')
def export(tmp_path_factory: pytest.TempPathFactory, autoencoder: Autoencoder,
           build: Callable[[str], LatentWorldModel]) -> Callable[[str], ModelPackage]:
    """Return the tiny package of an arm, exported at its first use; `ttt` owns the tokenizer."""
    root = tmp_path_factory.mktemp('packages')
    made: dict[str, ModelPackage] = {}

    def package(arm: str) -> ModelPackage:
        if arm not in made:
            shared = None if arm == 'ttt' else package('ttt').path
            made[arm] = export_package(
                build(arm), autoencoder, root / f'tiny_{arm}', name=f'tiny_{arm}',
                contract=tiny_contract().to_dict(), sampler=SAMPLERS[arm].to_dict(),
                renderer=None, provenance=PROVENANCE, tokenizer_package=shared)
        return made[arm]

    return package
