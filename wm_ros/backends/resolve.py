"""Choose the engine once, at configure time, and say why. Nothing changes it afterwards.

`auto` takes the first that loads the package here: TensorRT, CUDA, OpenVINO, ONNX Runtime; its
`reason` names every engine that it passed over, and why. A named engine is taken or refused.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata, util
from typing import Final

from wm_ros.backends.base import Backend, EngineNotBuilt, EngineUnavailable
from wm_ros.model_package import ModelPackage, PackageError

AUTO_ORDER: Final = ('tensorrt', 'cuda', 'openvino', 'onnxruntime')
KINDS: Final = ('auto', *AUTO_ORDER, 'toy')


def resolve_backend(
    kind: str, package: ModelPackage, threads: int = 1, *, precision: str = 'auto'
) -> Backend:
    """Load a package into an engine.

    Args:
        kind: one of `KINDS`.
        package: the package whose graphs are to be run.
        threads: CPU threads of the engine; more than 1 pays only on a quiet machine.
        precision: `auto` (the engine's own choice) or `fp32`, `bf16`; an engine that has not got
            it refuses.

    Raises:
        EngineUnavailable: the engine, or with `auto` every engine, cannot run here; the text says
            why.
        EngineNotBuilt: `tensorrt`.
        PackageError: the engine (with `auto`: every engine that runs here) cannot load the
            package's graphs, or they have other shapes.
        ValueError: an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f'backend {kind!r}: expected one of {", ".join(KINDS)}')
    if kind != 'auto':
        return LOADERS[kind](package, threads, precision, f'{kind}: asked for by name')
    passed: list[str] = []
    failure: type[Exception] = EngineUnavailable
    for candidate in AUTO_ORDER:
        try:
            skipped = f' ({"; ".join(passed)})' if passed else ''
            return LOADERS[candidate](
                package, threads, precision, f'{candidate}: first of auto that runs here{skipped}'
            )
        except EngineUnavailable as error:
            passed.append(str(error))
        except Exception as error:  # a broken installation raises whatever it likes
            passed.append(f'{candidate}: {type(error).__name__}: {error}')
            if isinstance(error, PackageError):
                failure = PackageError
    raise failure(f'no engine for package {package.name}: {"; ".join(passed)}')


def _tensorrt(package: ModelPackage, threads: int, precision: str, reason: str) -> Backend:
    raise EngineNotBuilt(
        'TensorRT engine not built: this version ships ONNX graphs only; '
        'use auto, cuda, openvino or onnxruntime'
    )


def _cuda(package: ModelPackage, threads: int, precision: str, reason: str) -> Backend:
    require_onnxruntime('cuda')
    from wm_ros.backends.onnxruntime_backend import OnnxRuntimeBackend

    return OnnxRuntimeBackend(package, threads, precision, reason, cuda=True)


def _onnxruntime(package: ModelPackage, threads: int, precision: str, reason: str) -> Backend:
    require_onnxruntime('onnxruntime')
    from wm_ros.backends.onnxruntime_backend import OnnxRuntimeBackend

    return OnnxRuntimeBackend(package, threads, precision, reason)


def _openvino(package: ModelPackage, threads: int, precision: str, reason: str) -> Backend:
    if util.find_spec('openvino') is None:
        raise EngineUnavailable('openvino: not installed (extra "openvino")')
    from wm_ros.backends.openvino_backend import OpenVinoBackend

    return OpenVinoBackend(package, threads, precision, reason)


def _toy(package: ModelPackage, threads: int, precision: str, reason: str) -> Backend:
    from wm_ros.backends.toy_backend import ToyBackend

    return ToyBackend(package, reason)


def require_onnxruntime(kind: str) -> None:
    """Refuse a Python without ONNX Runtime, or with both of its distributions: they share the
    import name `onnxruntime`, and which one answers is chance.

    Args:
        kind: who needs it, for the text.

    Raises:
        EngineUnavailable: it is missing, or there twice.
    """
    installed = [name for name in ('onnxruntime', 'onnxruntime-gpu') if _installed(name)]
    if len(installed) > 1:
        raise EngineUnavailable(
            f'{kind}: onnxruntime and onnxruntime-gpu are both installed and share one import '
            'name; uninstall both, then install one'
        )
    if util.find_spec('onnxruntime') is None:
        raise EngineUnavailable(f'{kind}: onnxruntime is not installed (extra "ort" or "gpu")')


def _installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


LOADERS: Final[dict[str, Callable[[ModelPackage, int, str, str], Backend]]] = {
    'tensorrt': _tensorrt,
    'cuda': _cuda,
    'openvino': _openvino,
    'onnxruntime': _onnxruntime,
    'toy': _toy,
}
