"""States that planners keep: handles with an owner, an age, a budget of bytes and an expiry.

A state is a value, so keeping one copies nothing and two handles may share one. Every handle is
charged in full all the same: what is held can never exceed the budget. Ids are never used again.

The clock is an argument (`now_s`), any that does not run backwards. Safe to call from several
threads.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from wm_ros.datatypes import FloatArray, MemoryState
from wm_ros.memory import freeze
from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.planning.query import Start

REMEMBERED = 1000  # expired ids of which is still known that they once were
OWNER_CHARACTERS = 256
LONGEST_KEEP_S = 86400.0


@dataclass(frozen=True)
class Handle:
    """What is told about a kept state.

    Attributes:
        id: from 1 upwards.
        owner: who kept it, as they call themselves.
        frames: observed frames in its memory.
        stamp_ns: stamp of the newest observed frame in it.
        imagined: frames imagined after that.
        latched: whether a command is in force at its start.
        created_s: when it was kept, in the caller's clock.
        expires_s: when it is dropped.
        nbytes: what it is charged for.
    """

    id: int
    owner: str
    frames: int
    stamp_ns: int
    imagined: int
    latched: bool
    created_s: float
    expires_s: float
    nbytes: int

    def age_s(self, now_s: float) -> float:
        """Seconds since it was kept."""
        return now_s - self.created_s


class StateStore:
    """The kept states of one node.

    Args:
        budget_bytes: of all states together.
        keep_s: how long a state is kept where nothing else is asked.
    """

    def __init__(self, budget_bytes: int, keep_s: float = 60.0) -> None:
        self.budget_bytes = budget_bytes
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[Handle, Start]] = {}
        self._expired: deque[int] = deque(maxlen=REMEMBERED)
        self._next_id = 1
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes charged for now."""
        return self._nbytes

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, start: Start, owner: str, now_s: float, keep_s: float = 0.0) -> Handle:
        """Keep a state.

        Args:
            start: memory of batch 1 and the command in force.
            owner: free text, at most 256 characters.
            now_s: the caller's clock.
            keep_s: how long; 0 for the store's own time.

        Raises:
            QueryError: STATE_BUDGET with what is used; INVALID_REQUEST for a bad owner or time.
        """
        expires_s = now_s + self._time(keep_s)
        if len(owner) > OWNER_CHARACTERS:
            raise QueryError(
                QueryCode.INVALID_REQUEST,
                f'owner of {len(owner)} characters: at most {OWNER_CHARACTERS}',
            )
        start = replace(start, memory=_own(start.memory), latched_A=_own_array(start.latched_A))
        memory, latched_A = start.memory, start.latched_A
        nbytes = memory.nbytes + (0 if latched_A is None else latched_A.nbytes)
        with self._lock:
            self._expire(now_s)
            if self._nbytes + nbytes > self.budget_bytes:
                raise QueryError(
                    QueryCode.STATE_BUDGET,
                    f'{len(self._kept)} states hold {self._nbytes} of {self.budget_bytes} bytes, '
                    f'this one needs {nbytes}: drop some, or let them expire',
                )
            handle = Handle(
                id=self._next_id,
                owner=owner,
                frames=memory.frames,
                stamp_ns=memory.stamp_ns,
                imagined=start.imagined,
                latched=latched_A is not None,
                created_s=now_s,
                expires_s=expires_s,
                nbytes=nbytes,
            )
            self._next_id += 1
            self._kept[handle.id] = (handle, replace(start, handle=handle.id))
            self._nbytes += nbytes
        return handle

    def get(self, id: int, now_s: float) -> Start:
        """Return a kept state, to start a query from.

        Raises:
            QueryError: UNKNOWN_STATE, or EXPIRED_STATE where it is known that it once was.
        """
        return self._find(id, now_s)[1]

    def handle(self, id: int, now_s: float) -> Handle:
        """Return what is told about a kept state; refuses as `get` does."""
        return self._find(id, now_s)[0]

    def fork(self, id: int, owner: str, now_s: float, keep_s: float = 0.0) -> Handle:
        """Give a kept state a second handle with an owner and an expiry of its own.

        Raises:
            QueryError: as `get` and `keep`.
        """
        return self.keep(self.get(id, now_s), owner, now_s, keep_s)

    def extend(self, id: int, now_s: float, keep_s: float = 0.0) -> Handle:
        """Keep a state for `keep_s` more, counted from now; refuses as `get` does."""
        expires_s = now_s + self._time(keep_s)
        with self._lock:
            self._expire(now_s)
            handle, start = self._entry(id)
            handle = replace(handle, expires_s=expires_s)
            self._kept[id] = (handle, start)
        return handle

    def list(self, now_s: float, owner: str = '') -> tuple[Handle, ...]:
        """Return the handles of an owner, or with '' all of them, oldest first."""
        with self._lock:
            self._expire(now_s)
            handles = [handle for handle, _ in self._kept.values()]
        return tuple([handle for handle in handles if owner in ('', handle.owner)])

    def drop(self, id: int, now_s: float) -> Handle:
        """Forget a state and return what its handle was; refuses as `get` does."""
        with self._lock:
            self._expire(now_s)
            handle, _ = self._entry(id)
            self._remove(id)
        return handle

    def drop_owner(self, owner: str) -> int:
        """Forget all states of an owner and return how many they were."""
        with self._lock:
            ids = [id for id, (handle, _) in self._kept.items() if handle.owner == owner]
            for id in ids:
                self._remove(id)
        return len(ids)

    def clear(self) -> int:
        """Forget all states and return how many they were."""
        with self._lock:
            count = len(self._kept)
            self._kept.clear()
            self._nbytes = 0
        return count

    def expire(self, now_s: float) -> tuple[int, ...]:
        """Drop what has expired by now and return the ids."""
        with self._lock:
            return self._expire(now_s)

    def _expire(self, now_s: float) -> tuple[int, ...]:
        ids = [id for id, (handle, _) in self._kept.items() if handle.expires_s <= now_s]
        for id in ids:
            self._remove(id)
            self._expired.append(id)
        return tuple(ids)

    def _remove(self, id: int) -> None:
        handle, _ = self._kept.pop(id)
        self._nbytes -= handle.nbytes

    def _find(self, id: int, now_s: float) -> tuple[Handle, Start]:
        with self._lock:
            self._expire(now_s)
            return self._entry(id)

    def _entry(self, id: int) -> tuple[Handle, Start]:
        if id in self._kept:
            return self._kept[id]
        if id in self._expired:
            raise QueryError(QueryCode.EXPIRED_STATE, f'state {id} has expired')
        raise QueryError(
            QueryCode.UNKNOWN_STATE, f'no state {id}: never kept, dropped, or expired long ago'
        )

    def _time(self, keep_s: float) -> float:
        if not math.isfinite(keep_s) or not 0 <= keep_s <= LONGEST_KEEP_S:
            raise QueryError(
                QueryCode.INVALID_REQUEST,
                f'keep for {keep_s} s: expected 0 (the default) to {LONGEST_KEEP_S:g} s',
            )
        return keep_s or self._keep_s


def _own(memory: MemoryState) -> MemoryState:
    """The memory in arrays of its own: a view would keep alive all that it is a part of."""
    if memory.batch != 1:
        raise ValueError(f'a kept state is a memory of batch 1, found {memory.batch}')
    if all(array.base is None for array in memory.arrays.values()):
        return memory
    arrays = freeze({name: array.copy() for name, array in memory.arrays.items()})
    return MemoryState(arrays, memory.frames, memory.stamp_ns)


def _own_array(latched_A: FloatArray | None) -> FloatArray | None:
    if latched_A is None:
        return None
    own_A = np.array(latched_A, np.float32)
    own_A.flags.writeable = False
    return own_A
