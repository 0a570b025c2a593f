"""What the exporter writes, and what it refuses to put in place."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from tiny_models import PROVENANCE, randomise, tiny_config, tiny_contract

from export import artefact
from export.graphs import Encode
from export.main import main
from export.onnx_file import OPSET, SMALLEST_FP16, write_onnx
from export.to_onnx import check_tokenizer, export_package
from models.autoencoder import Autoencoder
from models.rounding import round_to_fp16
from models.world_model import LatentWorldModel
from wm_ros.backends import resolve_backend
from wm_ros.manifest import GRAPHS, Sampler
from wm_ros.model_package import MANIFEST, ModelPackage, PackageError, sha256_of
from wm_ros.parity import check_sample

Export = Callable[[str], ModelPackage]
Build = Callable[[str], LatentWorldModel]


# The first test that needs a package exports it: slow on a machine that is shared.
pytestmark = pytest.mark.timeout(600)


def options(**changes: Any) -> dict[str, Any]:
    values = {'name': 'x', 'contract': tiny_contract().to_dict(), 'renderer': None,
              'sampler': Sampler((1.0,)).to_dict(), 'provenance': PROVENANCE}
    return values | changes


def test_graphs_hold_each_weight_once_as_fp16_and_nothing_else(export: Export,
                                                               build: Build) -> None:
    package = export('ttt')
    parameters = sum(p.numel() for p in build('ttt').denoiser.parameters())
    for graph in GRAPHS:
        model = onnx.load(package.graph_path(graph))
        onnx.checker.check_model(model, full_check=True)
        assert [(item.domain, item.version) for item in model.opset_import] == [('', OPSET)]
        kinds = Counter(node.op_type for node in model.graph.node)
        assert not kinds.keys() & {'Loop', 'If', 'Scan', 'RandomNormal', 'RandomNormalLike'}
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
        held = Counter(onnx.TensorProto.DataType.Name(item.data_type)
                       for item in model.graph.initializer
                       if np.prod(item.dims) >= SMALLEST_FP16)
        assert held['FLOAT16'] > 0
        assert held.get('FLOAT', 0) <= 1, held
    sizes = sum(int(np.prod(item.dims)) for item in onnx.load(
        package.graph_path('predict')).graph.initializer)
    assert sizes <= 1.05 * parameters


def test_arms_share_one_tokenizer(export: Export) -> None:
    ttt, window = export('ttt'), export('window')
    assert window.graph_path('encode') == ttt.graph_path('encode')
    assert window.graph_path('decode') == ttt.graph_path('decode')
    assert window.graph_path('predict') != ttt.graph_path('predict')
    assert window.sampler.noise_draws == 2
    assert sorted(item.name for item in window.path.iterdir()) == [
        'manifest.json', 'parity.npz', 'predict.onnx', 'write.onnx']


def test_another_tokenizer_than_the_shared_one_is_refused(export: Export, build: Build,
                                                          autoencoder: Autoencoder) -> None:
    owner = export('ttt').path
    other = copy.deepcopy(autoencoder)
    randomise(other, 9)
    with pytest.raises(PackageError, match='tokenizer of package tiny_ttt: its latents differ'):
        export_package(build('none'), other, owner.parent / 'stranger', tokenizer_package=owner,
                       **options())
    assert not (owner.parent / 'stranger').exists()
    assert not list(owner.parent.glob('.*'))


def test_a_shared_tokenizer_can_be_checked_before_anything_is_exported(
        export: Export, autoencoder: Autoencoder) -> None:
    own, other = copy.deepcopy(autoencoder), copy.deepcopy(autoencoder)
    round_to_fp16(own)
    check_tokenizer(own, export('ttt'))
    randomise(other, 9)
    with pytest.raises(PackageError, match='tokenizer of package tiny_ttt: its latents differ'):
        check_tokenizer(other, export('ttt'))


def test_a_tokenizer_package_elsewhere_is_refused(export: Export, build: Build, tmp_path: Path,
                                                  autoencoder: Autoencoder) -> None:
    with pytest.raises(PackageError, match='does not lie beside'):
        export_package(build('none'), autoencoder, tmp_path / 'x',
                       tokenizer_package=export('ttt').path, **options())


def test_a_contract_that_does_not_fit_leaves_the_old_package_in_place(
        export: Export, build: Build, autoencoder: Autoencoder) -> None:
    package = export('ttt')
    contract = tiny_contract().to_dict()
    contract['actions'][0]['entries'].pop()
    with pytest.raises(PackageError, match='10 action entries, the model takes 11'):
        export_package(build('ttt'), autoencoder, package.path, **options(contract=contract))
    assert ModelPackage.load(package.path).sha256 == package.sha256


def test_a_name_or_a_folder_of_something_else_costs_no_package(
        export: Export, build: Build, autoencoder: Autoencoder, tmp_path: Path) -> None:
    """A contract without a name meant the folder of all packages."""
    package, named = export('ttt'), options()
    del named['name']
    kept = sorted(package.path.parent.rglob('*'))
    for name in ('', '../../x', '.x'):
        with pytest.raises(PackageError, match='expected letters'):
            export_package(build('ttt'), autoencoder, package.path.parent / name, name=name,
                           **named)
    with pytest.raises(PackageError, match='so no package: left as it is'):
        export_package(build('ttt'), autoencoder, package.path.parent, **options())
    assert sorted(package.path.parent.rglob('*')) == kept


def test_exporting_leaves_the_modules_as_they_were(export: Export, build: Build,
                                                   autoencoder: Autoencoder) -> None:
    export('ttt')
    weight = autoencoder.encoder[0].weight
    assert not torch.equal(weight, weight.half().float())


def test_weights_that_fp16_cannot_hold_are_refused() -> None:
    module = torch.nn.Linear(2, 2)
    with torch.no_grad():
        module.weight[0, 0] = 1e5
    with pytest.raises(ValueError, match='weight: largest weight 100000'):
        round_to_fp16(module)


def damaged_copy(package: ModelPackage, to: Path, edit: Callable[[Path], object]) -> ModelPackage:
    """Copy a package, edit its files, and make the manifest's hashes agree with them again."""
    to.mkdir()
    for item in package.path.iterdir():
        (to / item.name).write_bytes(item.read_bytes())
    edit(to)
    values = json.loads((to / MANIFEST).read_text())
    for ref in (*values['graphs'].values(), values['parity']):
        ref['sha256'] = sha256_of(to / ref['path'])
    (to / MANIFEST).write_text(json.dumps(values))
    return ModelPackage.load(to)


