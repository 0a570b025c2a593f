"""What the world model asks of an engine: run one of a few named graphs on named arrays.

No state, no random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from wm_ros.datatypes import FloatArray
from wm_ros.manifest import GraphSignature, PackageError

GraphInputs = Mapping[str, FloatArray]
GraphOutputs = dict[str, FloatArray]
Bound = Callable[[], Mapping[str, FloatArray]]
Shape = Sequence[int | str | None]


class EngineUnavailable(RuntimeError):
    """The engine asked for cannot run on this machine; the text says why."""


class EngineNotBuilt(EngineUnavailable):
    """A known engine that this version of wm_ros does not have yet."""


class Backend(Protocol):
    """One engine with one package loaded.

    Attributes:
        name: `onnxruntime`, `cuda`, `openvino`, `tensorrt` or `toy`.
        precision: arithmetic of the heavy graphs: `fp32`, `bf16` or `fp16`. Arrays are float32 at
            the boundary.
        reason: why this engine was taken, for the log; fixed for the backend's life.
    """

    name: str
    precision: str
    reason: str

    def run(self, graph: str, inputs: GraphInputs) -> GraphOutputs:
        """Run a graph of the package.

        Args:
            graph: `encode`, `write`, `predict`, `decode`, or `reward` where the package has it.
            inputs: C-contiguous float32 arrays by input name, batch axis first, one batch for all.
                Not modified.

        Returns:
            Float32 arrays by output name. They belong to the caller: a later run does not change
            them.
        """
        ...

    def bind(self, graph: str, batch: int, inputs: GraphInputs) -> Bound:
        """Tie a graph of one batch size to arrays, for work that is repeated.

        Args:
            graph: as in `run`.
            batch: rows of every array.
            inputs: C-contiguous float32 arrays by input name, batch axis first. The caller keeps
                and refills them; some may be shared between bound graphs.

        Returns:
            A function that runs the graph on what the arrays hold when it is called. What it
            returns is valid until its next call and must not be edited. Not for several threads.

        Raises:
            ValueError: arrays that do not fit the graph or the batch.
        """
        ...


def check_bound(graph: str, signature: GraphSignature, batch: int, inputs: GraphInputs) -> None:
    """Raise ValueError where arrays cannot be tied to a graph of this batch."""
    expected = {spec.name: (batch, *spec.shape) for spec in signature.inputs}
    found = {name: array.shape for name, array in inputs.items()}
    if found != expected:
        raise ValueError(f'bind {graph}: found {found}, expected {expected}')
    for name, array in inputs.items():
        if array.dtype != np.float32 or not array.flags.c_contiguous:
            raise ValueError(f'bind {graph}: {name} is not a contiguous float32 array')


def check_signature(
    where: str,
    signature: GraphSignature,
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
) -> None:
    """Compare a loaded graph with what the package's model needs.

    Args:
        where: file name for the message.
        signature: what is needed, without the batch axis.
        inputs: input name -> shape found, batch axis first; an entry that is not an int is free.
        outputs: the same for outputs.

    Raises:
        PackageError: names, number of axes or fixed sizes differ.
    """
    for kind, specs, found in (
        ('inputs', signature.inputs, inputs),
        ('outputs', signature.outputs, outputs),
    ):
        expected = {spec.name: spec.shape for spec in specs}
        if set(expected) != set(found):
            raise PackageError(
                f'{where}: found {kind} {", ".join(sorted(found))}; '
                f'expected {", ".join(sorted(expected))}'
            )
        for name, shape in expected.items():
            sizes = list(found[name])
            fits = len(sizes) == len(shape) + 1 and all(
                not isinstance(size, int) or size == wanted
                for size, wanted in zip(sizes[1:], shape, strict=True)
            )
            if not fits or isinstance(sizes[0], int):
                raise PackageError(
                    f'{where}: {kind[:-1]} {name} has shape {sizes}, '
                    f'expected [batch, {", ".join(map(str, shape))}] with a free batch'
                )
