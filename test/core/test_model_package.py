"""A package is whole or refused: every way to be wrong, with a text that says what was found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wm_ros import package_card
from wm_ros.backends import EngineNotBuilt, EngineUnavailable, resolve, resolve_backend
from wm_ros.backends.base import check_signature
from wm_ros.config import ModelConfig
from wm_ros.contract import StreamContract
from wm_ros.datatypes import TensorSpec
from wm_ros.manifest import Calibration, GraphSignature, Manifest, Planning, Sampler
from wm_ros.model_package import MANIFEST, ModelPackage, PackageError, find_package
from wm_ros.package_card import inspect_package
from wm_ros.parity import check_sample
from wm_ros.parity_long import check_long, read_long, record_long
from wm_ros.toy_package import write_toy_package

REPOSITORY = Path(__file__).parents[2]
CONTRACT = StreamContract.load(REPOSITORY / 'contracts' / 'tabletop.yaml')

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    return write_toy_package(tmp_path / 'toy', CONTRACT)


def rewrite(package: ModelPackage, edit: Edit) -> None:
    path = package.path / MANIFEST
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


def uncertainty(**changed: Any) -> dict[str, Any]:
    whole = {'draws': 2, 'horizons': [1, 8], 'offset': [0.1, 0.2], 'scale': [1.0, 0.5]}
    return whole | changed


def test_a_manifest_may_say_how_uncertain_the_uncertainty_is(package: ModelPackage) -> None:
    assert package.manifest.planning == Planning(batch=8, uncertainty=None)
    rewrite(package, lambda m: m['planning'].update(batch=4, uncertainty=uncertainty()))
    manifest = ModelPackage.load(package.path).manifest
    assert manifest.planning.batch == 4
    assert manifest.planning.uncertainty == Calibration(2, (1, 8), (0.1, 0.2), (1.0, 0.5))
    assert Manifest.from_dict(manifest.to_dict()) == manifest


def test_a_reward_head_is_one_more_graph_of_the_package(tmp_path: Path) -> None:
    package = write_toy_package(tmp_path / 'rewarding', CONTRACT, with_reward=True)
    assert set(package.signatures) == {'encode', 'write', 'predict', 'decode', 'reward'}
    assert Manifest.from_dict(package.manifest.to_dict()) == package.manifest
    latent = np.full((3, *package.model.latent_shape), 0.5, np.float32)
    reward = resolve_backend('toy', package).run('reward', {'latent': latent})['reward']
    np.testing.assert_allclose(reward, [0.5] * 3)
    package.graph_path('reward').unlink()
    with pytest.raises(PackageError, match=r'reward\.toy is missing'):
        ModelPackage.load(package.path)


def test_a_whole_package_loads_and_its_manifest_survives_a_round_trip(
        package: ModelPackage) -> None:
    assert package.model.action_width == CONTRACT.action_width
    assert package.manifest.contract == CONTRACT
    assert Manifest.from_dict(package.manifest.to_dict()) == package.manifest
    assert package.manifest.state_bytes == 4 * (2 * 8 * 8 * 8 + 11 + 4 * 32 * 64)
    assert set(package.signatures) == {'encode', 'write', 'predict', 'decode'}


def test_a_manifest_may_say_which_weights_it_was_made_of(package: ModelPackage) -> None:
    assert package.manifest.provenance.weights == ''
    before = package.manifest.to_dict()
    assert 'weights' not in before['provenance']  # those from before stay as they are
    rewrite(package, lambda m: m['provenance'].update(weights='abc'))
    manifest = ModelPackage.load(package.path).manifest
    assert manifest.provenance.weights == 'abc'
    assert Manifest.from_dict(manifest.to_dict()) == manifest


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match='no such package directory'):
        ModelPackage.load(tmp_path / 'nothing')


def test_a_missing_manifest_is_refused(package: ModelPackage) -> None:
    (package.path / MANIFEST).unlink()
    with pytest.raises(PackageError, match=r'no manifest\.json'):
        ModelPackage.load(package.path)


@pytest.mark.parametrize('part', [0.0, 0.3, 0.999])
def test_a_truncated_manifest_is_refused(package: ModelPackage, part: float) -> None:
    path = package.path / MANIFEST
    whole = path.read_bytes()
    path.write_bytes(whole[:int(part * len(whole.rstrip()))])
    with pytest.raises(PackageError, match=r'not whole JSON \(\d+ bytes\)'):
        ModelPackage.load(package.path)


def test_a_manifest_that_is_no_text_is_refused(package: ModelPackage) -> None:
    (package.path / MANIFEST).write_bytes(b'\xff\xfe\x00')
    with pytest.raises(PackageError, match='not whole JSON'):
        ModelPackage.load(package.path)


@pytest.mark.parametrize('graph', ['encode', 'write', 'predict', 'decode'])
def test_a_truncated_graph_is_refused(package: ModelPackage, graph: str) -> None:
    path = package.graph_path(graph)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PackageError, match=f'{graph}.*damaged or replaced: sha256 is'):
        ModelPackage.load(package.path)


def test_a_missing_graph_is_refused(package: ModelPackage) -> None:
    package.graph_path('write').unlink()
    with pytest.raises(PackageError, match=r'write\.toy is missing'):
        ModelPackage.load(package.path)


def test_a_damaged_parity_sample_is_refused(package: ModelPackage) -> None:
    content = bytearray(package.parity_path.read_bytes())
    content[100] ^= 1
    package.parity_path.write_bytes(content)
    with pytest.raises(PackageError, match=r'parity\.npz.*damaged'):
        ModelPackage.load(package.path)


@pytest.mark.parametrize(('edit', 'message'), [
    (lambda m: m.update(format=1), 'format: found 1, this version reads 2'),
    (lambda m: m.pop('format'), 'format: found None'),
    (lambda m: m.pop('sampler'), 'missing fields sampler'),
    (lambda m: m.update(speed=3), 'unknown fields speed'),
    (lambda m: m['model'].update(depth=3), 'unknown model fields: depth'),
    (lambda m: m['model'].pop('arm'), 'missing model fields: arm'),
    (lambda m: m['model'].update(arm='gru'), "arm = 'gru': expected one of"),
    (lambda m: m['model'].update(width='wide'), "model.width: found 'wide', expected int"),
    (lambda m: m['model'].update(key_width=32), 'memory: found'),
    (lambda m: m['memory'].pop(), 'memory: found'),
    (lambda m: m['memory'][0].update(shape=[2, 8, 8, 9]), 'memory: found'),
    (lambda m: m.update(state_bytes=1), 'state_bytes: found 1, the memory list holds 36908'),
    (lambda m: m['contract']['actions'][0]['entries'].pop(),
     '10 action entries, the model takes 11'),
    (lambda m: m['contract'].update(image_size=128), 'image size 128 px, the model takes 64 px'),
    (lambda m: m['contract'].update(colour='red'), 'contract: unknown fields: colour'),
    (lambda m: m['sampler'].update(noise_draws=2), 'noise_draws: found 2'),
    (lambda m: m['sampler'].update(steps=[0.5, 1.0]), 'expected times falling from 1'),
    (lambda m: m['sampler'].update(noise='pink'), "noise: found 'pink'"),
    (lambda m: m.pop('planning'), 'missing fields planning'),
    (lambda m: m['planning'].pop('batch'), 'planning: missing fields batch'),
    (lambda m: m['planning'].update(batch=0), r'planning\.batch: found 0, expected 1 to'),
    (lambda m: m['planning'].update(batch=True), r'planning\.batch: found True, expected int'),
    (lambda m: m['planning'].update(depth=3), 'planning: unknown fields depth'),
    (lambda m: m['planning'].update(uncertainty={}), r'planning\.uncertainty: missing fields'),
    (lambda m: m['planning'].update(uncertainty=uncertainty(draws=1)),
     r'draws: found 1, expected 2 or more'),
    (lambda m: m['planning'].update(uncertainty=uncertainty(horizons=[4, 2])),
     r'horizons: found \[4, 2\], expected frames rising'),
    (lambda m: m['planning'].update(uncertainty=uncertainty(offset=[0.1])),
     'found 2 horizons, 1 offsets, 2 scales'),
    (lambda m: m['planning'].update(uncertainty=uncertainty(scale=[1.0, float('nan')])),
     'offsets and scales must be finite'),
    (lambda m: m['graphs'].pop('decode'), 'graphs: missing fields decode'),
    (lambda m: m['graphs'].update(plan={}), 'graphs: unknown fields plan'),
    (lambda m: m['graphs']['write'].pop('sha256'), r'graphs\.write: missing fields sha256'),
    (lambda m: m['graphs']['write'].update(path='../../../etc/passwd'), 'outside the package'),
    (lambda m: m['graphs']['write'].update(path='/etc/passwd'), 'outside the package'),
    (lambda m: m['parity'].update(tolerance=1), 'tolerance: found 1, expected dict'),
    (lambda m: m['provenance'].pop('commit'), 'provenance: missing fields commit'),
    (lambda m: m['provenance'].update(weights=1), r'provenance\.weights: found 1, expected str'),
    (lambda m: m['provenance'].update(author='x'), 'provenance: unknown fields author'),
    (lambda m: m.update(provenance='x'), "provenance: found 'x', expected dict"),
    (lambda m: m.update(name=None), 'name: found None, expected str'),
])
def test_a_manifest_that_does_not_fit_is_refused(package: ModelPackage, edit: Edit,
                                                 message: str) -> None:
    rewrite(package, edit)
    with pytest.raises(PackageError, match=message):
        ModelPackage.load(package.path)


def test_a_manifest_that_is_a_list_is_refused(package: ModelPackage) -> None:
    (package.path / MANIFEST).write_text('[]')
    with pytest.raises(PackageError, match='expected dict'):
        ModelPackage.load(package.path)


def test_a_graph_may_lie_in_a_sibling_package(package: ModelPackage, tmp_path: Path) -> None:
    arm = write_toy_package(tmp_path / 'arm', CONTRACT)
    arm.graph_path('encode').unlink()
    rewrite(arm, lambda m: m['graphs']['encode'].update(path='../toy/encode.toy'))
    shared = ModelPackage.load(arm.path)
    assert shared.graph_path('encode') == package.graph_path('encode')
    package.graph_path('encode').write_text('another tokenizer')
    with pytest.raises(PackageError, match='damaged or replaced'):
        ModelPackage.load(arm.path)


def test_packages_are_found_by_path_and_by_name(package: ModelPackage, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = tmp_path / 'prefix'
    installed = write_toy_package(prefix / 'share' / 'wm_ros' / 'packages' / 'my_robot', CONTRACT)
    assert find_package(str(package.path)) == package.path
    with pytest.raises(PackageError, match="no model package 'my_robot'"):
        find_package('my_robot')
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{tmp_path}/empty:{prefix}')
    assert find_package('my_robot') == installed.path


def test_the_tensorrt_word_is_known_and_answers_not_built(package: ModelPackage) -> None:
    with pytest.raises(EngineNotBuilt, match='TensorRT engine not built'):
        resolve_backend('tensorrt', package)


def test_an_unknown_engine_is_refused(package: ModelPackage) -> None:
    with pytest.raises(ValueError, match="'abacus': expected one of auto"):
        resolve_backend('abacus', package)


def test_auto_takes_the_first_engine_that_runs_and_says_why(
        package: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: object) -> Any:
        raise EngineUnavailable('cuda: no driver')

    monkeypatch.setitem(resolve.LOADERS, 'cuda', unavailable)
    monkeypatch.setitem(resolve.LOADERS, 'openvino', resolve.LOADERS['toy'])
    reason = resolve_backend('auto', package).reason
    assert reason.startswith('openvino: first of auto that runs here (TensorRT engine not built')
    assert 'cuda: no driver' in reason


def test_auto_without_any_engine_is_refused_with_every_reason(
        package: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: object) -> Any:
        raise EngineUnavailable('not here')

    for kind in ('cuda', 'openvino', 'onnxruntime'):
        monkeypatch.setitem(resolve.LOADERS, kind, unavailable)
    with pytest.raises(EngineUnavailable, match='no engine for package toy: TensorRT.*not here'):
        resolve_backend('auto', package)


def test_two_onnxruntime_distributions_are_refused(
        package: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, '_installed', lambda name: True)
    with pytest.raises(EngineUnavailable, match='both installed and share one import name'):
        resolve_backend('onnxruntime', package)


@pytest.mark.parametrize('kind', ['onnxruntime', 'openvino'])
def test_an_engine_refuses_graphs_that_are_none(package: ModelPackage, kind: str) -> None:
    pytest.importorskip(kind)
    with pytest.raises(PackageError, match=r'encode\.toy'):
        resolve_backend(kind, package)


SIGNATURE = GraphSignature((TensorSpec('latent', (8, 8)),), (TensorSpec('image', (3,)),))


@pytest.mark.parametrize(('inputs', 'outputs', 'message'), [
    ({'laten': [None, 8, 8]}, {'image': [None, 3]}, 'found inputs laten; expected latent'),
    ({'latent': [None, 8]}, {'image': [None, 3]}, 'input latent has shape'),
    ({'latent': [None, 8, 9]}, {'image': [None, 3]}, r'expected \[batch, 8, 8\]'),
    ({'latent': [1, 8, 8]}, {'image': [None, 3]}, 'free batch'),
    ({'latent': [None, 8, 8]}, {'image': [None, 4]}, 'output image'),
])
def test_a_graph_of_other_shapes_is_refused(inputs: Any, outputs: Any, message: str) -> None:
    check_signature('x', SIGNATURE, {'latent': ['batch', 8, 8]}, {'image': ['batch', 3]})
    with pytest.raises(PackageError, match=message):
        check_signature('x', SIGNATURE, inputs, outputs)


@pytest.mark.parametrize('arm', ['ttt', 'none', 'window'])
def test_the_toy_backend_passes_its_own_sample(tmp_path: Path, arm: str) -> None:
    model = ModelConfig(arm=arm, action_width=CONTRACT.action_width, window=4)
    package = write_toy_package(tmp_path / arm, CONTRACT, model=model)
    report = check_sample(package, resolve_backend('toy', package))
    assert report.ok, str(report)
    assert set(report.errors) == {'latents', 'predictions', 'image',
                                  *(f'memory_{spec.name}' for spec in model.memory_specs())}


def test_a_sample_that_an_engine_does_not_reproduce_is_a_mismatch(tmp_path: Path) -> None:
    package = write_toy_package(tmp_path / 'toy', CONTRACT)
    backend = resolve_backend('toy', package)

    class Wrong:
        name, precision, reason = 'wrong', 'fp32', ''

        def run(self, graph: str, inputs: Any) -> Any:
            outputs = backend.run(graph, inputs)
            return {name: array + (graph == 'predict') * 1e-3 for name, array in outputs.items()}

    report = check_sample(package, Wrong())
    assert not report.ok
    assert report.errors['predictions'] == pytest.approx(1e-3, rel=1e-2)
    assert 'MISMATCH' in str(report)


def rewrite_sample(package: ModelPackage, edit: Edit) -> None:
    with np.load(package.parity_path) as stored:
        arrays = dict(stored)
    edit(arrays)
    np.savez(package.parity_path, **arrays)


@pytest.mark.parametrize('arm', ['ttt', 'none', 'window'])
def test_the_toy_backend_passes_its_own_long_run(tmp_path: Path, arm: str) -> None:
    model = ModelConfig(arm=arm, action_width=CONTRACT.action_width, window=4)
    package = write_toy_package(tmp_path / arm, CONTRACT, model=model)
    report = check_long(package, resolve_backend('toy', package))
    assert report.ok and '18 observed frames' in str(report)
    assert set(report.errors) == {'latents', 'predictions',
                                  *(f'memory_{spec.name}' for spec in model.memory_specs())}
    assert read_long(package).expected['latents'].shape == (2, *model.latent_shape)


def test_the_long_run_catches_an_error_that_only_later_frames_show(package: ModelPackage) -> None:
    backend = resolve_backend('toy', package)

    class Tired:
        name, precision, reason = 'tired', 'fp32', ''
        frames = 0

        def run(self, graph: str, inputs: Any) -> Any:
            self.frames += graph == 'encode'
            wrong = 2e-3 * (graph == 'predict' and self.frames == 20)
            outputs = backend.run(graph, inputs)
            return {name: array + wrong for name, array in outputs.items()}

    assert check_sample(package, Tired()).ok
    report = check_long(package, Tired())
    assert not report.ok
    assert report.errors['predictions'] == pytest.approx(2e-3, rel=1e-2)
    assert report.errors['latents'] == 0


def test_a_package_from_before_the_long_run_loads_and_its_check_is_refused(
        package: ModelPackage) -> None:
    def strip(arrays: dict[str, Any]) -> None:
        for name in [name for name in arrays if name.startswith('long_')]:
            del arrays[name]

    rewrite_sample(package, strip)
    backend = resolve_backend('toy', package)
    assert check_sample(package, backend).ok
    with pytest.raises(PackageError, match='holds no long run .* export the package again'):
        check_long(package, backend)


@pytest.mark.parametrize(('edit', 'message'), [
    (lambda a: a.update(long_run=np.array([2, 20, 10])), 'stream of seed 2 comes out differently'),
    (lambda a: a.pop('long_expected_latents'), 'long run holds memory_.*; expected latents'),
])
def test_a_long_run_that_does_not_fit_is_refused(package: ModelPackage, edit: Edit,
                                                 message: str) -> None:
    rewrite_sample(package, edit)
    with pytest.raises(PackageError, match=message):
        check_long(package, resolve_backend('toy', package))


def test_the_long_check_is_for_fp32(package: ModelPackage) -> None:
    backend = resolve_backend('toy', package)
    backend.precision = 'bf16'
    with pytest.raises(ValueError, match='toy runs bf16: the long check is for fp32'):
        check_long(package, backend)
    with pytest.raises(ValueError, match='frames is 15: expected a multiple of 10'):
        record_long(package.model, package.sampler, backend.run, frames=15)


@pytest.mark.parametrize('there', [('onnxruntime', 'openvino'), ('openvino',), ()])
def test_inspect_checks_the_engines_that_are_here_and_names_the_others(
        package: ModelPackage, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str], there: tuple[str, ...]) -> None:
    def resolve_toy(kind: str, package: ModelPackage, precision: str = 'auto') -> Any:
        if kind not in (*there, *(('auto',) if there else ())):
            raise EngineUnavailable(f'{kind}: not installed')
        backend = resolve_backend('toy', package)
        backend.name = kind
        return backend

    monkeypatch.setattr(package_card, 'resolve_backend', resolve_toy)
    status = inspect_package(package.path, check=True)
    text = ' '.join(capsys.readouterr().out.split())
    if not there:
        assert status == 1 and 'refused auto: not installed' in text
        return
    assert status == 0 and 'not checked: cuda: not installed' in text
    for kind in ('onnxruntime', 'openvino'):
        assert (f'{kind} fp32 against stored PyTorch over 18' in text) == (kind in there)
        assert (f'not checked: {kind}: not installed' in text) == (kind not in there)
    assert 'auto fp32 against the stored PyTorch sample' in text


def test_the_card_shows_what_matters_and_a_bad_package_exits_with_1(
        package: ModelPackage, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect_package(package.path) == 0
    text = capsys.readouterr().out
    for word in ('ttt', '36908 bytes', 'tabletop at 25 Hz', 'gripper', 'Apache-2.0'):
        assert word in text
    package.graph_path('encode').unlink()
    assert inspect_package(package.path) == 1
    assert 'encode.toy is missing' in capsys.readouterr().out


def test_a_sampler_draws_noise_as_its_mode_says() -> None:
    assert Sampler((1.0, 0.5)).noise_draws == 1
    assert Sampler((1.0, 0.5), 'fresh').noise_draws == 2
