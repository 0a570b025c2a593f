"""PyTorch, ONNX Runtime and OpenVINO compute the same world model, frame after frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import PROVENANCE, SAMPLERS, randomise, tiny_config, tiny_contract

from export.graphs import runner
from export.to_onnx import export_package
from models.autoencoder import Autoencoder
from models.rounding import round_to_fp16
from models.world_model import LatentWorldModel
from wm_ros import memory as memories
from wm_ros import parity
from wm_ros.backends import Backend, resolve_backend
from wm_ros.manifest import PackageError
from wm_ros.model_package import ModelPackage
from wm_ros.parity_long import check_long
from wm_ros.world_model import WorldModel

Export = Callable[[str], ModelPackage]
Build = Callable[[str], LatentWorldModel]
# The first test that needs a package exports it: slow on a machine that is shared.
pytestmark = pytest.mark.timeout(600)

ENGINES = [('onnxruntime', 'fp32'), ('openvino', 'fp32')]


LOADED: dict[tuple[str, str, str], Backend] = {}


def engine(package: ModelPackage, kind: str, precision: str) -> Backend:
    """Load a package into an engine, once for all tests."""
    key = (package.sha256, kind, precision)
    if key not in LOADED:
        LOADED[key] = resolve_backend(kind, package, precision=precision)
    return LOADED[key]


def random_inputs(package: ModelPackage, graph: str, batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    return {spec.name: rng.standard_normal((batch, *spec.shape), np.float32)
            for spec in package.signatures[graph].inputs}


def test_pytorch_and_both_engines_agree_over_200_observed_frames(
        export: Export, build: Build, autoencoder: Autoencoder) -> None:
    package = export('ttt')
    world_model = build('ttt')
    rounded = Autoencoder(autoencoder.config)
    rounded.load_state_dict(autoencoder.state_dict())
    for module in (world_model, rounded):
        round_to_fp16(module)
    inputs = parity.make_inputs(package.model, package.sampler, frames=220, seed=1)
    assert inputs.gates_T.sum() >= 200
    expected = parity.record(package.model, runner(world_model, rounded, package.sampler), inputs)
    assert np.abs(np.diff(expected['predictions'], axis=0)).max() > 0.1
    for kind, precision in ENGINES:
        found = parity.record(package.model, engine(package, kind, precision).run, inputs)
        errors = parity.max_abs(expected, found)
        assert max(errors.values()) <= parity.LATENT_TOLERANCE, (kind, errors)


@pytest.mark.parametrize('arm', ['ttt', 'window', 'none'])
def test_every_arm_reproduces_its_stored_samples(export: Export, arm: str) -> None:
    package = export(arm)
    for kind, precision in ENGINES:
        report = parity.check_sample(package, engine(package, kind, precision))
        assert report.ok, str(report)
        assert max(report.errors.values()) > 0 or kind == 'onnxruntime'
        report = check_long(package, engine(package, kind, precision))
        assert report.ok, str(report)
        assert 'over 206 observed frames' in report.subject
        assert report.errors.keys() > {'latents', 'predictions'}
        assert report.tolerance == 1e-3


def test_bf16_stays_within_its_tolerance_and_writes_in_fp32(export: Export) -> None:
    package = export('ttt')
    exact = engine(package, 'openvino', 'fp32')
    try:
        coarse = engine(package, 'openvino', 'bf16')
    except RuntimeError as error:
        pytest.skip(str(error))
    report = parity.check_sample(package, coarse)
    assert report.ok, str(report)
    assert report.errors['predictions'] > 1e-4
    inputs = random_inputs(package, 'write', 1)
    errors = parity.max_abs(exact.run('write', inputs), coarse.run('write', inputs))
    assert max(errors.values()) == 0


@pytest.mark.parametrize(('kind', 'precision'), ENGINES)
@pytest.mark.parametrize('arm', ['ttt', 'window'])
def test_a_batch_is_its_rows(export: Export, arm: str, kind: str, precision: str) -> None:
    package = export(arm)
    backend = engine(package, kind, precision)
    for graph in ('encode', 'write', 'predict', 'decode'):
        inputs = random_inputs(package, graph, 5)
        together = backend.run(graph, inputs)
        for row in range(5):
            alone = backend.run(graph, {name: array[row:row + 1]
                                        for name, array in inputs.items()})
            for name, array in alone.items():
                np.testing.assert_allclose(array[0], together[name][row], atol=2e-4)


@pytest.mark.parametrize(('kind', 'precision'), [('onnxruntime', 'fp32'), ('openvino', 'auto')])
@pytest.mark.parametrize('arm', ['ttt', 'window', 'none'])
def test_equal_rows_of_a_batch_stay_bitwise_equal(export: Export, arm: str, kind: str,
                                                  precision: str) -> None:
    """Twins run side by side: rounding that depends on the row would look like a leak."""
    package = export(arm)
    backend = engine(package, kind, precision)
    for graph in ('encode', 'write', 'predict', 'decode'):
        single = random_inputs(package, graph, 1)
        for batch in (2, 4, 7):
            repeated = {name: array.repeat(batch, 0) for name, array in single.items()}
            for array in backend.run(graph, repeated).values():
                assert all(row.tobytes() == array[0].tobytes() for row in array)


@pytest.mark.parametrize(('kind', 'precision'), ENGINES)
def test_outputs_belong_to_the_caller_and_inputs_stay(export: Export, kind: str,
                                                      precision: str) -> None:
    package = export('ttt')
    backend = engine(package, kind, precision)
    for graph in ('encode', 'write', 'predict', 'decode'):
        inputs = memories.freeze(random_inputs(package, graph, 1))
        before = {name: array.copy() for name, array in inputs.items()}
        first = backend.run(graph, inputs)
        kept = {name: array.copy() for name, array in first.items()}
        backend.run(graph, {name: array + 1 for name, array in inputs.items()})
        for name, array in first.items():
            np.testing.assert_array_equal(array, kept[name])
        for name, array in inputs.items():
            np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize('kind', ['onnxruntime', 'openvino'])
def test_denoise_passes_leave_the_memory_bitwise_unchanged(export: Export, kind: str) -> None:
    package = export('ttt')
    world = WorldModel(package, engine(package, kind, 'auto'))
    rng = np.random.default_rng(0)
    memory = world.reset()
    for _ in range(3):
        latent = rng.standard_normal((1, *package.model.latent_shape), np.float32)
        action = rng.uniform(-1, 1, (1, package.model.action_width)).astype(np.float32)
        memory = world.observe_latent(memory, latent, action)
    before = {name: array.tobytes() for name, array in memory.arrays.items()}
    for candidates in (1, 3):
        actions = rng.uniform(-1, 1, (candidates, 4, package.model.action_width))
        world.imagine(memory, actions.astype(np.float32), world.noise(rng, candidates, 4))
    assert {name: array.tobytes() for name, array in memory.arrays.items()} == before


def test_the_memory_changes_what_is_predicted(export: Export) -> None:
    for arm in ('ttt', 'window'):
        package = export(arm)
        backend = engine(package, 'onnxruntime', 'fp32')
        inputs = random_inputs(package, 'predict', 1)
        long = 'memory_fast_weights' if arm == 'ttt' else 'memory_values'
        other = inputs | {long: inputs[long] * 2 + 1}
        change = backend.run('predict', inputs)['latent'] - backend.run('predict', other)['latent']
        assert np.abs(change).max() > 1e-3


def test_the_state_stays_finite_and_bounded_over_10000_frames_of_noise(export: Export) -> None:
    package = export('ttt')
    world = WorldModel(package, engine(package, 'onnxruntime', 'fp32'))
    rng = np.random.default_rng(0)
    memory = world.reset()
    norms = []
    for index in range(10_000):
        latent = 3 * rng.standard_normal((1, *package.model.latent_shape), np.float32)
        action = rng.uniform(-1, 1, (1, package.model.action_width)).astype(np.float32)
        memory = world.observe_latent(memory, latent, action)
        if index % 1000 == 999:
            norms.append(memories.norm(memory))
    assert memory.frames == 10_000
    assert memory.nbytes == package.manifest.state_bytes
    assert 0 < max(norms[5:]) < 1.5 * max(norms[:5])


def test_engines_agree_on_a_model_that_starts_from_the_last_frame(tmp_path: Path) -> None:
    config = replace(tiny_config('ttt'), change_std=0.3, action_gain=8.0, reference=True)
    torch.manual_seed(0)
    world_model, tokenizer = LatentWorldModel(config).eval(), Autoencoder(config).eval()
    for seed, module in enumerate((world_model, tokenizer)):
        randomise(module, seed)

    def exported(**options: Path) -> ModelPackage:
        return export_package(
            world_model, tokenizer, tmp_path / 'own', name='own',
            contract=tiny_contract().to_dict(), sampler=SAMPLERS['ttt'].to_dict(),
            renderer=None, provenance=PROVENANCE, **options)

    package = exported()
    assert package.model == config
    inputs = parity.make_inputs(package.model, package.sampler, frames=40, seed=1)
    for module in (world_model, tokenizer):
        round_to_fp16(module)
    modules = runner(world_model, tokenizer, package.sampler)
    expected = parity.record(package.model, modules, inputs)
    codes = expected['predictions'][:, : config.latent_channels]
    assert np.abs(np.diff(codes, axis=0)).max() > 0.1
    for kind, precision in ENGINES:
        found = parity.record(package.model, engine(package, kind, precision).run, inputs)
        errors = parity.max_abs(expected, found)
        assert max(errors.values()) < 1e-3, (kind, errors)
    with pytest.raises(PackageError, match='no tokenizer to share'):
        exported(tokenizer_package=tmp_path)
