"""Does an engine compute what PyTorch computed? One recorded run, replayed and compared.

A sample is a short stream (images, actions, gates, noise) and what came out of it frame by frame.
`record` is the one loop that PyTorch (at export), every backend (at configure) and the 200-frame
check of `parity_long` go through.

Axes: T frames, B batch (1 here), A action, D noise draws, C channels, H W cells or pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wm_ros.backends.base import Backend, GraphInputs, GraphOutputs
from wm_ros.config import ModelConfig
from wm_ros.datatypes import FloatArray, ImageArray
from wm_ros.manifest import PackageError, Sampler, memory_input, memory_output
from wm_ros.model_package import ModelPackage
from wm_ros.preprocess import to_model

LATENT_TOLERANCE = 1e-3
SKIP_EVERY = 16
LONG = 'long_'  # names of the arrays of `parity_long` in the same file

RunGraph = Callable[[str, GraphInputs], GraphOutputs]


@dataclass(frozen=True)
class SampleInputs:
    """The stream of a sample.

    Attributes:
        images_THWC: uint8 RGB.
        actions_TA: a_t in [-1, 1].
        gates_T: 1 where a frame is written to the long memory.
        noise_TDCHW: standard normal.
    """

    images_THWC: ImageArray
    actions_TA: FloatArray
    gates_T: FloatArray
    noise_TDCHW: FloatArray


@dataclass(frozen=True)
class ParityReport:
    """Largest absolute difference per output, against a tolerance."""

    subject: str
    errors: Mapping[str, float]
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether every difference is a number within the tolerance."""
        return all(error <= self.tolerance for error in self.errors.values())

    def __str__(self) -> str:
        errors = ', '.join(f'{name} {error:.2e}' for name, error in self.errors.items())
        verdict = 'ok' if self.ok else 'MISMATCH'
        return f'{self.subject}: max abs {errors}; tolerance {self.tolerance:g}: {verdict}'


def make_inputs(model: ModelConfig, sampler: Sampler, frames: int, seed: int) -> SampleInputs:
    """Make a stream of drifting colour waves, random actions and noise, one frame in 16 marked as
    missing.
    """
    rng = np.random.default_rng(seed)
    y_HW, x_HW = np.mgrid[: model.image_size, : model.image_size] / model.image_size
    wave_THWC = np.zeros((frames, model.image_size, model.image_size, 3))
    time_T111 = np.arange(frames).reshape(-1, 1, 1, 1)
    for _ in range(4):
        fx, fy, speed = rng.uniform(-3, 3), rng.uniform(-3, 3), rng.uniform(-0.1, 0.1)
        phase_C = rng.uniform(0, 1, 3)
        wave_THWC += np.sin(
            2 * np.pi * ((fx * x_HW + fy * y_HW)[..., None] + phase_C + speed * time_T111)
        )
    gates_T = np.ones(frames, np.float32)
    gates_T[2::SKIP_EVERY] = 0
    return SampleInputs(
        np.rint(127.5 + 30 * wave_THWC).astype(np.uint8),
        rng.uniform(-1, 1, (frames, model.action_width)).astype(np.float32),
        gates_T,
        rng.standard_normal((frames, sampler.noise_draws, *model.coded_shape), np.float32),
    )


def record(model: ModelConfig, run: RunGraph, inputs: SampleInputs) -> dict[str, FloatArray]:
    """Observe the stream frame by frame, predicting after each, and return everything that came
    out.

    Returns:
        `latents` and `predictions` [T, C, h, w], `image` (the last prediction decoded) [3, S, S],
        and each memory tensor after the last frame as `memory_<name>`.
    """
    memory = {spec.name: np.zeros((1, *spec.shape), np.float32) for spec in model.memory_specs()}
    action_prev_BA = np.zeros((1, model.action_width), np.float32)
    latents, predictions = [], []
    for t in range(len(inputs.images_THWC)):
        latent = run('encode', {'image': to_model(inputs.images_THWC[t : t + 1])})['latent']
        before = {memory_input(name): array for name, array in memory.items()}
        written = run(
            'write',
            {
                'latent': latent,
                'action': action_prev_BA,
                'gate': inputs.gates_T[t : t + 1],
                **before,
            },
        )
        memory = {name: written[memory_output(name)] for name in memory}
        action_prev_BA = inputs.actions_TA[t : t + 1]
        after = {memory_input(name): array for name, array in memory.items()}
        prediction = run(
            'predict', {'action': action_prev_BA, 'noise': inputs.noise_TDCHW[t : t + 1], **after}
        )['latent']
        latents.append(latent[0])
        predictions.append(prediction[0])
    image = run('decode', {'latent': predictions[-1][None]})['image'][0]
    return {
        'latents': np.stack(latents),
        'predictions': np.stack(predictions),
        'image': image,
        **{memory_input(name): array[0] for name, array in memory.items()},
    }


def max_abs(
    expected: Mapping[str, FloatArray], found: Mapping[str, FloatArray]
) -> dict[str, float]:
    """Return the largest absolute difference of each array; NaN anywhere gives NaN."""
    return {name: float(np.max(np.abs(expected[name] - found[name]))) for name in expected}


def write_sample(
    path: Path,
    inputs: SampleInputs,
    expected: Mapping[str, FloatArray],
    long_arrays: Mapping[str, Any],
) -> None:
    """Write a package's parity sample (npz) and beside it the arrays of its `LongRun`."""
    np.savez_compressed(
        path,
        allow_pickle=False,
        **vars(inputs),
        **{f'expected_{name}': array for name, array in expected.items()},
        **long_arrays,
    )


def read_sample(package: ModelPackage) -> tuple[SampleInputs, dict[str, FloatArray]]:
    """Read a package's parity sample: what goes in and what PyTorch gave.

    Raises:
        PackageError: not readable, or arrays are missing.
    """
    try:
        with np.load(package.parity_path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files if not name.startswith(LONG)}
        inputs = SampleInputs(*(arrays[name] for name in SampleInputs.__dataclass_fields__))
    except Exception as error:
        raise PackageError(f'{package.parity_path}: not a parity sample: {error!r}') from error
    expected = {
        name.removeprefix('expected_'): array
        for name, array in arrays.items()
        if name.startswith('expected_')
    }
    return inputs, expected


def check_sample(package: ModelPackage, backend: Backend) -> ParityReport:
    """Replay the stored sample on a loaded backend and compare with what PyTorch gave."""
    inputs, expected = read_sample(package)
    found = record(package.model, backend.run, inputs)
    if expected.keys() != found.keys():
        raise PackageError(
            f'{package.parity_path}: holds {", ".join(sorted(expected))}; '
            f'expected {", ".join(sorted(found))}'
        )
    return ParityReport(
        f'{backend.name} {backend.precision} against the stored PyTorch sample, '
        f'{len(inputs.images_THWC)} frames',
        max_abs(expected, found),
        package.manifest.parity.tolerance[backend.precision],
    )
