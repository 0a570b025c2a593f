"""MessageFeed: push every message of the contract's topics into one synchroniser, whoever has
received it.
"""

from __future__ import annotations

from typing import Any

from wm_ros.contract import StreamContract
from wm_ros.datatypes import ResetReason
from wm_ros.messages import commands_from_message, frame_from_message, stamp_ns
from wm_ros.rejection import RejectedInput
from wm_ros.sync import StepSynchronizer


class MessageFeed:
    """Turns messages into pushes. A bad message is counted and reported by the next `poll`, never
    raised.

    Args:
        contract: which topics, and how to read them.
        synchronizer: where frames and commands go.
    """

    def __init__(self, contract: StreamContract, synchronizer: StepSynchronizer) -> None:
        self.contract = contract
        self.synchronizer = synchronizer
        self._source_index = {source.topic: i for i, source in enumerate(contract.actions)}

    def push(self, topic: str, message: Any, receive_ns: int) -> None:
        """Take one message.

        Args:
            topic: a topic of `contract.topics`.
            message: of the type that the contract says.
            receive_ns: time of receipt.

        Raises:
            KeyError: a topic that the contract does not name.
        """
        if topic == self.contract.camera.topic:
            self._push_frame(message, receive_ns)
        elif topic == self.contract.reset.topic:
            self.synchronizer.reset(ResetReason.TOPIC)
        else:
            self._push_commands(self._source_index[topic], message, receive_ns)

    def _push_frame(self, message: Any, receive_ns: int) -> None:
        try:
            frame = frame_from_message(self.contract, message)
        except RejectedInput as error:
            self.synchronizer.push_rejection('frame', error, stamp_ns(message.header.stamp))
        else:
            self.synchronizer.push_frame(frame, receive_ns)

    def _push_commands(self, source_index: int, message: Any, receive_ns: int) -> None:
        try:
            commands = commands_from_message(
                self.contract.actions[source_index], message, receive_ns
            )
        except RejectedInput as error:
            self.synchronizer.push_rejection('action', error, receive_ns)
        else:
            self.synchronizer.push_commands(source_index, commands, receive_ns)
