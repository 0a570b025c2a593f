"""What a model package says about itself: `manifest.json` as frozen dataclasses, and nothing read
from disk.

In: the parsed JSON. Out: a `Manifest` whose parts fit each other, or a `PackageError` that says
what was found and what was expected. Knows no engine and no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from wm_ros.config import ModelConfig
from wm_ros.contract import StreamContract
from wm_ros.contract_fields import ContractError
from wm_ros.datatypes import TensorSpec
from wm_ros.manifest_fields import PackageError, same_names, texts, typed
from wm_ros.manifest_planning import Calibration, Planning

__all__ = [
    'FORMAT',
    'GRAPHS',
    'NOISE_MODES',
    'OPTIONAL_GRAPHS',
    'PRECISIONS',
    'Calibration',
    'FileRef',
    'GraphSignature',
    'Manifest',
    'PackageError',
    'ParityRef',
    'Planning',
    'Provenance',
    'Sampler',
    'graph_signatures',
    'memory_input',
    'memory_output',
    'state_bytes',
]

FORMAT = 2
GRAPHS = ('encode', 'write', 'predict', 'decode')
OPTIONAL_GRAPHS = ('reward',)
NOISE_MODES = ('deterministic', 'fresh')
PRECISIONS = ('fp32', 'bf16', 'fp16')


@dataclass(frozen=True)
class Provenance:
    """Where the weights come from: training command, commit and date (ISO 8601).

    Attributes:
        weights: a digest of the trained weights, before the graphs were made of them; '' where
            the package does not say.
    """

    command: str
    commit: str
    date: str
    weights: str = ''

    def to_dict(self) -> dict[str, str]:
        """Return the manifest's JSON form."""
        return {name: text for name, text in vars(self).items() if name != 'weights' or text}

    @classmethod
    def from_dict(cls, values: Any) -> Provenance:
        """Build from the manifest's JSON form."""
        said = ('weights',) if 'weights' in typed(values, dict, 'provenance') else ()
        return cls(**texts(values, ('command', 'commit', 'date', *said), 'provenance'))


