"""Everything that can refuse before a node runs: package, contract, engine, stored parity sample,
warm-up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wm_ros import parity
from wm_ros.backends.resolve import resolve_backend
from wm_ros.config import RuntimeConfig
from wm_ros.contract import StreamContract, find_contract
from wm_ros.contract_fields import ContractError
from wm_ros.datatypes import Frame, ResetReason, Step
from wm_ros.memory import NonFiniteError
from wm_ros.model_package import ModelPackage, PackageError, find_package
from wm_ros.world_model import WorldModel

# EngineUnavailable and what engines raise themselves are RuntimeErrors.
REFUSALS = (PackageError, ContractError, NonFiniteError, RuntimeError, ValueError, OSError)
WARM_UP_FRAMES = 5


class ParityMismatch(ValueError):
    """This machine's engine does not compute what the package's author stored."""


@dataclass(frozen=True)
class Loaded:
    """A model ready to run for a robot, and how exactly its engine repeats the stored sample."""

    model: WorldModel
    contract: StreamContract
    parity: parity.ParityReport


def load(config: RuntimeConfig) -> Loaded:
    """Load and check everything that `config` names.

    Raises:
        PackageError: the package is missing, damaged or inconsistent.
        ContractError: the contract cannot be found or read, or does not fit the model.
        EngineUnavailable: the engine cannot run here.
        NonFiniteError: the model's output for grey frames is not finite.
        RuntimeError: the engine failed.
        ParityMismatch: the engine's results are outside the package's tolerance.
    """
    package = ModelPackage.load(find_package(config.package))
    contract = package.manifest.contract
    if config.contract:
        contract = StreamContract.load(find_contract(config.contract))
        contract.require_fit(package.manifest.contract)
    backend = resolve_backend(config.backend, package, config.threads, precision=config.precision)
    report = parity.check_sample(package, backend)
    if not report.ok:
        raise ParityMismatch(f'package {package.name} is refused on this machine: {report}')
    model = WorldModel(package, backend)
    warm_up(model, config.horizon)
    return Loaded(model, contract, report)


def warm_up(model: WorldModel, horizon: int) -> None:
    """Run every graph a few times on grey frames, a missing one included, so that the first real
    one is as fast.
    """
    config = model.package.model
    rng = np.random.default_rng(0)
    memory = model.reset()
    grey_HWC = np.full((config.image_size, config.image_size, 3), 127, np.uint8)
    action_A = np.zeros(config.action_width, np.float32)
    actions_BTA = np.zeros((1, horizon, config.action_width), np.float32)
    for i in range(WARM_UP_FRAMES):
        frame = Frame(grey_HWC, i + 1) if i != 1 else None
        step = Step(frame, action_A, action_A, i + 1, i, ResetReason.START if i == 0 else None)
        memory = model.observe(memory, step, model.noise(rng)[:, 0])
        model.imagine(memory, actions_BTA, model.noise(rng, 1, horizon))
