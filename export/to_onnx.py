"""Trained PyTorch modules to a model package: graphs, manifest, parity sample, checked before it
is put in place.
"""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from export.graphs import graph_modules, runner
from export.onnx_file import write_onnx
from models.autoencoder import Autoencoder
from models.rounding import round_to_fp16
from models.world_model import LatentWorldModel
from wm_ros.backends import resolve_backend
from wm_ros.contract import StreamContract
from wm_ros.manifest import (
    FileRef,
    Manifest,
    PackageError,
    ParityRef,
    Planning,
    Provenance,
    Sampler,
    graph_signatures,
)
from wm_ros.manifest_fields import require_name
from wm_ros.model_package import MANIFEST, ModelPackage, sha256_of
from wm_ros.parity import (
    SampleInputs,
    check_sample,
    make_inputs,
    max_abs,
    record,
    write_sample,
)
from wm_ros.parity_long import check_long, record_long
from wm_ros.preprocess import to_model

LICENCE = 'Apache-2.0'
SAMPLE_FRAMES = 8
# Largest absolute error of latents, memory and image on the parity sample.
TOLERANCE = {'fp32': 1e-3, 'bf16': 0.25, 'fp16': 0.05}
SAMPLE = 'parity.npz'
TOKENIZER_GRAPHS = ('encode', 'decode')


def export_package(
    world_model: LatentWorldModel,
    autoencoder: Autoencoder,
    out_dir: Path,
    *,
    name: str,
    contract: dict[str, Any],
    sampler: dict[str, Any],
    renderer: str | None,
    provenance: dict[str, str],
    tokenizer_package: Path | None = None,
    inputs: SampleInputs | None = None,
    planning: dict[str, Any] | None = None,
) -> ModelPackage:
    """Write a package; an existing one is replaced only when the new one passes its own parity
    sample, the short stream and the one of 200 frames.

    Args:
        world_model: in eval mode; left untouched (a copy is rounded to fp16).
        autoencoder: the tokenizer, likewise.
        out_dir: directory of the package.
        name: name in the manifest.
        contract: `StreamContract.to_dict()` of what the model was trained on.
        sampler: steps and noise of the sampler that goes into `predict`, as in the manifest.
        renderer: what drew the training frames, None for a real camera.
        provenance: command, commit and date of the training, a digest of the weights if known.
        tokenizer_package: a package beside `out_dir` whose tokenizer this one shares, None to
            write an own one.
        inputs: stream of the parity sample; drifting colour waves when None.
        planning: sub-batch and calibration of planner queries, as in the manifest; sub-batches of
            8 and no calibration when None.

    Raises:
        PackageError: parts that do not fit, a folder there that is no package, or ONNX Runtime
            does not give what PyTorch gives.
        EngineUnavailable: ONNX Runtime does not run here.
    """
    out_dir = out_dir.resolve()
    require_name(name)
    _require_replaceable(out_dir)
    told = Sampler.from_dict(sampler)
    if tokenizer_package is not None and world_model.config.reference:
        raise PackageError(f'{name}: its decoder is of this model alone, no tokenizer to share')
    # Everything that can be refused without exporting is refused here.
    draft = Manifest(
        name=name,
        licence=LICENCE,
        provenance=Provenance.from_dict(provenance),
        model=world_model.config,
        contract=StreamContract.from_dict(contract),
        sampler=told,
        renderer=renderer,
        graphs={},
        parity=ParityRef(SAMPLE, '', TOLERANCE),
        planning=Planning() if planning is None else Planning.from_dict(planning),
    )
    world_model, autoencoder = copy.deepcopy(world_model).cpu(), copy.deepcopy(autoencoder).cpu()
    for module in (world_model, autoencoder):
        module.float().eval()
        round_to_fp16(module)
    if inputs is None:
        inputs = make_inputs(draft.model, told, SAMPLE_FRAMES, seed=0)
    reference = runner(world_model, autoencoder, told)
    graphs = _shared_graphs(tokenizer_package, out_dir, autoencoder, inputs)
    expected = record(draft.model, reference, inputs)
    partial = out_dir.with_name(f'.{out_dir.name}.partial')
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        signatures = graph_signatures(draft.model, told)
        for graph, module in graph_modules(world_model, autoencoder, told).items():
            if graph not in graphs:
                path = partial / f'{graph}.onnx'
                write_onnx(module, signatures[graph], path)
                graphs[graph] = FileRef(path.name, sha256_of(path))
        long = record_long(draft.model, told, reference)
        write_sample(partial / SAMPLE, inputs, expected, long.arrays())
        parity = replace(draft.parity, sha256=sha256_of(partial / SAMPLE))
        manifest = replace(draft, graphs=graphs, parity=parity)
        (partial / MANIFEST).write_text(json.dumps(manifest.to_dict(), indent=1) + '\n')
        package = ModelPackage.load(partial)
        backend = resolve_backend('onnxruntime', package)
        for check in (check_sample, check_long):
            if not (report := check(package, backend)).ok:
                raise PackageError(f'{name}: {report}')
        if out_dir.exists():
            _require_replaceable(out_dir)
            shutil.rmtree(out_dir)
        partial.rename(out_dir)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return ModelPackage.load(out_dir)


def _require_replaceable(out_dir: Path) -> None:
    """Refuse to put a package in the place of anything but a package or an empty folder."""
    if not out_dir.exists() or (out_dir / MANIFEST).is_file():
        return
    if not out_dir.is_dir() or any(out_dir.iterdir()):
        raise PackageError(f'{out_dir}: no {MANIFEST} in it, so no package: left as it is')


def check_tokenizer(
    autoencoder: Autoencoder, shared: ModelPackage, inputs: SampleInputs | None = None
) -> None:
    """Refuse a package that does not encode as a tokenizer does.

    Args:
        autoencoder: float32, its weights exact in fp16.
        shared: the package that would lend its graphs.
        inputs: frames to encode; drifting colour waves when None.

    Raises:
        PackageError: their latents differ.
    """
    if inputs is None:
        inputs = make_inputs(shared.model, shared.sampler, SAMPLE_FRAMES, seed=0)
    image = to_model(inputs.images_THWC)
    with torch.inference_mode():
        expected = autoencoder.encode(torch.from_numpy(image)).numpy()
    found = resolve_backend('onnxruntime', shared).run('encode', {'image': image})
    error = max_abs({'latent': expected}, found)['latent']
    if not error <= TOLERANCE['fp32']:
        raise PackageError(
            f'tokenizer of package {shared.name}: its latents differ from those of the given '
            f'tokenizer by up to {error:.2e}, allowed {TOLERANCE["fp32"]:g}'
        )


def _shared_graphs(
    tokenizer_package: Path | None, out_dir: Path, autoencoder: Autoencoder, inputs: SampleInputs
) -> dict[str, FileRef]:
    """Return the tokenizer graphs of the package beside `out_dir`, once they encode as ours does.

    The dictionary is empty when nothing is shared.
    """
    if tokenizer_package is None:
        return {}
    shared = ModelPackage.load(tokenizer_package)
    if shared.path.parent != out_dir.parent or shared.path == out_dir:
        raise PackageError(f'tokenizer package {shared.path} does not lie beside {out_dir}')
    check_tokenizer(autoencoder, shared, inputs)
    files = {graph: shared.graph_path(graph) for graph in TOKENIZER_GRAPHS}
    return {
        graph: FileRef(f'../{path.parent.name}/{path.name}', sha256_of(path))
        for graph, path in files.items()
    }
