"""Engines that run a package's graphs. One file per engine, imported only when it is chosen."""

from wm_ros.backends.base import Backend, EngineNotBuilt, EngineUnavailable
from wm_ros.backends.resolve import KINDS, require_onnxruntime, resolve_backend

__all__ = [
    'KINDS',
    'Backend',
    'EngineNotBuilt',
    'EngineUnavailable',
    'require_onnxruntime',
    'resolve_backend',
]
