"""The packages in the repository: whole, agreed on by all engines, and made of the committed
weights.
"""

from pathlib import Path

import pytest

from export import artefact
from export.graphs import runner
from models.autoencoder import Autoencoder
from models.world_model import LatentWorldModel
from wm_ros import parity
from wm_ros.config import ARMS
from wm_ros.contract import StreamContract, find_contract
from wm_ros.model_package import ModelPackage, find_package
from wm_ros.package_card import check_engines

ARTEFACTS = Path(__file__).parents[2] / 'training' / 'artefacts' / 'tabletop_small'
NAMES = {'ttt': 'tabletop_small', 'none': 'tabletop_small_none', 'window': 'tabletop_small_window'}


@pytest.mark.parametrize('arm', ARMS)
def test_a_shipped_package_is_whole_and_its_engines_agree(arm: str) -> None:
    package = ModelPackage.load(find_package(NAMES[arm]))
    assert package.model.arm == arm
    StreamContract.load(find_contract('tabletop')).require_fit(package.manifest.contract)
    reports, _ = check_engines(package)
    assert len(reports) == 5  # ONNX Runtime and OpenVINO on both samples, then `auto`
    for report in reports:
        assert report.ok, str(report)
    other = ModelPackage.load(find_package(NAMES['ttt']))
    assert package.graph_path('encode').read_bytes() == other.graph_path('encode').read_bytes()


def test_the_committed_weights_are_those_of_the_shipped_package() -> None:
    package = ModelPackage.load(find_package(NAMES['ttt']))
    trained, tokenizer = (artefact.load(ARTEFACTS / f'{name}.pt') for name in ('ttt', 'tokenizer'))
    world_model, autoencoder = LatentWorldModel(trained.config), Autoencoder(tokenizer.config)
    trained.load_into(world_model.eval())
    tokenizer.load_into(autoencoder.eval())
    inputs, expected = parity.read_sample(package)
    run = runner(world_model, autoencoder, package.sampler)
    errors = parity.max_abs(expected, parity.record(package.model, run, inputs))
    assert max(errors.values()) <= 1e-4, errors
    assert trained.meta['commit'] == package.manifest.provenance.commit
