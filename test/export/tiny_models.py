"""The smallest models that have every part, with no weight left at zero."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from wm_ros.config import ModelConfig
from wm_ros.contract import StreamContract
from wm_ros.manifest import Sampler

SIZE = 32
SAMPLERS = {'ttt': Sampler((1.0, 2 / 3)), 'window': Sampler((1.0, 0.5), 'fresh'),
            'none': Sampler((1.0,))}
PROVENANCE = {'command': 'pytest', 'commit': 'none', 'date': 'none'}


def tiny_config(arm: str) -> ModelConfig:
    """The smallest model that has every part."""
    return ModelConfig(arm=arm, image_size=SIZE, tokenizer_width=8, width=32, layers=1, heads=2,
                       writer_width=16, memory_heads=2, key_width=16, value_width=8, window=4)


def tiny_contract() -> StreamContract:
    """The table-top's contract at the tiny model's image size."""
    path = Path(__file__).parents[2] / 'contracts' / 'tabletop.yaml'
    values = StreamContract.load(path).to_dict()
    return StreamContract.from_dict(values | {'image_size': SIZE})


def randomise(module: nn.Module, seed: int) -> None:
    """Give every weight that starts at zero a value, or most of the graph would not matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
