"""The values that flow through wm_ros: frame and action in, memory along, prediction out.

Everything here is an immutable value. Nothing here knows ROS, an engine or PyTorch.

Axes: B batch, K candidates, T time, C channels, H W pixels, A action.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
ImageArray = npt.NDArray[np.uint8]


class ResetReason(enum.StrEnum):
    """Why a memory was started afresh; published with every reset."""

    START = 'start'
    SERVICE = 'service'
    TOPIC = 'topic'
    CLOCK_JUMP = 'clock_jump'
    GAP = 'gap'
    LOADED = 'loaded'
    NOT_FINITE = 'not_finite'


@dataclass(frozen=True)
class Frame:
    """One camera frame after the contract's crop and resize, with the views of all its cameras.

    Attributes:
        image_HWC: uint8 RGB, shape [S, S, 3], S = the model's image size. Before its step is made,
            a frame of one of several cameras has the size of that camera's tile.
        stamp_ns: time of exposure (of the first camera), nanoseconds since the clock's epoch.
        frame_id: tf frame of the (first) camera, copied from the message.
    """

    image_HWC: ImageArray
    stamp_ns: int
    frame_id: str = ''


@dataclass(frozen=True)
class Action:
    """One command, joined from the contract's action topics and normalised to [-1, 1].

    Attributes:
        values_A: float32, shape [A], each entry in [-1, 1] over the contract's limits.
        stamp_ns: time from which the command is in force.
    """

    values_A: FloatArray
    stamp_ns: int


@dataclass(frozen=True)
class Step:
    """What one tick of the world model consumes.

    `action_prev_A` (a_{t-1}) was in force from the previous frame to this one, `action_A` (a_t) is
    in force from this frame to the next. `frame` is None where a frame is missing: the window
    is then filled with the prediction and the long memory is not written.

    Attributes:
        frame: the camera frame I_t, or None for a missing one.
        action_prev_A: float32 [A] in [-1, 1].
        action_A: float32 [A] in [-1, 1].
        stamp_ns: stamp of I_t (of the instant it should have had, when missing).
        index: frames since the last reset, 0 for the first.
        reset: set on the first step after a reset: why.
    """

    frame: Frame | None
    action_prev_A: FloatArray
    action_A: FloatArray
    stamp_ns: int
    index: int
    reset: ResetReason | None = None


@dataclass(frozen=True)
class MemoryState:
    """All that the model remembers: a value of constant size. Never edited in place.

    Attributes:
        arrays: one float32 array per tensor of the manifest's `memory` list, batch axis first.
        frames: observed frames written since the reset.
        stamp_ns: stamp of the last frame that went in.
    """

    arrays: Mapping[str, FloatArray]
    frames: int = 0
    stamp_ns: int = 0

    @property
    def batch(self) -> int:
        """Number of states held side by side."""
        return next(iter(self.arrays.values())).shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, batch included."""
        return sum(array.nbytes for array in self.arrays.values())


@dataclass(frozen=True)
class Rollout:
    """What `WorldModel.imagine` returns.

    Attributes:
        latents_BTCHW: float32 predicted latents.
        memory: the fork after the last written prediction (the caller's memory is untouched):
            the last one, or with `write_last=False` the one before it.
        frames_BTHWC: uint8 RGB frames, or None when decoding was not asked for.
    """

    latents_BTCHW: FloatArray
    memory: MemoryState
    frames_BTHWC: ImageArray | None = None


@dataclass(frozen=True)
class Prediction:
    """What the camera will show `horizon` frames after the frame stamped `source_stamp_ns`."""

    image_HWC: ImageArray
    source_stamp_ns: int
    stamp_ns: int
    horizon: int
    frame_id: str = ''


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape without the batch axis, and dtype of a tensor that crosses a graph boundary."""

    name: str
    shape: tuple[int, ...]
    dtype: str = field(default='float32')
