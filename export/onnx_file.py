"""One PyTorch module to one small ONNX file: folded, weights once and as fp16, free of the
exporter's notes.

Weights that are exact in fp16 are stored so and cast to float32 by the graph (engines fold the
cast when they load); `models.rounding` makes a module's weights exact beforehand, so that nothing
is lost in the file.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes import common
from onnxscript import optimizer
from torch import nn

from wm_ros.manifest import GraphSignature

OPSET = 20
BATCH = 2
SMALLEST_FP16 = 64
NO_LIMIT = 10**9
# For every graph it names the operators of torchvision that it does without.
logging.getLogger('torch.onnx').setLevel(logging.ERROR)


def write_onnx(module: nn.Module, signature: GraphSignature, path: Path) -> None:
    """Export a module with a free batch axis.

    Args:
        module: `forward(*inputs)` takes the signature's inputs in order and returns its outputs in
            order.
        signature: names and shapes.
        path: file to write.
    """
    batch = torch.export.Dim('batch', min=1, max=4096)
    tensors = tuple(torch.zeros(BATCH, *spec.shape) for spec in signature.inputs)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        program = torch.onnx.export(
            module,
            tensors,
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            verbose=False,
            input_names=[spec.name for spec in signature.inputs],
            output_names=[spec.name for spec in signature.outputs],
            dynamic_shapes=(tuple({0: batch} for _ in tensors),),
        )
    if program is None:
        raise RuntimeError(f'{path}: torch.onnx.export returned nothing')
    model = program.model
    _shrink(model)
    ir.save(model, path)


def _shrink(model: ir.Model) -> None:
    optimizer.optimize(model, input_size_limit=NO_LIMIT, output_size_limit=NO_LIMIT)
    common.DeduplicateInitializersPass(size_limit=NO_LIMIT)(model)
    common.CommonSubexpressionEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)
    _store_as_fp16(model)
    common.ClearMetadataAndDocStringPass()(model)
    model.graph.name = 'wm_ros'
    for node in model.graph:
        node.name = None
    common.NameFixPass()(model)


def _store_as_fp16(model: ir.Model) -> None:
    """Replace float32 constants that fp16 holds exactly by fp16 ones and a Cast."""
    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size < SMALLEST_FP16:
            continue
        weights = tensor.numpy()
        with np.errstate(over='ignore'):
            half = weights.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), weights):
            continue
        stored = ir.val(f'{name}_fp16', const_value=ir.tensor(half, name=f'{name}_fp16'))
        cast = ir.node('Cast', [stored], attributes={'to': ir.DataType.FLOAT})
        cast.outputs[0].dtype = ir.DataType.FLOAT
        cast.outputs[0].shape = value.shape
        model.graph.insert_before(model.graph[0], cast)
        value.replace_all_uses_with(cast.outputs[0])
        del model.graph.initializers[name]
        model.graph.initializers[stored.name] = stored
