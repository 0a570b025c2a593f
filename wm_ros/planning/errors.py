"""Why a query is refused: one code for programs, one sentence for people."""

from __future__ import annotations

import enum


class QueryCode(enum.IntEnum):
    """Error codes of queries, the same numbers as in the services (400 to 499)."""

    NONE = 0
    NOT_ACTIVE = 400
    NOTHING_OBSERVED = 401
    WRONG_DIMS = 402
    NOT_FINITE = 403
    OUT_OF_LIMITS = 404
    TOO_MANY_CANDIDATES = 405
    TOO_MANY_STEPS = 406
    TOO_MANY_ROWS = 407
    NO_OBJECTIVE = 408
    INVALID_OBJECTIVE = 409
    INVALID_GOAL = 410
    NO_REWARD_HEAD = 411
    UNKNOWN_STATE = 412
    EXPIRED_STATE = 413
    STATE_BUDGET = 414
    DEADLINE = 415
    BUSY = 416
    CANCELLED = 417
    MODEL_NOT_FINITE = 418
    INVALID_REQUEST = 419
    UNKNOWN = 499


class QueryError(Exception):
    """A query that is not answered.

    Attributes:
        code: why, for programs.
        message: what was found and what was expected.
        needed_ms: with `DEADLINE`, the time that the query would need; else 0.
    """

    def __init__(self, code: QueryCode, message: str, needed_ms: float = 0.0) -> None:
        super().__init__(f'{code.name}: {message}')
        self.code = code
        self.message = message
        self.needed_ms = needed_ms
