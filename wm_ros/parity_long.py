"""Does an engine still compute what PyTorch computed after more than 200 observed frames?

`wm inspect --check` asks; a node's configure check is `wm_ros.parity`'s short sample. The stream
is not stored: its seed is, with a hash of what it must come out as, and every tenth of PyTorch's
latents, so that a package grows by some 300 kB. Nothing is rounded: the arrays are PyTorch's
float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_ros.backends.base import Backend
from wm_ros.config import ModelConfig
from wm_ros.datatypes import FloatArray
from wm_ros.manifest import PackageError, Sampler
from wm_ros.model_package import ModelPackage
from wm_ros.parity import (
    LATENT_TOLERANCE,
    LONG,
    ParityReport,
    RunGraph,
    SampleInputs,
    make_inputs,
    max_abs,
    record,
)

FRAMES = 220  # 206 observed: `make_inputs` marks one in 16 as missing
SEED = 1
EVERY = 10


@dataclass(frozen=True)
class LongRun:
    """A stream by its seed, and what PyTorch gave on it.

    Attributes:
        seed, frames: arguments of `make_inputs`.
        every: latents and predictions are kept of every so many frames, the last one included.
        inputs_sha256: hash of the stream.
        expected: `latents`, `predictions` [frames / every, C, h, w] and the final `memory_<name>`.
    """

    seed: int
    frames: int
    every: int
    inputs_sha256: str
    expected: Mapping[str, FloatArray]

    def arrays(self) -> dict[str, Any]:
        """Return the arrays that stand for it in a package's parity sample."""
        return {
            f'{LONG}run': np.array([self.seed, self.frames, self.every]),
            f'{LONG}inputs_sha256': np.array(self.inputs_sha256),
            **{f'{LONG}expected_{name}': array for name, array in self.expected.items()},
        }


def record_long(
    model: ModelConfig, sampler: Sampler, run: RunGraph, frames: int = FRAMES, seed: int = SEED
) -> LongRun:
    """Run the reference over a stream of `frames` frames, a multiple of 10."""
    if frames < EVERY or frames % EVERY:
        raise ValueError(f'frames is {frames}: expected a multiple of {EVERY}')
    inputs = make_inputs(model, sampler, frames, seed)
    found = _thin(record(model, run, inputs), EVERY)
    return LongRun(seed, frames, EVERY, _sha256(inputs), found)


def read_long(package: ModelPackage) -> LongRun:
    """Read a package's long run.

    Raises:
        PackageError: not readable, or the package was exported before there was one.
    """
    prefix = f'{LONG}expected_'
    try:
        with np.load(package.parity_path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files if name.startswith(LONG)}
    except Exception as error:
        raise PackageError(f'{package.parity_path}: not a parity sample: {error!r}') from error
    if f'{LONG}run' not in arrays:
        raise PackageError(
            f'{package.parity_path}: holds no long run of PyTorch to check against: exported by '
            'an earlier version, export the package again'
        )
    seed, frames, every = (int(value) for value in arrays[f'{LONG}run'])
    expected = {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    return LongRun(seed, frames, every, str(arrays[f'{LONG}inputs_sha256']), expected)


def check_long(package: ModelPackage, backend: Backend) -> ParityReport:
    """Run a loaded fp32 backend over the long stream and compare with what PyTorch gave.

    Raises:
        PackageError: no long run in the package, or its stream cannot be made again here.
        ValueError: the backend computes in another precision, for which nothing is promised.
    """
    if backend.precision != 'fp32':
        raise ValueError(f'{backend.name} runs {backend.precision}: the long check is for fp32')
    long = read_long(package)
    inputs = make_inputs(package.model, package.sampler, long.frames, long.seed)
    if (sha256 := _sha256(inputs)) != long.inputs_sha256:
        raise PackageError(
            f'{package.parity_path}: the stream of seed {long.seed} comes out differently here '
            f'(numpy {np.__version__}): found sha256 {sha256}, expected {long.inputs_sha256}'
        )
    found = _thin(record(package.model, backend.run, inputs), long.every)
    if found.keys() != long.expected.keys():
        raise PackageError(
            f'{package.parity_path}: long run holds {", ".join(sorted(long.expected))}; '
            f'expected {", ".join(sorted(found))}'
        )
    observed = int(inputs.gates_T.sum())
    return ParityReport(
        f'{backend.name} fp32 against stored PyTorch over {observed} observed frames',
        max_abs(long.expected, found),
        LATENT_TOLERANCE,
    )


def _thin(found: Mapping[str, FloatArray], every: int) -> dict[str, FloatArray]:
    """Keep of a record what a long run stores; the picture is the short sample's matter."""
    latents = {name: found[name][every - 1 :: every] for name in ('latents', 'predictions')}
    return latents | {name: found[name] for name in found if name.startswith('memory_')}


def _sha256(inputs: SampleInputs) -> str:
    digest = hashlib.sha256()
    for array in vars(inputs).values():
        digest.update(f'{array.dtype.str}{array.shape}'.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
