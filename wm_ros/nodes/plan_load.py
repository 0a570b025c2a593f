"""Planner queries beside the camera's stream, on the real clock: how many candidate steps a second
the node answers, what that does to the stream, and how long a fork of the live memory takes then.

Four processes: simulator at 25 Hz, world model, a recorder that logs when predictions arrive, and
this one, which asks as fast as it is answered. Forks are taken here, while the others are busy, of
the memory that the world model is asked to save in the middle of its session: inside, it copies
the same arrays, sub-batch by sub-batch (`planning.rollouts`), where nobody can time the 64 alone.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from wm_ros_msgs.srv import SaveMemory

from wm_ros import memory as memories
from wm_ros.config import PREDICTION_TOPIC
from wm_ros.contract import StreamContract
from wm_ros.datatypes import MemoryState
from wm_ros.evaluation.plan_results import LEAST_FOR_P99, times
from wm_ros.model_package import ModelPackage
from wm_ros.nodes.logs import read_log
from wm_ros.nodes.measure import read_latencies
from wm_ros.nodes.objective_terms import goal_image
from wm_ros.nodes.planner_client import WorldModelClient
from wm_ros.nodes.processes import NodeProcess, ProcessFailed, private_domain
from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.sim.config import SimConfig
from wm_ros.sim.scene import TableTop
from wm_ros.sim.world import RATE_HZ

K, T = 64, 16
Sizes = Sequence[tuple[int, int]]
GRID: Sizes = tuple((k, t) for k in (8, 64, 256) for t in (8, 16) if (k, t) != (K, T))
LONGER = 2.5  # times the length asked for, until there are answers enough for a p99
GRID_SHARE = 1.25  # of the length asked for, longest time for a cell of the grid
START_S = 60.0
SPARE_S = 30.0
FORKS = 200
FORK_EVERY_S = 0.05
MEMORY_FILE = 'memory.wm'


def measure(
    out: Path, package: str, seconds: float, console: Console, grid: Sizes = GRID
) -> dict[str, Any]:
    """Return `candidate_steps_per_s`, `stream_latency_ms`, `fork64_ms` (median) and the grid.

    Args:
        out: folder for logs.
        package: directory.
        seconds: of the part whose stream is measured, longer where that gives too few answers.
        console: told what is measured.
        grid: K and T of further queries, each for a while.
    """
    started_s, folder = time.monotonic(), out / 'load'
    folder.mkdir(parents=True, exist_ok=True)
    for name in ('publish.csv', 'receive.csv', MEMORY_FILE):
        (folder / name).unlink(missing_ok=True)
    loaded = ModelPackage.load(package)
    with TableTop(SimConfig(image_size=loaded.model.image_size)) as table:
        goal_HWC = table.render()
    longest_s = seconds * (LONGER + 2 * GRID_SHARE * len(grid)) + SPARE_S
    frames = round(longest_s * RATE_HZ)
    shutil.rmtree(folder / 'bag', ignore_errors=True)
    with private_domain() as environment, ExitStack() as stack:
        os.environ.update(environment)
        nodes = {
            name: stack.enter_context(
                NodeProcess(name, folder / f'{name}.log', environment, given)
            )
            for name, given in (
                ('world_model', {'package': package, 'query_draws': 1}),
                (
                    'recorder',
                    {
                        'out': str(folder / 'bag'),
                        'receive_log': str(folder / 'receive.csv'),
                        'topics': (PREDICTION_TOPIC,),
                        'wait_for_all': True,
                    },
                ),
                (
                    'sim',
                    {
                        'kind': 'push',
                        'frames': frames,
                        'wait_subscribers': 1,
                        'publish_log': str(folder / 'publish.csv'),
                    },
                ),
            )
        }
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        node, client = Node('load'), None
        try:
            client = WorldModelClient(node, timeout_s=START_S)
            asker = Asker(client, loaded.manifest.contract, goal_HWC)
            asker.wait_until_seen()
            console.print('queries beside the stream ...', highlight=False)
            memory = saved_memory(node, loaded, folder / MEMORY_FILE)
            begun_ns = time.monotonic_ns()
            with ForkTimer(memory) as forks:
                beside = asker.ask(K, T, seconds, LONGER * seconds)
            ended_ns = time.monotonic_ns()
            took_ms = unit_ms(node)
            cap_s = GRID_SHARE * seconds
            sizes = {size(k, t): asker.ask(k, t, 0.0, cap_s) for k, t in grid}
        finally:
            if client is not None:
                client.close()
            node.destroy_node()
            rclpy.try_shutdown()
            for process in nodes.values():
                process.check()
        for name in ('sim', 'recorder', 'world_model'):
            nodes[name].stop()
    latencies = read_latencies(folder / 'publish.csv', folder / 'receive.csv')
    inside = (latencies.received_ns > begun_ns) & (latencies.received_ns < ended_ns)
    sent = sum(
        begun_ns < row['monotonic_ns'] < ended_ns for row in read_log(folder / 'publish.csv')
    )
    answered_ms = latencies.total_ms[inside]
    p50, p99 = np.percentile(answered_ms, (50, 99)) if len(answered_ms) else (0.0, 0.0)
    return {
        'candidate_steps_per_s': beside['candidate_steps_per_s'],
        'stream_latency_ms': {'p50': round(float(p50), 3), 'p99': round(float(p99), 3)},
        'stream_frames': {'sent': int(sent), 'predicted': len(answered_ms)},
        'query_ms': beside['query_ms'],
        'fork64_ms': forks.times()['p50'],
        'fork64': {**forks.times(), 'forks': len(forks.took_ms), 'frames': memory.frames},
        'unit_ms': took_ms,
        'queries_by_size': {size(K, T): beside, **sizes},
        'load_s': round(time.monotonic() - started_s, 1),
    }


def unit_ms(node: Node) -> float:
    """Return the median time of a sub-batch in the world model, from its diagnostics.

    Raises:
        TimeoutError: it does not say.
    """
    told: list[float] = []

    def hear(message: DiagnosticArray) -> None:
        values = [value for status in message.status for value in status.values]
        told.extend(float(value.value) for value in values if value.key == 'query_unit_ms')

    diagnostics = node.create_subscription(DiagnosticArray, '/diagnostics', hear, 10)
    end_s = time.monotonic() + START_S
    while not told:
        if time.monotonic() > end_s:
            raise TimeoutError(f'no query_unit_ms on /diagnostics within {START_S:g} s')
        rclpy.spin_once(node, timeout_sec=0.1)
    node.destroy_subscription(diagnostics)
    return told[0]


def size(k: int, t: int) -> str:
    """Return the name of a cell of the grid."""
    return f'K{k}_T{t}'


def saved_memory(node: Node, package: ModelPackage, path: Path) -> MemoryState:
    """Have the world model save its live memory, and load it.

    Raises:
        ProcessFailed: it does not.
    """
    client = node.create_client(SaveMemory, '/world_model/save_memory')
    if not client.wait_for_service(START_S):
        raise ProcessFailed(f'no save_memory service for {START_S:g} s')
    asked = client.call_async(SaveMemory.Request(path=str(path)))
    rclpy.spin_until_future_complete(node, asked, timeout_sec=START_S)
    answer = asked.result()
    if answer is None or not answer.success:
        raise ProcessFailed(f'save_memory: {answer.message if answer else "no answer"}')
    return memories.load(path, package)


class ForkTimer:
    """Times forks of 64 in a thread of its own, one every now and then, until it is left."""

    def __init__(self, memory: MemoryState) -> None:
        self.took_ms: list[float] = []
        self._memory = memory
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def times(self) -> dict[str, float]:
        """Return median and 99th percentile, ms; see `plan_results.times`."""
        return times(self.took_ms)

    def __enter__(self) -> ForkTimer:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while len(self.took_ms) < FORKS:
            begun = time.perf_counter()
            memories.fork(self._memory, K)
            self.took_ms.append(1e3 * (time.perf_counter() - begun))
            if self._done.wait(FORK_EVERY_S):
                return


class Asker:
    """Asks for candidates that move at random, as fast as it is answered."""

    def __init__(self, client: WorldModelClient, contract: StreamContract, goal_HWC: Any) -> None:
        self._client, self._goal = client, goal_image([goal_HWC])
        self._limits_A2 = np.asarray(contract.limits_A2, np.float64)
        self._rng = np.random.default_rng(0)

    def candidates(self, k: int, t: int) -> Any:
        """Return commands within the limits, float32 [K, T, A]."""
        low_A, high_A = self._limits_A2.T
        return self._rng.uniform(low_A, high_A, (k, t, len(low_A))).astype(np.float32)

    def wait_until_seen(self) -> None:
        """Wait until the world model has observed frames for a second."""
        end_s = time.monotonic() + START_S
        while time.monotonic() < end_s:
            try:
                if self._client.evaluate(self.candidates(2, 2), [self._goal]).state_frames > 25:
                    return
            except QueryError as error:
                if error.code not in (QueryCode.NOTHING_OBSERVED, QueryCode.NOT_ACTIVE):
                    raise
            time.sleep(0.2)
        raise TimeoutError(f'the world model has seen nothing for {START_S:g} s')

    def ask(self, k: int, t: int, least_s: float, most_s: float) -> dict[str, Any]:
        """Ask for a while; return candidate steps a second, request to answer included.

        Args:
            k, t: size of every query.
            least_s: how long at least.
            most_s: no query begins later, however few were answered; before that, there are to be
                as many as a 99th percentile needs.
        """
        took_ms = list[float]()
        begun_s = now_s = time.monotonic()
        while now_s < begun_s + most_s:
            self._client.evaluate(self.candidates(k, t), [self._goal], draws=1)
            before_s, now_s = now_s, time.monotonic()
            took_ms.append(1e3 * (now_s - before_s))
            if now_s >= begun_s + least_s and len(took_ms) >= LEAST_FOR_P99:
                break
        return {
            'candidate_steps_per_s': len(took_ms) * k * t / (now_s - begun_s),
            'query_ms': times(took_ms),
            'queries': len(took_ms),
        }
