"""What stamps and values may not be: each check returns the refusal, or None where all is well."""

from __future__ import annotations

import numpy as np

from wm_ros.messages import Command
from wm_ros.rejection import Rejection, RejectReason
from wm_ros.sources import ActionSource

FASTEST = 1e9  # m/s and rad/s: beyond every machine, far below what overflows once integrated


def refused_values(source: ActionSource, command: Command) -> Rejection | None:
    """Check the values of one command.

    Raises:
        ValueError: wrong number of values (a caller's mistake; messages are checked on reading).
    """
    values_E, width = command.values_E, 6 if source.integrate else len(source.entries)
    if values_E.shape != (width,):
        raise ValueError(
            f'{source.topic}: command of shape {values_E.shape}, expected {width} values'
        )
    found = f'{source.topic}: {values_E.tolist()}'
    if not np.isfinite(values_E).all():
        return Rejection('action', RejectReason.NOT_FINITE, command.stamp_ns, found)
    if source.integrate and np.abs(values_E).max() > FASTEST:
        return Rejection(
            'action',
            RejectReason.TOO_FAST,
            command.stamp_ns,
            f'{found}, expected at most {FASTEST:g}',
        )
    return None


def refused_command_stamp(
    source: ActionSource, stamp_ns: int, receive_ns: int | None, gap_ns: int
) -> Rejection | None:
    """Check the stamp of a message's first command; `receive_ns` None trusts it."""
    if stamp_ns <= 0:
        reason, detail = RejectReason.ZERO_STAMP, f'stamp {stamp_ns} ns, expected above 0'
    elif receive_ns is not None and stamp_ns > receive_ns + gap_ns:
        reason, detail = RejectReason.FUTURE_STAMP, f'{(stamp_ns - receive_ns) / 1e9:.3f} s ahead'
    else:
        return None
    return Rejection('action', reason, stamp_ns, f'{source.topic}: {detail}')


def refused_frame_stamp(stamp_ns: int, receive_ns: int, gap_ns: int) -> Rejection | None:
    """Check the stamp of a frame against its time of receipt."""
    if stamp_ns <= 0:
        reason, detail = RejectReason.ZERO_STAMP, f'stamp {stamp_ns} ns, expected above 0'
    elif stamp_ns > receive_ns + gap_ns:
        ahead_s = (stamp_ns - receive_ns) / 1e9
        reason, detail = RejectReason.FUTURE_STAMP, f'{ahead_s:.3f} s ahead of its receipt'
    else:
        return None
    return Rejection('frame', reason, stamp_ns, detail)


def refused_order(stamp_ns: int, newest_ns: int, period_ns: int) -> Rejection:
    """Say what is wrong with a frame that follows the newest too closely, or precedes it."""
    late_ms = (newest_ns - stamp_ns) / 1e6
    if stamp_ns == newest_ns:
        reason, detail = RejectReason.DUPLICATE_STAMP, f'stamp {stamp_ns} ns again'
    elif stamp_ns < newest_ns:
        reason, detail = RejectReason.BACKWARD_STAMP, f'{late_ms:.3f} ms backwards'
    else:
        reason = RejectReason.TOO_SOON
        detail = f'{-late_ms:.3f} ms after the last, expected about {period_ns / 1e6:.3f} ms'
    return Rejection('frame', reason, stamp_ns, detail)
