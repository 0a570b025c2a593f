"""Checkpoints: what a stage leaves behind. fp16 weights, the model's configuration and how it
was made.

Two kinds: the artefact of a finished stage (small, committed) and the full state of a running
one (kept in the work folder, so that an interrupted stage goes on where it was).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wm_ros.config import ModelConfig


@dataclass(frozen=True)
class Checkpoint:
    """Weights with the configuration that gives their shapes.

    Attributes:
        config: shapes of the model.
        state: name -> float32 tensor (stored as fp16).
        meta: command, commit, stage, figures; plain JSON values.
    """

    config: ModelConfig
    state: dict[str, Tensor]
    meta: dict[str, Any]

    def load_into(self, module: nn.Module) -> None:
        """Copy the weights into a module of the same configuration; raises on any mismatch."""
        module.load_state_dict(self.state)


def save(path: Path, module: nn.Module, config: ModelConfig, meta: dict[str, Any]) -> None:
    """Write an artefact atomically: floating point weights as fp16."""
    state = {
        name: value.detach().half() if value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.partial')
    torch.save({'config': config.to_dict(), 'state': state, 'meta': meta}, partial)
    partial.replace(path)


def load(path: Path) -> Checkpoint:
    """Read an artefact; FileNotFoundError names the stage's missing file."""
    if not path.exists():
        raise FileNotFoundError(f'{path}: no such artefact; run the stage that makes it first')
    content = torch.load(path, weights_only=True)
    state = {
        name: value.float() if value.is_floating_point() else value
        for name, value in content['state'].items()
    }
    return Checkpoint(ModelConfig.from_dict(content['config']), state, content['meta'])
