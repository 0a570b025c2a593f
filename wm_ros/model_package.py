"""A model package: a directory with a manifest, its graphs and a parity sample, checked when it
is loaded.

In: a path or a name. Out: a `ModelPackage` that is whole and consistent, or a `PackageError`. What
the graphs compute is the backends' business; whether an engine computes it rightly is
`wm_ros.parity`'s.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from wm_ros import share
from wm_ros.config import ModelConfig
from wm_ros.datatypes import TensorSpec
from wm_ros.manifest import (
    FileRef,
    GraphSignature,
    Manifest,
    PackageError,
    ParityRef,
    Sampler,
    graph_signatures,
)

__all__ = ['MANIFEST', 'ModelPackage', 'PackageError', 'find_package', 'sha256_of']

MANIFEST = 'manifest.json'


@dataclass(frozen=True)
class ModelPackage:
    """A loaded package. Immutable; sessions keep their state in `MemoryState` values.

    Attributes:
        path: the directory.
        manifest: what the package says about itself.
        sha256: of `manifest.json`, which holds the hashes of all other files: the identity of the
            package.
    """

    path: Path
    manifest: Manifest
    sha256: str

    @classmethod
    def load(cls, path: str | Path) -> ModelPackage:
        """Read and check a package directory.

        Raises:
            PackageError: directory, manifest or file missing, manifest cut short, another format,
                unknown or missing fields, a hash that differs, parts that do not fit each other.
        """
        path = Path(path).resolve()
        if not path.is_dir():
            raise PackageError(f'{path}: no such package directory')
        manifest_path = path / MANIFEST
        if not manifest_path.is_file():
            raise PackageError(f'{path}: no {MANIFEST} in it')
        raw = manifest_path.read_bytes()
        try:
            manifest = Manifest.from_dict(json.loads(raw))
        except ValueError as error:
            raise PackageError(
                f'{manifest_path}: not whole JSON ({len(raw)} bytes): {error}'
            ) from error
        except PackageError as error:
            raise PackageError(f'{manifest_path}: {error}') from error
        package = cls(path, manifest, hashlib.sha256(raw).hexdigest())
        refs: list[FileRef | ParityRef] = [*manifest.graphs.values(), manifest.parity]
        for ref in refs:
            package._check_file(ref)
        return package

    @property
    def name(self) -> str:
        """Name of the package."""
        return self.manifest.name

    @property
    def model(self) -> ModelConfig:
        """Shapes of the model."""
        return self.manifest.model

    @property
    def sampler(self) -> Sampler:
        """The sampler inside `predict`."""
        return self.manifest.sampler

    @property
    def memory_specs(self) -> tuple[TensorSpec, ...]:
        """The tensors of one memory."""
        return self.manifest.memory

    @property
    def signatures(self) -> dict[str, GraphSignature]:
        """What each graph of this package must take and give."""
        known = graph_signatures(self.model, self.sampler)
        return {graph: known[graph] for graph in self.manifest.graphs}

    def graph_path(self, graph: str) -> Path:
        """File of one of the graphs `encode`, `write`, `predict`, `decode`, `reward`."""
        return self._resolve(self.manifest.graphs[graph].path)

    @property
    def parity_path(self) -> Path:
        """File of the parity sample."""
        return self._resolve(self.manifest.parity.path)

    def _resolve(self, relative: str) -> Path:
        """A file of this package or of one beside it (arms share a tokenizer), nothing further
        away.
        """
        target = (self.path / relative).resolve()
        if Path(relative).is_absolute() or not target.is_relative_to(self.path.parent):
            raise PackageError(
                f'{self.path}: file {relative!r} lies outside the package and its siblings'
            )
        return target

    def _check_file(self, ref: FileRef | ParityRef) -> None:
        target = self._resolve(ref.path)
        if not target.is_file():
            raise PackageError(f'{self.path}: {ref.path} is missing')
        found = sha256_of(target)
        if found != ref.sha256:
            raise PackageError(
                f'{target}: damaged or replaced: sha256 is {found} '
                f'({target.stat().st_size} bytes), the manifest says {ref.sha256}'
            )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def find_package(name: str) -> Path:
    """Return the directory of a package given by path or by name.

    Names are looked up in `packages/` of the repository, then in `share/wm_ros/packages` of every
    prefix in AMENT_PREFIX_PATH and of this Python.

    Raises:
        PackageError: nothing there; the text lists where it was looked for.
    """
    if Path(name).is_dir():
        return Path(name).resolve()
    roots = share.folders('packages', 'wm_ros/packages')
    for root in roots:
        if Path(name).name == name and (root / name).is_dir():
            return root / name
    looked = ', '.join(str(root) for root in roots)
    raise PackageError(f'no model package {name!r}: not a directory, and not found in {looked}')
