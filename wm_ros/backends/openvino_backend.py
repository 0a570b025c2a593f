"""OpenVINO on the CPU: bf16 where the CPU computes it, fp32 on request.

`write` is always compiled in fp32: it is a small part of the cost, and its rounding would be added
to the memory at every frame of a session.
"""

from __future__ import annotations

import openvino as ov

from wm_ros.backends.base import EngineUnavailable, GraphInputs, GraphOutputs, check_signature
from wm_ros.manifest import GRAPHS, PackageError
from wm_ros.model_package import ModelPackage

HINTS = {'fp32': 'f32', 'bf16': 'bf16'}
FP32_ALWAYS = ('write',)


class OpenVinoBackend:
    """One compiled model per graph."""

    def __init__(
        self, package: ModelPackage, threads: int = 1, precision: str = 'auto', reason: str = ''
    ) -> None:
        core = ov.Core()
        has_bf16 = 'BF16' in core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
        if precision == 'auto':
            precision = 'bf16' if has_bf16 else 'fp32'
        if precision not in HINTS or (precision == 'bf16' and not has_bf16):
            raise EngineUnavailable(
                f'openvino: this CPU runs {"bf16, " if has_bf16 else ""}fp32, not {precision}'
            )
        self.name = 'openvino'
        self.precision = precision
        self.reason = reason
        self._requests = {
            graph: _compile(
                core, package, graph, threads, 'fp32' if graph in FP32_ALWAYS else precision
            )
            for graph in GRAPHS
        }
        self._outputs = {
            graph: [spec.name for spec in package.signatures[graph].outputs] for graph in GRAPHS
        }

    def run(self, graph: str, inputs: GraphInputs) -> GraphOutputs:
        """See `Backend.run`."""
        request = self._requests[graph]
        request.infer(dict(inputs), share_inputs=True, share_outputs=False)
        # Output tensors belong to the request and are overwritten by its next run.
        return {name: request.get_tensor(name).data.copy() for name in self._outputs[graph]}


def _compile(
    core: ov.Core, package: ModelPackage, graph: str, threads: int, precision: str
) -> ov.InferRequest:
    path = package.graph_path(graph)
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise PackageError(f'{path}: OpenVINO cannot read it: {error}') from error
    check_signature(
        str(path),
        package.signatures[graph],
        {port.get_any_name(): _shape(port) for port in model.inputs},
        {port.get_any_name(): _shape(port) for port in model.outputs},
    )
    compiled = core.compile_model(
        model,
        'CPU',
        {
            'INFERENCE_PRECISION_HINT': HINTS[precision],
            'INFERENCE_NUM_THREADS': threads,
            'NUM_STREAMS': 1,
        },
    )
    return compiled.create_infer_request()


def _shape(port: ov.Output) -> list[int | None]:
    return [
        None if dimension.is_dynamic else dimension.get_length()
        for dimension in port.get_partial_shape()
    ]
