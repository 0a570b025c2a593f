"""Command line: a trained checkpoint and its tokenizer to a model package.

    python -m export.main --checkpoint C.pt --tokenizer T.pt --contract x.yaml --out packages/x
"""

from __future__ import annotations

import argparse
from pathlib import Path

from export import artefact
from export.to_onnx import export_package
from models.autoencoder import Autoencoder
from models.world_model import LatentWorldModel
from wm_ros.contract import StreamContract
from wm_ros.manifest import NOISE_MODES, Sampler


def main(argv: list[str] | None = None) -> int:
    """Export one package and say where it is."""
    options = _parse(argv)
    trained = artefact.load(options.checkpoint)
    tokenizer = artefact.load(options.tokenizer)
    world_model = LatentWorldModel(trained.config)
    autoencoder = Autoencoder(trained.config)
    trained.load_into(world_model)
    tokenizer.load_into(autoencoder)
    package = export_package(
        world_model,
        autoencoder,
        options.out,
        name=options.out.name,
        contract=StreamContract.load(options.contract).to_dict(),
        sampler=Sampler(tuple(options.steps), options.noise).to_dict(),
        renderer=options.renderer,
        provenance={
            'command': str(trained.meta['command']),
            'commit': str(trained.meta['commit']),
            'date': options.date or str(trained.meta.get('date', 'unknown')),
        },
        tokenizer_package=options.tokenizer_package,
    )
    print(f'{package.path}: package {package.name}, sha256 {package.sha256}')
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='python -m export.main', description=__doc__)
    add = parser.add_argument
    add('--checkpoint', type=Path, required=True, help='artefact of the world model')
    add('--tokenizer', type=Path, required=True, help='artefact of the tokenizer')
    add('--contract', type=Path, required=True, help='stream contract YAML that it was trained on')
    add('--out', type=Path, required=True, help='directory of the package; its name is the name')
    add('--tokenizer-package', type=Path, help='package beside it whose tokenizer is shared')
    add('--steps', type=float, nargs='+', default=[1.0, 2 / 3], help='flow times, falling from 1')
    add('--noise', choices=NOISE_MODES, default='deterministic', help='noise of later steps')
    add('--renderer', help='what drew the training frames; leave out for a real camera')
    add('--date', help="date of the training, ISO 8601 (default: the checkpoint's own)")
    return parser.parse_args(argv)


if __name__ == '__main__':
    raise SystemExit(main())
