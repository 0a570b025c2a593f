"""The one way of a message into a synchroniser, whoever has received it.

`read` makes an arrival of a message: a frame, commands, a refusal or a wish to restart. `push`
hands an arrival to a synchroniser. Bags do both at once (`MessageFeed`); the live node keeps what
it has read in an inbox until its inference thread pushes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wm_ros.contract import StreamContract
from wm_ros.datatypes import Frame, MemoryState, ResetReason
from wm_ros.messages import Command, commands_from_message, image_from_message, stamp_to_ns
from wm_ros.preprocess import crop_resize
from wm_ros.rejection import RejectedInput
from wm_ros.sync import StepSynchronizer


@dataclass(frozen=True)
class ArrivedFrame:
    """A converted message of the (first) camera.

    Attributes:
        frame: what the model sees of it; with several cameras, its part of that.
        receive_ns: time of receipt.
        camera_size: (height, width) of the camera's image before the crop, px.
    """

    frame: Frame
    receive_ns: int
    camera_size: tuple[int, int]


@dataclass(frozen=True)
class ArrivedView:
    """A converted message of a further camera of the contract.

    Attributes:
        camera_index: index into the contract's cameras, 1 or more.
        frame: its part of what the model sees.
        receive_ns: time of receipt.
        camera_size: (height, width) of the camera's image before the crop, px.
    """

    camera_index: int
    frame: Frame
    receive_ns: int
    camera_size: tuple[int, int]


@dataclass(frozen=True)
class ArrivedCommands:
    """The commands of one message of one source of the contract, and its time of receipt."""

    source_index: int
    commands: tuple[Command, ...]
    receive_ns: int


@dataclass(frozen=True)
class Refusal:
    """A message that could not be converted. `kind` as in `Rejection`."""

    kind: str
    error: RejectedInput
    stamp_ns: int


@dataclass(frozen=True)
class Restart:
    """Start afresh before the next frame, from `memory` or from nothing."""

    reason: ResetReason
    memory: MemoryState | None = None


Arrival = ArrivedFrame | ArrivedView | ArrivedCommands | Refusal | Restart


def read(contract: StreamContract, topic: str, message: Any, receive_ns: int) -> Arrival:
    """Convert one message. A bad one becomes a refusal, it never raises.

    Args:
        contract: how to read it.
        topic: a topic of `contract.topics`.
        message: of the type that the contract says.
        receive_ns: time of receipt.

    Raises:
        KeyError: a topic that the contract does not name.
    """
    if topic == contract.camera.topic:
        return _read_frame(contract, 0, message, receive_ns)
    if topic == contract.reset.topic:
        return Restart(ResetReason.TOPIC)
    for index, source in enumerate(contract.actions):
        if topic == source.topic:
            try:
                commands = commands_from_message(source, message, receive_ns)
            except RejectedInput as error:
                return Refusal('action', error, receive_ns)
            return ArrivedCommands(index, commands, receive_ns)
    for index, camera in enumerate(contract.cameras):
        if topic == camera.topic:
            return _read_frame(contract, index, message, receive_ns)
    raise KeyError(f'{topic}: contract {contract.name!r} names {", ".join(contract.topics)}')


def _read_frame(
    contract: StreamContract, camera_index: int, message: Any, receive_ns: int
) -> Arrival:
    camera, header = contract.cameras[camera_index], message.header
    at_ns = stamp_to_ns(header.stamp)
    try:
        image_HWC = image_from_message(camera, message)
        _, width = contract.tile_size
        view_HWC = crop_resize(image_HWC, camera.crop, width, contract.tile_aspect)
    except RejectedInput as error:
        if not camera_index:
            return Refusal('frame', error, at_ns)
        return Refusal(
            'view', RejectedInput(error.reason, f'{camera.topic}: {error.detail}'), at_ns
        )
    frame, size = Frame(view_HWC, at_ns, header.frame_id), image_HWC.shape[:2]
    if camera_index:
        return ArrivedView(camera_index, frame, receive_ns, (size[0], size[1]))
    return ArrivedFrame(frame, receive_ns, (size[0], size[1]))


def push(synchronizer: StepSynchronizer, arrival: Arrival) -> None:
    """Hand an arrival over; what is refused is counted and reported by the next `poll`."""
    if isinstance(arrival, ArrivedFrame):
        synchronizer.push_frame(arrival.frame, arrival.receive_ns)
    elif isinstance(arrival, ArrivedView):
        synchronizer.push_view(arrival.camera_index, arrival.frame, arrival.receive_ns)
    elif isinstance(arrival, ArrivedCommands):
        synchronizer.push_commands(arrival.source_index, arrival.commands, arrival.receive_ns)
    elif isinstance(arrival, Refusal):
        synchronizer.push_rejection(arrival.kind, arrival.error, arrival.stamp_ns)
    else:
        synchronizer.reset(arrival.reason)


class MessageFeed:
    """Reads messages and pushes them at once.

    Args:
        contract: which topics, and how to read them.
        synchronizer: where frames and commands go.
    """

    def __init__(self, contract: StreamContract, synchronizer: StepSynchronizer) -> None:
        self.contract = contract
        self.synchronizer = synchronizer

    def push(self, topic: str, message: Any, receive_ns: int) -> None:
        """Take one message; see `read`."""
        push(self.synchronizer, read(self.contract, topic, message, receive_ns))
