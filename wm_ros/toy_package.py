"""A model package for tests that only the toy backend can run: it loads, passes its parity sample
and runs a node.
"""

from __future__ import annotations

import json
from pathlib import Path

from wm_ros.backends.base import GraphInputs, GraphOutputs
from wm_ros.backends.toy_backend import run_toy
from wm_ros.config import ModelConfig
from wm_ros.contract import StreamContract
from wm_ros.manifest import (
    GRAPHS,
    PRECISIONS,
    FileRef,
    Manifest,
    ParityRef,
    Planning,
    Provenance,
    Sampler,
)
from wm_ros.model_package import MANIFEST, ModelPackage, sha256_of
from wm_ros.parity import make_inputs, record, write_sample
from wm_ros.parity_long import record_long


def write_toy_package(
    path: Path,
    contract: StreamContract,
    *,
    model: ModelConfig | None = None,
    name: str = 'toy',
    planning: Planning | None = None,
    with_reward: bool = False,
) -> ModelPackage:
    """Write a package that only the toy backend can run, and load it.

    Args:
        path: directory to make; its graph files say what they are and are no ONNX.
        contract: decides action width and image size unless `model` is given.
        model: shapes; must fit the contract.
        name: name in the manifest.
        planning: the manifest's; sub-batches of 8, not calibrated, unless given.
        with_reward: whether it has a reward head.
    """
    if model is None:
        model = ModelConfig(action_width=contract.action_width, image_size=contract.image_size)
    sampler = Sampler((1.0, 0.5))
    path.mkdir(parents=True, exist_ok=True)
    graphs = (*GRAPHS, 'reward') if with_reward else GRAPHS
    for graph in graphs:
        (path / f'{graph}.toy').write_text(f'toy graph {graph}: only the toy backend runs it\n')
    inputs = make_inputs(model, sampler, frames=4, seed=0)

    def run(graph: str, arrays: GraphInputs) -> GraphOutputs:
        return run_toy(model, graph, arrays)

    expected = record(model, run, inputs)
    long = record_long(model, sampler, run, frames=20)
    write_sample(path / 'parity.npz', inputs, expected, long.arrays())
    manifest = Manifest(
        name=name,
        licence='Apache-2.0',
        provenance=Provenance(command='write_toy_package', commit='none', date='none'),
        model=model,
        contract=contract,
        sampler=sampler,
        renderer=None,
        graphs={
            graph: FileRef(f'{graph}.toy', sha256_of(path / f'{graph}.toy')) for graph in graphs
        },
        parity=ParityRef(
            'parity.npz', sha256_of(path / 'parity.npz'), dict.fromkeys(PRECISIONS, 1e-6)
        ),
        planning=planning or Planning(),
    )
    (path / MANIFEST).write_text(json.dumps(manifest.to_dict(), indent=1))
    return ModelPackage.load(path)
