"""Weights are stored as fp16: rounding them first lets everybody measure and use the same ones."""

from __future__ import annotations

import torch
from torch import nn


def round_to_fp16(module: nn.Module) -> None:
    """Round every weight and buffer of a float32 module to the nearest fp16 value, in place.

    Raises:
        ValueError: a weight is too large for fp16, or not finite.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            rounded = tensor.half().to(tensor.dtype)
            if not torch.isfinite(rounded).all():
                raise ValueError(
                    f'{name}: largest weight {tensor.abs().max():g}, fp16 holds up to 65504'
                )
            tensor.copy_(rounded)
