"""The memory services: reset, save, load. Each answers with a code and a sentence.

Memories are values: saving takes the one at hand, resetting and loading leave a wish in the inbox
that takes effect before the next frame.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_ros_msgs.srv import LoadMemory, ResetMemory, SaveMemory

from wm_ros import memory as memories
from wm_ros.datatypes import MemoryState, ResetReason
from wm_ros.feed import Restart
from wm_ros.memory import (
    MemoryFileError,
    MemoryOwnerError,
    MemoryVersionError,
    NonFiniteError,
)
from wm_ros.nodes.convert import ns_to_stamp
from wm_ros.nodes.inbox import Inbox
from wm_ros.planning.query import QueryCode, QueryError, Start

if TYPE_CHECKING:
    from rclpy.node import Node

    from wm_ros.model_package import ModelPackage
    from wm_ros.nodes.session import Session


class MemoryServices:
    """Offers the three services on a node. `open` and `close` follow activation."""

    def __init__(self, node: Node, package: ModelPackage, with_reset: bool) -> None:
        self._node = node
        self._package = package
        self._log = node.get_logger()
        self._session: Session | None = None
        self._inbox: Inbox | None = None
        self._with_reset = with_reset
        self._services: list[Any] = []

    def create(self) -> None:
        """Put the services on the node."""
        offered = [
            (SaveMemory, '~/save_memory', self.save),
            (LoadMemory, '~/load_memory', self.load),
        ]
        if self._with_reset:
            offered.append((ResetMemory, '~/reset_memory', self.reset))
        for kind, name, answer in offered:
            self._services.append(self._node.create_service(kind, name, answer))

    def open(self, session: Session, inbox: Inbox) -> None:
        """Serve this session from now on."""
        self._session, self._inbox = session, inbox

    def close(self) -> None:
        """Answer NOT_ACTIVE from now on."""
        self._session = self._inbox = None

    def destroy(self) -> None:
        """Take the services off the node."""
        self.close()
        while self._services:
            self._node.destroy_service(self._services.pop())

    def reset(
        self, request: ResetMemory.Request, response: ResetMemory.Response
    ) -> ResetMemory.Response:
        """Start the memory afresh before the next frame."""
        if self._inbox is None:
            return refuse(response, ResetMemory.Response.NOT_ACTIVE, 'the node is not active')
        self._inbox.put(Restart(ResetReason.SERVICE))
        self._log.info(f'memory reset asked for: {request.note or "no note"}')
        response.success = True
        return response

    def save(
        self, request: SaveMemory.Request, response: SaveMemory.Response
    ) -> SaveMemory.Response:
        """Write the current memory to a file."""
        codes = SaveMemory.Response
        if self._session is None or self._inbox is None:
            return refuse(response, codes.NOT_ACTIVE, 'the node is not active')
        path = Path(request.path)
        if not path.is_absolute() or not path.parent.is_dir() or path.is_dir():
            expected = 'expected an absolute path of a file in a directory that exists'
            return refuse(response, codes.BAD_PATH, f'{request.path!r}: {expected}')
        if path.exists() and not request.overwrite:
            return refuse(
                response, codes.FILE_EXISTS, f'{path} exists; set overwrite to replace it'
            )
        memory = current(self._session, self._inbox)
        if memory.frames == 0:
            return refuse(response, codes.NOTHING_OBSERVED, 'no frame observed since the reset')
        try:
            saved = memories.save(memory, path, self._package.sha256)
        except (OSError, NonFiniteError) as error:
            return refuse(response, codes.WRITE_FAILED, str(error))
        response.bytes = saved.nbytes
        self._log.info(f'memory of {memory.frames} frames saved to {path}')
        return describe(response, memory, path)

    def load(
        self, request: LoadMemory.Request, response: LoadMemory.Response
    ) -> LoadMemory.Response:
        """Replace the memory by a saved one before the next frame."""
        codes = LoadMemory.Response
        if self._inbox is None:
            return refuse(response, codes.NOT_ACTIVE, 'the node is not active')
        path = Path(request.path)
        if not path.is_absolute() or not path.is_file():
            expected = 'expected an absolute path of a file that exists'
            return refuse(response, codes.NOT_FOUND, f'{request.path!r}: {expected}')
        try:
            memory = memories.load(path, self._package)
        except MemoryFileError as error:
            return refuse(response, code_of(error), str(error))
        except NonFiniteError as error:
            return refuse(response, codes.NOT_FINITE, str(error))
        except OSError as error:
            return refuse(response, codes.UNKNOWN, str(error))
        if memory.batch != 1:
            found = f'{path}: holds {memory.batch} states, expected 1'
            return refuse(response, codes.WRONG_MODEL, found)
        self._inbox.put(Restart(ResetReason.LOADED, memory))
        self._log.info(f'memory of {memory.frames} frames loaded from {path}')
        return describe(response, memory, path)


def current(session: Session, inbox: Inbox) -> MemoryState:
    """Return the memory that the next frame will find."""
    wish = _on_its_way(session, inbox)
    if wish is None:
        return session.next_memory
    return wish.memory or session.model.reset()


def start_of_now(session: Session, inbox: Inbox) -> Start:
    """Return where a query about now begins; safe in any thread.

    Raises:
        QueryError: NOTHING_OBSERVED, also once a reset or a load has been asked for.
    """
    if _on_its_way(session, inbox) is not None:
        raise QueryError(
            QueryCode.NOTHING_OBSERVED, 'the memory starts afresh with the next frame'
        )
    return session.start()


def _on_its_way(session: Session, inbox: Inbox) -> Restart | None:
    """Return the restart that was asked for and that the session does not know of yet.

    From when the inference thread takes the mail until the session has it, it is in neither of
    the two; so they are compared and not looked into.
    """
    wish = inbox.newest_restart
    return None if wish is session.taken else wish


def code_of(error: MemoryFileError) -> int:
    """Return the service's code for a refused file."""
    codes = LoadMemory.Response
    if isinstance(error, MemoryVersionError):
        return int(codes.WRONG_VERSION)
    return int(codes.WRONG_MODEL if isinstance(error, MemoryOwnerError) else codes.CORRUPT)


def describe(response: Any, memory: MemoryState, path: Path) -> Any:
    """Fill in a success: which file, which memory."""
    response.success = True
    response.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    response.frames = memory.frames
    response.stamp = ns_to_stamp(memory.stamp_ns)
    return response


def refuse(response: Any, code: int, message: str) -> Any:
    """Fill in a refusal."""
    response.success = False
    response.error_code = code
    response.message = message
    return response
