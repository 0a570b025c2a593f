"""ONNX Runtime: fp32 on the CPU everywhere, or on an NVIDIA GPU with the `gpu` extra."""

from __future__ import annotations

import onnxruntime as ort

from wm_ros.backends.base import (
    Bound,
    EngineUnavailable,
    GraphInputs,
    GraphOutputs,
    check_bound,
    check_signature,
)
from wm_ros.manifest import PackageError
from wm_ros.model_package import ModelPackage

CPU, CUDA = 'CPUExecutionProvider', 'CUDAExecutionProvider'


class OnnxRuntimeBackend:
    """One session per graph."""

    def __init__(
        self,
        package: ModelPackage,
        threads: int = 1,
        precision: str = 'auto',
        reason: str = '',
        *,
        cuda: bool = False,
    ) -> None:
        self.name = 'cuda' if cuda else 'onnxruntime'
        self.precision = 'fp32'
        self.reason = reason
        if precision not in ('auto', 'fp32'):
            raise EngineUnavailable(f'{self.name}: runs fp32, not {precision}')
        if cuda and CUDA not in ort.get_available_providers():
            raise EngineUnavailable('cuda: this onnxruntime has no CUDA provider')
        self._signatures = package.signatures
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._sessions = {
            graph: _session(package, graph, options, [CUDA, CPU] if cuda else [CPU])
            for graph in package.manifest.graphs
        }
        # ONNX Runtime falls back to the CPU with a log line when the GPU cannot be used.
        if cuda and any(
            CUDA not in session.get_providers() for session in self._sessions.values()
        ):
            raise EngineUnavailable(
                'cuda: the CUDA provider is installed but did not start (driver or GPU missing)'
            )

    def run(self, graph: str, inputs: GraphInputs) -> GraphOutputs:
        """See `Backend.run`."""
        session = self._sessions[graph]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    def bind(self, graph: str, batch: int, inputs: GraphInputs) -> Bound:
        """See `Backend.bind`."""
        check_bound(graph, self._signatures[graph], batch, inputs)
        session, arrays = self._sessions[graph], dict(inputs)
        names = [output.name for output in session.get_outputs()]
        return lambda: dict(zip(names, session.run(names, arrays), strict=True))


def _session(
    package: ModelPackage, graph: str, options: ort.SessionOptions, providers: list[str]
) -> ort.InferenceSession:
    path = package.graph_path(graph)
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise PackageError(f'{path}: ONNX Runtime cannot load it: {error}') from error
    check_signature(
        str(path),
        package.signatures[graph],
        {item.name: item.shape for item in session.get_inputs()},
        {item.name: item.shape for item in session.get_outputs()},
    )
    return session
