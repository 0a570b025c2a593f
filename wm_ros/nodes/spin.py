"""Run one node until it is done or told to stop.

SIGINT and SIGTERM only set a flag that the loop reads: rclpy's own handlers shut the context down
from a signal thread while the executor uses it, which now and then lost the signal or crashed the
process (2 of about 80 stops measured). An exception in a callback is logged; it does not end the
process.
"""

from __future__ import annotations

import gc
import signal
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import rclpy
from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.signals import SignalHandlerOptions

if TYPE_CHECKING:
    from rclpy.executors import Executor
    from rclpy.node import Node

LONGEST_WAIT_S = 0.2

AnyNode = TypeVar('AnyNode', bound='Node')


class StopFlag:
    """True once SIGINT or SIGTERM has come."""

    def __init__(self) -> None:
        self.is_set = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._set)

    def _set(self, *_: object) -> None:
        self.is_set = True


def run(
    build: Callable[[], AnyNode],
    step: Callable[[AnyNode], float | None] | None = None,
    args: list[str] | None = None,
    threads: int = 1,
) -> int:
    """Initialise rclpy, build a node, spin it, tear everything down.

    Args:
        build: makes the node after rclpy is up.
        step: called between events; returns the longest time to wait for the next event, in s, or
            None when the node is done.
        args: command line; None takes that of the process.
        threads: that run callbacks; more than 1 only for nodes whose callbacks wait for others.

    Returns:
        Exit status: 0 after a signal or when done, 1 when `build` raised ValueError or OSError.
    """
    stop = StopFlag()
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node: AnyNode | None = None
    executor: Executor | None = None
    try:
        try:
            node = build()
        except (ValueError, OSError) as error:
            get_logger('wm_ros').fatal(str(error))
            return 1
        executor = SingleThreadedExecutor() if threads == 1 else MultiThreadedExecutor(threads)
        executor.add_node(node)
        while not stop.is_set:
            wait_s = LONGEST_WAIT_S if step is None else step(node)
            if wait_s is None:
                break
            spin_once(executor, node, min(wait_s, LONGEST_WAIT_S))
        return 0
    finally:
        if (ask_to_stop := getattr(node, 'end_waiting', None)) is not None:
            ask_to_stop()  # callbacks that wait in threads of their own
        if executor is not None:
            executor.shutdown()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
        # What cycles still hold of the middleware goes now, in order: left to the interpreter's
        # end, leaving took 2 to 4 s in 8 of 100 stops beside load, and once more than 10 s.
        executor = node = None
        gc.collect()


def spin_once(executor: Executor, node: Node, timeout_s: float) -> None:
    """Handle one event; a callback that raises is logged, not fatal."""
    try:
        executor.spin_once(timeout_sec=timeout_s)
    except Exception:
        node.get_logger().error(f'a callback failed:\n{traceback.format_exc()}')