@dataclass(frozen=True)
class Sampler:
    """How `predict` turns noise into a latent; baked into the graph, recorded here.

    Attributes:
        steps: flow times of the denoise passes, falling from 1.
        noise: `deterministic` (one draw) or `fresh` (a new draw for each pass).
    """

    steps: tuple[float, ...]
    noise: str = 'deterministic'

    def __post_init__(self) -> None:
        falling = all(a > b for a, b in zip(self.steps, self.steps[1:], strict=False))
        if not self.steps or self.steps[0] != 1.0 or not falling or self.steps[-1] <= 0:
            raise PackageError(
                f'sampler steps: found {self.steps}, expected times falling from 1 and above 0'
            )
        if self.noise not in NOISE_MODES:
            raise PackageError(
                f'sampler noise: found {self.noise!r}, expected one of {", ".join(NOISE_MODES)}'
            )

    @property
    def noise_draws(self) -> int:
        """Standard normal latents that one prediction consumes (D)."""
        return 1 if self.noise == 'deterministic' else len(self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's JSON form."""
        return {
            'steps': list(self.steps),
            'noise': self.noise,
            'noise_draws': self.noise_draws,
        }

    @classmethod
    def from_dict(cls, values: Any) -> Sampler:
        """Build from the manifest's JSON form."""
        same_names(values, ('steps', 'noise', 'noise_draws'), 'sampler')
        steps = typed(values['steps'], list, 'sampler.steps')
        noise = typed(values['noise'], str, 'sampler.noise')
        sampler = cls(tuple(typed(step, float, 'sampler.steps') for step in steps), noise)
        if values['noise_draws'] != sampler.noise_draws:
            raise PackageError(
                f'manifest sampler.noise_draws: found {values["noise_draws"]}, '
                f'{noise} with {len(steps)} steps needs {sampler.noise_draws}'
            )
        return sampler


@dataclass(frozen=True)
class FileRef:
    """A file of the package: path relative to the manifest and SHA-256 of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True)
class ParityRef:
    """The stored sample and the largest absolute error allowed, by the engine's precision."""

    path: str
    sha256: str
    tolerance: Mapping[str, float]


@dataclass(frozen=True)
class GraphSignature:
    """Named inputs and outputs of one graph, batch axis left out of every shape."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Manifest:
    """One `manifest.json`. The fields are those of ARCHITECTURE.md, "A model package"."""

    name: str
    licence: str
    provenance: Provenance
    model: ModelConfig
    contract: StreamContract
    sampler: Sampler
    renderer: str | None
    graphs: Mapping[str, FileRef]
    parity: ParityRef
    planning: Planning = field(default_factory=Planning)

    def __post_init__(self) -> None:
        if self.contract.action_width != self.model.action_width:
            raise PackageError(
                f'contract {self.contract.name}: found {self.contract.action_width} '
                f'action entries, the model takes {self.model.action_width}'
            )
        if self.contract.image_size != self.model.image_size:
            raise PackageError(
                f'contract {self.contract.name}: found image size {self.contract.image_size} px, '
                f'the model takes {self.model.image_size} px'
            )

    @property
    def memory(self) -> tuple[TensorSpec, ...]:
        """The tensors of one memory."""
        return self.model.memory_specs()

    @property
    def state_bytes(self) -> int:
        """Bytes of one memory."""
        return state_bytes(self.memory)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            'format': FORMAT,
            'name': self.name,
            'licence': self.licence,
            'provenance': self.provenance.to_dict(),
            'model': self.model.to_dict(),
            'contract': self.contract.to_dict(),
            'sampler': self.sampler.to_dict(),
            'renderer': self.renderer,
            'graphs': {
                name: vars(self.graphs[name])
                for name in (*GRAPHS, *OPTIONAL_GRAPHS)
                if name in GRAPHS or name in self.graphs
            },
            'memory': _memory_json(self.memory),
            'state_bytes': self.state_bytes,
            'parity': {
                'path': self.parity.path,
                'sha256': self.parity.sha256,
                'tolerance': dict(self.parity.tolerance),
            },
            'planning': self.planning.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Any) -> Manifest:
        """Build from parsed JSON.

        Raises:
            PackageError: another format number, unknown or missing fields, wrong types, parts that
                do not fit.
        """
        found = typed(values, dict, 'manifest').get('format')
        if found != FORMAT:
            raise PackageError(f'manifest format: found {found!r}, this version reads {FORMAT}')
        same_names(
            values,
            (
                'format',
                'name',
                'licence',
                'provenance',
                'model',
                'contract',
                'sampler',
                'renderer',
                'graphs',
                'memory',
                'state_bytes',
                'parity',
                'planning',
            ),
            'manifest',
        )
        model = _model(typed(values['model'], dict, 'model'))
        try:
            contract = StreamContract.from_dict(typed(values['contract'], dict, 'contract'))
        except ContractError as error:
            raise PackageError(f'manifest contract: {error}') from error
        named = typed(values['graphs'], dict, 'graphs')
        extra = tuple(name for name in OPTIONAL_GRAPHS if name in named)
        same_names(named, (*GRAPHS, *extra), 'graphs')
        manifest = cls(
            name=typed(values['name'], str, 'name'),
            licence=typed(values['licence'], str, 'licence'),
            provenance=Provenance.from_dict(values['provenance']),
            model=model,
            contract=contract,
            sampler=Sampler.from_dict(values['sampler']),
            renderer=None
            if values['renderer'] is None
            else typed(values['renderer'], str, 'renderer'),
            graphs={
                name: FileRef(**texts(ref, ('path', 'sha256'), f'graphs.{name}'))
                for name, ref in values['graphs'].items()
            },
            parity=_parity(values['parity']),
            planning=Planning.from_dict(values['planning']),
        )
        if values['memory'] != _memory_json(manifest.memory):
            raise PackageError(
                f'manifest memory: found {values["memory"]}, the model needs '
                f'{_memory_json(manifest.memory)}'
            )
        if values['state_bytes'] != manifest.state_bytes:
            raise PackageError(
                f'manifest state_bytes: found {values["state_bytes"]}, the memory list holds '
                f'{manifest.state_bytes}'
            )
        return manifest


def state_bytes(specs: tuple[TensorSpec, ...]) -> int:
    """Bytes of one memory with these tensors."""
    return sum(int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize for spec in specs)


def memory_input(name: str) -> str:
    """Graph input that carries the memory tensor `name`.

    (`write` and `predict` have an `action` of their own.)
    """
    return f'memory_{name}'


def memory_output(name: str) -> str:
    """Graph output that carries the memory tensor `name` after a write."""
    return f'memory_{name}_next'


def graph_signatures(model: ModelConfig, sampler: Sampler) -> dict[str, GraphSignature]:
    """What each graph of a package must take and give, the optional ones included."""
    image = TensorSpec('image', (3, model.image_size, model.image_size))
    latent = TensorSpec('latent', model.latent_shape)
    action = TensorSpec('action', (model.action_width,))
    specs = model.memory_specs()
    before = tuple(TensorSpec(memory_input(s.name), s.shape, s.dtype) for s in specs)
    after = tuple(TensorSpec(memory_output(s.name), s.shape, s.dtype) for s in specs)
    noise = TensorSpec('noise', (sampler.noise_draws, *model.coded_shape))
    return {
        'encode': GraphSignature((image,), (latent,)),
        'write': GraphSignature((latent, action, TensorSpec('gate', ()), *before), after),
        'predict': GraphSignature((action, noise, *before), (latent,)),
        'decode': GraphSignature((latent,), (image,)),
        'reward': GraphSignature((latent,), (TensorSpec('reward', ()),)),
    }


def _model(values: dict[str, Any]) -> ModelConfig:
    for item in fields(ModelConfig):
        if item.name in values:
            typed(values[item.name], type(item.default), f'model.{item.name}')
    try:
        return ModelConfig.from_dict(values)
    except ValueError as error:
        raise PackageError(f'manifest model: {error}') from error


def _parity(values: Any) -> ParityRef:
    same_names(values, ('path', 'sha256', 'tolerance'), 'parity')
    same_names(values['tolerance'], PRECISIONS, 'parity.tolerance')
    tolerance = {
        name: typed(value, float, f'parity.tolerance.{name}')
        for name, value in values['tolerance'].items()
    }
    texts = {name: typed(values[name], str, f'parity.{name}') for name in ('path', 'sha256')}
    return ParityRef(**texts, tolerance=tolerance)


def _memory_json(specs: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
    return [{'name': spec.name, 'shape': list(spec.shape), 'dtype': spec.dtype} for spec in specs]
