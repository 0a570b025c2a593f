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
    """A converted camera message.

    Attributes:
        frame: what the model sees of it.
        receive_ns: time of receipt.
        camera_size: (height, width) of the camera's image before the crop, px.
    """

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
    """A message that could not be converted. `kind` is `frame`, `action` or `camera_info`."""

    kind: str
    error: RejectedInput
    stamp_ns: int


@dataclass(frozen=True)
class Restart:
    """Start afresh before the next frame, from `memory` or from nothing."""

    reason: ResetReason
    memory: MemoryState | None = None


Arrival = ArrivedFrame | ArrivedCommands | Refusal | Restart


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
        return _read_frame(contract, message, receive_ns)
    if topic == contract.reset.topic:
        return Restart(ResetReason.TOPIC)
    for index, source in enumerate(contract.actions):
        if topic == source.topic:
            try:
                commands = commands_from_message(source, message, receive_ns)
            except RejectedInput as error:
                return Refusal('action', error, receive_ns)
            return ArrivedCommands(index, commands, receive_ns)
    raise KeyError(f'{topic}: contract {contract.name!r} names {", ".join(contract.topics)}')


def _read_frame(contract: StreamContract, message: Any, receive_ns: int) -> Arrival:
    header = message.header
    at_ns = stamp_to_ns(header.stamp)
    try:
        image_HWC = image_from_message(contract.camera, message)
        square_HWC = crop_resize(image_HWC, contract.camera.crop, contract.image_size)
    except RejectedInput as error:
        return Refusal('frame', error, at_ns)
    height, width = image_HWC.shape[:2]
    return ArrivedFrame(Frame(square_HWC, at_ns, header.frame_id), receive_ns, (height, width))


def push(synchronizer: StepSynchronizer, arrival: Arrival) -> None:
    """Hand an arrival over; what is refused is counted and reported by the next `poll`."""
    if isinstance(arrival, ArrivedFrame):
        synchronizer.push_frame(arrival.frame, arrival.receive_ns)
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
