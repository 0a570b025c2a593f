"""What a finished training stage leaves behind: a file of fp16 weights, the configuration that
gives their shapes, and how they came to be. Knows the file, not the training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wm_ros.config import ModelConfig
from wm_ros.manifest import PackageError

PARTS = ('config', 'state', 'meta')


@dataclass(frozen=True)
class Artefact:
    """Weights with their configuration.

    Attributes:
        config: shapes of the model.
        state: name -> tensor; floating point weights as float32 (stored as fp16).
        meta: plain JSON values: stage, figures, `command`, `commit` and `date` of the training.
    """

    config: ModelConfig
    state: dict[str, Tensor]
    meta: dict[str, Any]

    def load_into(self, module: nn.Module) -> None:
        """Copy the weights into a module of the same configuration; RuntimeError if not."""
        module.load_state_dict(self.state)


def save(path: Path, module: nn.Module, config: ModelConfig, meta: dict[str, Any]) -> None:
    """Write an artefact atomically: floating point weights as fp16."""
    state = {
        name: value.detach().half() if value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.partial')
    torch.save(dict(zip(PARTS, (config.to_dict(), state, meta), strict=True)), partial)
    partial.replace(path)


def load(path: Path) -> Artefact:
    """Read an artefact.

    Raises:
        FileNotFoundError: no such file.
        PackageError: a file of something else.
    """
    if not path.exists():
        raise FileNotFoundError(f'{path}: no such artefact; run the stage that makes it first')
    content = torch.load(path, weights_only=True, map_location='cpu')
    if not isinstance(content, dict) or set(content) != set(PARTS):
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise PackageError(f'{path}: holds {found}, expected {", ".join(PARTS)}')
    state = {
        name: value.float() if value.is_floating_point() else value
        for name, value in content['state'].items()
    }
    return Artefact(ModelConfig.from_dict(content['config']), state, content['meta'])
