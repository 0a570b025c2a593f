"""Why an input was refused: one word that a node can count, one sentence that a person can read.

Nothing here stops a process: a bad message is dropped, counted and reported.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class RejectReason(enum.StrEnum):
    """Machine readable reason; the values are stable and appear in diagnostics."""

    ENCODING = 'encoding'
    SIZE = 'size'
    PADDING = 'padding'
    DECODE = 'decode'
    ZERO_STAMP = 'zero_stamp'
    BACKWARD_STAMP = 'backward_stamp'
    FUTURE_STAMP = 'future_stamp'
    DUPLICATE_STAMP = 'duplicate_stamp'
    TOO_SOON = 'too_soon'
    NO_ACTION = 'no_action'
    NO_VIEW = 'no_view'
    NOT_FINITE = 'not_finite'
    TOO_FAST = 'too_fast'
    WIDTH = 'width'
    MISSING_ENTRY = 'missing_entry'


@dataclass(frozen=True)
class Rejection:
    """One refused input.

    Attributes:
        kind: `frame`, `view` (of a further camera), `action` or `camera_info`.
        reason: why.
        stamp_ns: the stamp it carried.
        detail: what was found and what was expected.
    """

    kind: str
    reason: RejectReason
    stamp_ns: int
    detail: str


class RejectedInput(Exception):
    """A message that cannot become a frame or a command: `reason` to count, a text to read."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(f'{reason.value}: {detail}')
        self.reason = reason
        self.detail = detail
