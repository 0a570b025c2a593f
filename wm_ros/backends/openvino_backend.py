"""OpenVINO on the CPU: bf16 where the CPU computes it, fp32 on request.

`write` is always compiled in fp32: it is a small part of the cost, and its rounding would be added
to the memory at every frame of a session. Batch 1, the live path, is compiled with fixed shapes (a
third faster); the first run of another batch compiles the graph once more with a free batch, about
a second. `bind` compiles once more for its batch and copies nothing: the engine reads the caller's
arrays and writes into its own (B = 8: predict and write 5.0 ms instead of 6.1 through `run`).

With one thread a graph runs in the thread that calls it, nothing is handed over (OpenVINO 2026.4:
not one voluntary switch in 200 runs). No thread is tied to a core, which would be OpenVINO's
choice for more than one: a tied thread waits while another process has that core and a free one
stands by.
"""

from __future__ import annotations

import numpy as np
import openvino as ov

from wm_ros.backends.base import (
    Bound,
    EngineUnavailable,
    GraphInputs,
    GraphOutputs,
    check_bound,
    check_signature,
)
from wm_ros.datatypes import FloatArray
from wm_ros.manifest import GraphSignature, PackageError
from wm_ros.model_package import ModelPackage

HINTS = {'fp32': 'f32', 'bf16': 'bf16'}
FP32_ALWAYS = ('write',)


class OpenVinoBackend:
    """One compiled model per graph for batch 1, and one for all other batches when they come."""

    def __init__(
        self, package: ModelPackage, threads: int = 1, precision: str = 'auto', reason: str = ''
    ) -> None:
        self._core = ov.Core()
        has_bf16 = 'BF16' in self._core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
        if precision == 'auto':
            precision = 'bf16' if has_bf16 else 'fp32'
        if precision not in HINTS or (precision == 'bf16' and not has_bf16):
            offered = 'bf16 and fp32' if has_bf16 else 'fp32'
            raise EngineUnavailable(f'openvino: this CPU runs {offered}, not {precision}')
        self.name = 'openvino'
        self.precision = precision
        self.reason = reason
        self._threads = threads
        self._signatures = package.signatures
        graphs = package.manifest.graphs
        self._models = {graph: _read(self._core, package, graph) for graph in graphs}
        self._compiled: dict[tuple[str, int], ov.CompiledModel] = {}
        self._single = {graph: self._request(graph, batch=1) for graph in graphs}
        self._batched: dict[str, ov.InferRequest] = {}

    def run(self, graph: str, inputs: GraphInputs) -> GraphOutputs:
        """See `Backend.run`."""
        if next(iter(inputs.values())).shape[0] == 1:
            request = self._single[graph]
        else:
            if graph not in self._batched:
                self._batched[graph] = self._request(graph, batch=-1)
            request = self._batched[graph]
        request.infer(dict(inputs), share_inputs=True, share_outputs=True)
        # Output tensors belong to the request and are overwritten by its next run.
        names = [spec.name for spec in self._signatures[graph].outputs]
        return {name: request.get_tensor(name).data.copy() for name in names}

    def bind(self, graph: str, batch: int, inputs: GraphInputs) -> Bound:
        """See `Backend.bind`."""
        signature = self._signatures[graph]
        check_bound(graph, signature, batch, inputs)
        request = self._request(graph, batch)
        outputs: dict[str, FloatArray] = {
            spec.name: np.zeros((batch, *spec.shape), np.float32) for spec in signature.outputs
        }
        arrays = {**inputs, **outputs}
        for name, array in arrays.items():
            request.set_tensor(name, ov.Tensor(array, shared_memory=True))

        def run() -> GraphOutputs:
            request.infer(share_outputs=True)
            # Through `arrays`: a shared tensor does not keep its numpy array alive, this does.
            return {name: arrays[name] for name in outputs}

        return run

    def _request(self, graph: str, batch: int) -> ov.InferRequest:
        """A request of its own on the graph compiled for this batch, -1 for a free one."""
        if (graph, batch) not in self._compiled:
            self._compiled[graph, batch] = self._compile(graph, batch)
        return self._compiled[graph, batch].create_infer_request()

    def _compile(self, graph: str, batch: int) -> ov.CompiledModel:
        model = self._models[graph].clone()
        model.reshape({s.name: [batch, *s.shape] for s in self._signatures[graph].inputs})
        precision = 'fp32' if graph in FP32_ALWAYS else self.precision
        settings = {
            'INFERENCE_PRECISION_HINT': HINTS[precision],
            'PERFORMANCE_HINT': 'LATENCY',
            'INFERENCE_NUM_THREADS': self._threads,
            'NUM_STREAMS': 1,
            'ENABLE_CPU_PINNING': False,
        }
        return self._core.compile_model(model, 'CPU', settings)


def _read(core: ov.Core, package: ModelPackage, graph: str) -> ov.Model:
    path = package.graph_path(graph)
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise PackageError(f'{path}: OpenVINO cannot read it: {error}') from error
    signature: GraphSignature = package.signatures[graph]
    check_signature(str(path), signature, _shapes(model.inputs), _shapes(model.outputs))
    return model


def _shapes(ports: list[ov.Output]) -> dict[str, list[int | None]]:
    return {
        port.get_any_name(): [d.get_length() if d.is_static else None for d in port.partial_shape]
        for port in ports
    }
