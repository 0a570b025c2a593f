"""StreamContract: what one robot sends, and how it becomes the tensors of a model.

One YAML per robot (`contracts/*.yaml`) names its cameras, the command topics, the entries of the
action vector with their limits, the rate and the reset policy. The contract that a model was
trained with travels in its manifest; `require_fit` refuses a robot whose contract means something
else. Nothing here reads a message: `messages.py` does that, with the contract in hand.

Axes: A entries of the action vector, in the order of the sources and of their entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from wm_ros import share
from wm_ros.cameras import camera_differences, camera_names, check_cameras
from wm_ros.contract_fields import ContractError, build_value, plain
from wm_ros.datatypes import FloatArray
from wm_ros.sources import ActionEntry, ActionSource, CameraSource, ResetPolicy, require
from wm_ros.tiles import tile_aspect, tile_size


@dataclass(frozen=True)
class StreamContract:
    """Cameras, commands, rate and reset policy of one robot. See the module text.

    Attributes:
        rate_hz: steps per second of the model.
        image_size: side of the square image that the model sees, px; the cameras share it
            (tiles.py).
        cameras: the first is the clock: its frames make the steps, the views of the others join.
        action_lead_ms: a command stamped up to this much after a frame still counts for it.
        action_wait_ms: how long a live frame waits for its command and for the other views.
    """

    name: str
    rate_hz: float
    image_size: int
    cameras: tuple[CameraSource, ...]
    actions: tuple[ActionSource, ...]
    action_lead_ms: float = 0.0
    action_wait_ms: float = 5.0
    reset: ResetPolicy = field(default_factory=ResetPolicy)

    def __post_init__(self) -> None:
        require(
            0 < self.rate_hz <= 1000, f'rate_hz is {self.rate_hz}: expected above 0, at most 1000'
        )
        require(
            8 <= self.image_size <= 1024, f'image_size is {self.image_size}: expected 8 to 1024 px'
        )
        check_cameras(self.cameras, self.image_size)
        require(bool(self.actions), 'no action sources')
        require(
            -1000 <= self.action_lead_ms <= 1000,
            f'action_lead_ms is {self.action_lead_ms}: expected -1000 to 1000',
        )
        require(
            0 <= self.action_wait_ms <= 1000,
            f'action_wait_ms is {self.action_wait_ms}: expected 0 to 1000',
        )
        require(
            self.reset.gap_s * self.rate_hz >= 1.5,
            f'reset.gap_s is {self.reset.gap_s}: shorter than 1.5 frames at {self.rate_hz} Hz',
        )
        names = [entry.name for entry in self.entries]
        twice = sorted({name for name in names if names.count(name) > 1})
        require(not twice, f'action entries named twice: {", ".join(twice)}')
        topics = [camera.topic for camera in self.cameras]
        topics += [source.topic for source in self.actions]
        twice = sorted({topic for topic in topics if topics.count(topic) > 1})
        require(not twice, f'topics named twice: {", ".join(twice)}')

    @classmethod
    def load(cls, path: str | Path) -> StreamContract:
        """Read one YAML file.

        Raises:
            ContractError: the file is missing, no YAML, or holds unknown, missing or bad fields.
        """
        try:
            values = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ContractError(f'cannot read contract {path}: {error}') from error
        try:
            return cls.from_dict(values)
        except ContractError as error:
            raise ContractError(f'contract {path}: {error}') from error

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StreamContract:
        """Build from plain values; unknown, missing or mistyped fields raise ContractError."""
        contract: StreamContract = build_value(cls, values, '')
        return contract

    def to_dict(self) -> dict[str, Any]:
        """Return every field, defaults included, as plain JSON values."""
        values: dict[str, Any] = plain(self)
        return values

    @property
    def camera(self) -> CameraSource:
        """The first camera: the one whose frames make the steps."""
        return self.cameras[0]

    @property
    def camera_names(self) -> tuple[str, ...]:
        """A short name for each camera, see `cameras.camera_names`."""
        return camera_names(self.cameras)

    @property
    def tile_size(self) -> tuple[int, int]:
        """(height, width) of each camera's part of the image, px; with one camera all of it."""
        return tile_size(len(self.cameras), self.image_size)

    @property
    def tile_aspect(self) -> int:
        """How many times wider than high that part is."""
        return tile_aspect(len(self.cameras))

    @property
    def entries(self) -> tuple[ActionEntry, ...]:
        """All entries of the action vector, in order."""
        # From a list: tuple(generator) per call grows CPython's free lists (see stepping.py).
        return tuple([entry for source in self.actions for entry in source.entries])

    @property
    def action_width(self) -> int:
        """A, the entries of the action vector."""
        return len(self.entries)

    @property
    def period_ns(self) -> int:
        """Nanoseconds from one step to the next."""
        return round(1e9 / self.rate_hz)

    @property
    def topics(self) -> dict[str, str]:
        """Topic -> message type of everything that the contract reads, reset topic included."""
        named = {camera.topic: camera.type for camera in self.cameras}
        named |= {source.topic: source.type for source in self.actions}
        if self.reset.topic is not None:
            named[self.reset.topic] = 'std_msgs/msg/Empty'
        return named

    @property
    def limits_A2(self) -> npt.NDArray[np.float64]:
        """Low and high of every entry, float64 [A, 2]."""
        return np.array([(entry.low, entry.high) for entry in self.entries], np.float64)

    def _checked(self, values_A: npt.ArrayLike) -> npt.NDArray[np.float64]:
        array_A = np.asarray(values_A, np.float64)
        if array_A.shape[-1:] != (self.action_width,):
            raise ValueError(
                f'action has shape {array_A.shape}, expected {self.action_width} entries last'
            )
        if not np.isfinite(array_A).all():
            bad = np.flatnonzero(~np.isfinite(array_A.reshape(-1, self.action_width)).all(axis=0))
            raise ValueError(
                f'action is not finite: {", ".join(self.entries[i].name for i in bad)}'
            )
        return array_A

    def normalise(self, values_A: npt.ArrayLike) -> FloatArray:
        """Map commands in their own units to float32 in [-1, 1]; beyond the limits: clipped.

        Args:
            values_A: [..., A], finite.

        Raises:
            ValueError: wrong width, or NaN or infinity, naming the entries.
        """
        low_A, high_A = self.limits_A2.T
        scaled_A = (self._checked(values_A) - low_A) / (high_A - low_A) * 2 - 1
        return np.clip(scaled_A, -1, 1).astype(np.float32)

    def count_clipped(self, values_A: npt.ArrayLike) -> int:
        """Count the entries of [..., A] outside their limits (which `normalise` clips)."""
        low_A, high_A = self.limits_A2.T
        array_A = self._checked(values_A)
        slack_A = 1e-6 * (high_A - low_A)  # float32 messages do not meet float64 limits exactly
        return int(((array_A < low_A - slack_A) | (array_A > high_A + slack_A)).sum())

    def denormalise(self, values_A: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Map [-1, 1] back to the entries' own units, float64 [..., A]."""
        low_A, high_A = self.limits_A2.T
        return (self._checked(values_A) + 1) / 2 * (high_A - low_A) + low_A

    def differences(self, other: StreamContract) -> list[str]:
        """List what makes the same data mean something else under `other`; empty: both fit.

        Topic names, message types, waiting times and the reset policy may differ; rate, image
        size, lead, the action vector, and number, order and crops of the cameras may not.
        """
        found = [
            f'{name}: {getattr(self, name)} against {getattr(other, name)}'
            for name in ('rate_hz', 'image_size', 'action_lead_ms')
            if getattr(self, name) != getattr(other, name)
        ]
        found += camera_differences(self.cameras, other.cameras)
        if self.action_width != other.action_width:
            found.append(f'action entries: {self.action_width} against {other.action_width}')
        mine, theirs = self._meanings(), other._meanings()
        for index, (left, right) in enumerate(zip(mine, theirs, strict=False)):
            parts = [
                f'{key} {left[key]} against {right[key]}'
                for key in left
                if left[key] != right[key]
            ]
            if parts:
                found.append(f'action entry {index}: {"; ".join(parts)}')
        return found

    def _meanings(self) -> list[dict[str, Any]]:
        return [
            plain(entry) | {'field': source.field, 'integrate': source.integrate}
            for source in self.actions
            for entry in source.entries
        ]

    def require_fit(self, model_contract: StreamContract) -> None:
        """Raise ContractError listing how this robot differs from what a model was trained on."""
        if found := self.differences(model_contract):
            raise ContractError(
                f"contract {self.name!r} does not fit the model's {model_contract.name!r} "
                f'(found against expected): {"; ".join(found)}'
            )


def find_contract(name: str | Path) -> Path:
    """Return the file of a contract given by path or by name.

    Names are looked up in `contracts/` of the repository, then in `share/wm_ros/contracts` of
    every prefix in AMENT_PREFIX_PATH and of this Python.

    Raises:
        ContractError: nothing there; the text lists where it was looked for.
    """
    if Path(name).is_file():
        return Path(name)
    folders = share.folders('contracts', 'wm_ros/contracts')
    for folder in folders:
        if Path(name).name == str(name) and (folder / f'{name}.yaml').is_file():
            return folder / f'{name}.yaml'
    looked = ', '.join(str(folder) for folder in folders)
    raise ContractError(f'no contract {str(name)!r}: not a file, and not found in {looked}')
