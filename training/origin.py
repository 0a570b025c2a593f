"""What a fine-tuned model begins with: the finished artefacts of another training.

In: a folder that holds `tokenizer.pt` and `ttt.pt`, by path or by the name of a shipped one. Out:
weights taken over where the shapes agree, and the names of those that are not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from export import artefact
from export.artefact import Artefact
from wm_ros import share
from wm_ros.config import ModelConfig
from wm_ros.contract import StreamContract
from wm_ros.model_package import MANIFEST

ARTEFACTS = share.REPOSITORY / 'training' / 'artefacts'
TOKENIZER, MODEL = 'tokenizer.pt', 'ttt.pt'


class OriginError(ValueError):
    """Weights that cannot be gone on from, with what was found and what was expected."""


@dataclass(frozen=True)
class Origin:
    """Where weights come from.

    Attributes:
        folder: of the artefacts.
        tokenizer: its tokenizer.
        world_model: its model; None where only the tokenizer is taken.
        train_tokenizer: the tokenizer is trained on, too.
    """

    folder: Path
    tokenizer: Artefact
    world_model: Artefact | None
    train_tokenizer: bool = False


def find_origin(name: str, *, tokenizer_only: bool, train_tokenizer: bool) -> Origin:
    """Load artefacts.

    Args:
        name: a folder, or the name of one in `training/artefacts`.
        tokenizer_only: the world model is to be trained from nothing.
        train_tokenizer: the tokenizer is to be trained on.

    Raises:
        OriginError: no such folder, one without artefacts, or two that do not belong together.
        PackageError: a file of something else.
    """
    folder = Path(name) if Path(name).is_dir() else ARTEFACTS / name
    if (folder / MANIFEST).exists():
        raise OriginError(
            f'--from {name}: a model package, whose graphs cannot be trained; expected the folder '
            f'with {TOKENIZER} and {MODEL} that its training left'
        )
    wanted = (TOKENIZER,) if tokenizer_only else (TOKENIZER, MODEL)
    if missing := [file for file in wanted if not (folder / file).is_file()]:
        known = ', '.join(sorted(path.parent.name for path in ARTEFACTS.glob(f'*/{TOKENIZER}')))
        raise OriginError(
            f'--from {name}: no {" and no ".join(missing)} in {folder}; expected a folder of '
            f'artefacts, or one of {known}'
        )
    tokenizer = artefact.load(folder / TOKENIZER)
    model = None if tokenizer_only else artefact.load(folder / MODEL)
    if model and model.config.coded_shape != tokenizer.config.coded_shape:
        raise OriginError(
            f'{folder}: {MODEL} is of latents {model.config.coded_shape}, {TOKENIZER} makes '
            f'{tokenizer.config.coded_shape}'
        )
    return Origin(folder, tokenizer, model, train_tokenizer)


def shapes_for(origin: Origin, contract: StreamContract, fresh: ModelConfig) -> ModelConfig:
    """Return the shapes of the model to train: those of the origin, with the robot's actions.

    Args:
        origin: what is gone on from.
        contract: of the robot.
        fresh: of a model from nothing, used where only the tokenizer is taken.

    Raises:
        OriginError: another image size, or a latent of another shape.
    """
    given = origin.tokenizer.config
    if given.image_size != contract.image_size:
        raise OriginError(
            f'contract {contract.name}: image_size {contract.image_size}; expected '
            f'{given.image_size}, which {origin.folder} was trained on'
        )
    return replace(
        origin.world_model.config if origin.world_model else fresh,
        action_width=contract.action_width,
        image_size=given.image_size,
        latent_channels=given.latent_channels,
        tokenizer_width=given.tokenizer_width,
    )


def take(found: Artefact, module: nn.Module) -> list[str]:
    """Copy the weights whose shapes agree into a module.

    Returns:
        The names of the module's weights that keep their first values, with both shapes.
    """
    left, state = [], module.state_dict()
    for name, own in state.items():
        given = found.state.get(name)
        if given is None or given.shape != own.shape:
            shape = 'not there' if given is None else list(given.shape)
            left.append(f'{name} (is {list(own.shape)}, there {shape})')
        else:
            state[name] = given
    module.load_state_dict(state)
    return left