@pytest.mark.parametrize('kind', ['onnxruntime', 'openvino'])
def test_a_cut_graph_with_a_matching_hash_is_refused_by_the_engine(
        export: Export, tmp_path: Path, kind: str) -> None:

    def cut(path: Path) -> None:
        whole = (path / 'predict.onnx').read_bytes()
        (path / 'predict.onnx').write_bytes(whole[:len(whole) // 2])

    package = damaged_copy(export('ttt'), tmp_path / 'cut', cut)
    with pytest.raises(PackageError, match=r'predict\.onnx: .* cannot'):
        resolve_backend(kind, package)


@pytest.mark.parametrize('kind', ['onnxruntime', 'openvino'])
def test_a_graph_of_another_model_is_refused_by_the_engine(export: Export, tmp_path: Path,
                                                           kind: str) -> None:
    window = export('window').graph_path('predict')

    def swap(path: Path) -> None:
        (path / 'predict.onnx').write_bytes(window.read_bytes())

    package = damaged_copy(export('ttt'), tmp_path / 'swapped', swap)
    with pytest.raises(PackageError, match=r'predict\.onnx: found inputs .*memory_filled'):
        resolve_backend(kind, package)


def test_a_parity_sample_without_its_arrays_is_refused(export: Export, tmp_path: Path) -> None:
    package = damaged_copy(export('ttt'), tmp_path / 'sample',
                           lambda path: (path / 'parity.npz').write_bytes(b'no zip'))
    with pytest.raises(PackageError, match='not a parity sample'):
        check_sample(package, resolve_backend('onnxruntime', package))


def test_the_command_line_exports_a_checkpoint(
        export: Export, build: Build, tmp_path: Path, autoencoder: Autoencoder,
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    reference = export('none')
    exported: list[torch.nn.Module] = []

    def reuse(module: torch.nn.Module, signature: Any, path: Path) -> None:
        """Exporting is slow and tested above: take the graphs of the same weights."""
        exported.append(module)
        path.write_bytes(reference.graph_path(path.stem).read_bytes())

    monkeypatch.setattr('export.to_onnx.write_onnx', reuse)
    contract = tmp_path / 'contract.yaml'
    contract.write_text(yaml.safe_dump(tiny_contract().to_dict()))
    meta = {'command': 'make train', 'commit': 'abc', 'date': '2026-11-22'}
    artefact.save(tmp_path / 'model.pt', build('none'), tiny_config('none'), meta)
    artefact.save(tmp_path / 'tokenizer.pt', autoencoder, autoencoder.config, meta)
    owner = export('ttt').path
    arguments = ['--checkpoint', tmp_path / 'model.pt', '--tokenizer', tmp_path / 'tokenizer.pt',
                 '--contract', contract, '--out', owner.parent / 'tiny_cli',
                 '--tokenizer-package', owner, '--steps', '1']
    assert main([str(item) for item in arguments]) == 0
    assert len(exported) == 2
    assert 'package tiny_cli, sha256' in capsys.readouterr().out
    package = ModelPackage.load(owner.parent / 'tiny_cli')
    assert package.model == tiny_config('none')
    assert package.sampler.steps == (1.0,)
    assert package.manifest.provenance.to_dict() == meta
    assert package.manifest.graphs == reference.manifest.graphs


def test_the_same_weights_give_the_same_bytes(export: Export, tmp_path: Path,
                                              autoencoder: Autoencoder) -> None:
    rounded = copy.deepcopy(autoencoder)
    round_to_fp16(rounded)
    package = export('ttt')
    write_onnx(Encode(rounded), package.signatures['encode'], tmp_path / 'encode.onnx')
    assert sha256_of(tmp_path / 'encode.onnx') == package.manifest.graphs['encode'].sha256
