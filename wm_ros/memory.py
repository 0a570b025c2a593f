"""Memories as values: start, fork, select, join, check, save and load. Nothing here edits an array
in place.

A memory file is a magic line, the SHA-256 of the rest, and an npz with the arrays and a header in
JSON.

Axes: B batch (states side by side); the other axes of each tensor are the model's.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import FloatArray, MemoryState, TensorSpec
from wm_ros.model_package import ModelPackage

MAGIC = b'wm_ros memory 1\n'
HEADER = 'header'


class NonFiniteError(ArithmeticError):
    """A model output or memory holds NaN or infinity: reset before going on."""


class MemoryFileError(Exception):
    """A memory file that is damaged, of another version or of another package."""


class MemoryVersionError(MemoryFileError):
    """Not a memory file of this version."""


class MemoryOwnerError(MemoryFileError):
    """A whole memory file, saved for another package."""


@dataclass(frozen=True)
class SavedMemory:
    """What `save` wrote: file, its size and the SHA-256 of its content."""

    path: Path
    nbytes: int
    sha256: str


def freeze(arrays: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Mark arrays read-only, so that nobody edits a memory in place, and return them."""
    for array in arrays.values():
        array.flags.writeable = False
    return dict(arrays)


def initial(specs: Sequence[TensorSpec], batch: int = 1, stamp_ns: int = 0) -> MemoryState:
    """Return an empty memory: zeros."""
    arrays = {spec.name: np.zeros((batch, *spec.shape), np.float32) for spec in specs}
    return MemoryState(freeze(arrays), stamp_ns=stamp_ns)


def fork(memory: MemoryState, n: int) -> MemoryState:
    """Return n copies of a single memory, side by side. The parent is not touched.

    Raises:
        ValueError: the memory already holds more than one state.
    """
    if memory.batch != 1:
        raise ValueError(f'fork takes a memory of batch 1, found {memory.batch}; use select')
    return select(memory, np.zeros(n, np.int64))


def select(memory: MemoryState, indices: Sequence[int] | npt.NDArray[np.int64]) -> MemoryState:
    """Return the states at `indices` (repeats allowed), as copies."""
    rows = np.asarray(indices, np.int64)
    return _with(memory, {name: array[rows] for name, array in memory.arrays.items()})


def concatenate(memories: Sequence[MemoryState]) -> MemoryState:
    """Join memories of the same frame count and stamp along the batch axis.

    Raises:
        ValueError: nothing to join, or memories that are not at the same frame.
    """
    if not memories:
        raise ValueError('concatenate needs at least one memory')
    first = memories[0]
    for other in memories:
        if (other.frames, other.stamp_ns) != (first.frames, first.stamp_ns):
            raise ValueError(
                f'memories differ: {other.frames} frames at {other.stamp_ns} ns, '
                f'{first.frames} frames at {first.stamp_ns} ns'
            )
    return _with(
        first, {name: np.concatenate([m.arrays[name] for m in memories]) for name in first.arrays}
    )


def check_finite(memory: MemoryState) -> MemoryState:
    """Return the memory, or raise NonFiniteError naming the tensor that is not finite."""
    for name, array in memory.arrays.items():
        require_finite(array, f'memory tensor {name}')
    return memory


def require_finite(array: FloatArray, what: str) -> FloatArray:
    """Return the array, or raise NonFiniteError saying how many of its entries are not finite."""
    finite = np.isfinite(array)
    if not finite.all():
        raise NonFiniteError(
            f'{what}: {int(array.size - finite.sum())} of {array.size} entries are not finite'
        )
    return array


def norm(memory: MemoryState) -> float:
    """Frobenius norm of the long memory (the fast weights, else the window's values), largest of
    the batch.

    An arm without long memory has norm 0.
    """
    long = memory.arrays.get('fast_weights', memory.arrays.get('values'))
    if long is None:
        return 0.0
    return float(np.linalg.norm(long.reshape(long.shape[0], -1), axis=1).max())


def save(memory: MemoryState, path: str | Path, package_id: str) -> SavedMemory:
    """Write a memory to a file, whole or not at all (written beside, synced, renamed).

    Args:
        memory: any batch.
        path: file to write; an existing one is replaced.
        package_id: `ModelPackage.sha256` of the package it belongs to.

    Raises:
        OSError: the file cannot be written.
        NonFiniteError: the memory is not finite.
    """
    check_finite(memory)
    header = {'package': package_id, 'frames': memory.frames, 'stamp_ns': memory.stamp_ns}
    packed = io.BytesIO()
    arrays: dict[str, npt.NDArray[Any]] = {
        f'memory_{name}': array for name, array in memory.arrays.items()
    }
    arrays[HEADER] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez_compressed(packed, allow_pickle=False, **arrays)
    payload = packed.getvalue()
    sha256 = hashlib.sha256(payload).hexdigest()
    content = MAGIC + sha256.encode() + b'\n' + payload
    path = Path(path)
    beside = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        with beside.open('wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return SavedMemory(path, len(content), sha256)


def load(path: str | Path, package: ModelPackage) -> MemoryState:
    """Read a memory that was saved for `package`.

    Raises:
        OSError: no such file.
        MemoryFileError: not a memory file, damaged, another package's, or shapes that do not fit.
    """
    content = Path(path).read_bytes()
    if not content.startswith(MAGIC):
        raise MemoryVersionError(
            f'{path}: not a memory file of this version: starts with {content[:16]!r}, '
            f'expected {MAGIC!r}'
        )
    expected, separator, payload = content[len(MAGIC) :].partition(b'\n')
    found = hashlib.sha256(payload).hexdigest()
    if not separator or found.encode() != expected:
        raise MemoryFileError(
            f'{path}: damaged: sha256 of its content is {found}, '
            f'it says {expected[:64].decode("ascii", "replace")}'
        )
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as packed:
            header = json.loads(packed[HEADER].tobytes())
            arrays = {
                name.removeprefix('memory_'): packed[name]
                for name in packed.files
                if name != HEADER
            }
        owner, frames, stamp_ns = header['package'], int(header['frames']), int(header['stamp_ns'])
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise MemoryFileError(f'{path}: not readable as a memory: {error}') from error
    if owner != package.sha256:
        raise MemoryOwnerError(
            f'{path}: saved for package {owner}, this one is {package.name} {package.sha256}'
        )
    wanted = {spec.name: (spec.shape, spec.dtype) for spec in package.memory_specs}
    stored = {name: (array.shape[1:], str(array.dtype)) for name, array in arrays.items()}
    if stored != wanted or len({array.shape[0] for array in arrays.values()}) != 1:
        raise MemoryOwnerError(
            f'{path}: holds {stored}, the model needs {wanted}, all of one batch'
        )
    return check_finite(MemoryState(freeze(arrays), frames, stamp_ns))


def _with(memory: MemoryState, arrays: Mapping[str, FloatArray]) -> MemoryState:
    return MemoryState(freeze(arrays), memory.frames, memory.stamp_ns)
