"""OpenVINO takes the threads it is given, one stream of them, and ties none of them to a core."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wm_ros.backends.openvino_backend import OpenVinoBackend
from wm_ros.manifest import GRAPHS
from wm_ros.model_package import ModelPackage


def cores_of_threads() -> set[str]:
    """The cores that each thread of this process may run on, as the kernel lists them."""
    rows = [
        line
        for task in Path('/proc/self/task').iterdir()
        for line in (task / 'status').read_text().splitlines()
    ]
    return {row.split('\t')[1] for row in rows if row.startswith('Cpus_allowed_list')}


@pytest.mark.parametrize('threads', [1, 2])
def test_no_thread_is_tied_to_a_core(export: Callable[[str], ModelPackage], threads: int) -> None:
    package, before = export('ttt'), cores_of_threads()
    backend = OpenVinoBackend(package, threads, 'fp32')
    rng = np.random.default_rng(0)
    for graph in GRAPHS:
        specs = package.signatures[graph].inputs
        for batch in (1, 3):
            inputs = {s.name: rng.random((batch, *s.shape), np.float32) for s in specs}
            backend.run(graph, inputs)
        for request in (backend._single[graph], backend._batched[graph]):
            model = request.get_compiled_model()
            assert model.get_property('ENABLE_CPU_PINNING') is False
            assert model.get_property('NUM_STREAMS') == 1
            assert model.get_property('INFERENCE_NUM_THREADS') == threads
            assert 'LATENCY' in str(model.get_property('PERFORMANCE_HINT'))
    assert cores_of_threads() == before
