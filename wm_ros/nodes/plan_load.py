"""Planner queries beside the camera's stream, on the real clock: how many candidate steps a second
the node answers, and what that does to the stream.

Four processes: simulator at 25 Hz, world model, a recorder that logs when predictions arrive, and
this one, which asks as fast as it is answered.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rich.console import Console

from wm_ros import memory as memories
from wm_ros.config import PREDICTION_TOPIC
from wm_ros.contract import StreamContract
from wm_ros.model_package import ModelPackage
from wm_ros.nodes.logs import read_log
from wm_ros.nodes.measure import read_latencies
from wm_ros.nodes.objective_terms import goal_image
from wm_ros.nodes.planner_client import WorldModelClient
from wm_ros.nodes.processes import NodeProcess, private_domain
from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.sim.config import SimConfig
from wm_ros.sim.scene import TableTop
from wm_ros.sim.world import RATE_HZ

K, T = 64, 16
GRID = tuple((k, t) for k in (8, 64, 256) for t in (8, 16))
GRID_S = 3.0
START_S = 60.0
FORKS = 200


def measure(out: Path, package: str, seconds: float, console: Console) -> dict[str, Any]:
    """Return `candidate_steps_per_s`, `stream_latency_ms`, `fork64_ms` and the grid.

    Args:
        out: folder for logs.
        package: directory.
        seconds: of the part whose stream is measured.
        console: told what is measured.
    """
    folder = out / 'load'
    folder.mkdir(parents=True, exist_ok=True)
    for name in ('publish.csv', 'receive.csv'):
        (folder / name).unlink(missing_ok=True)
    loaded = ModelPackage.load(package)
    with TableTop(SimConfig(image_size=loaded.model.image_size)) as table:
        goal_HWC = table.render()
    grid_s = GRID_S * len(GRID)
    frames = round((seconds + grid_s + 30.0) * RATE_HZ)
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
        node = Node('load')
        try:
            client = WorldModelClient(node, timeout_s=START_S)
            asker = Asker(client, loaded.manifest.contract, goal_HWC)
            asker.wait_until_seen()
            console.print('queries beside the stream ...', highlight=False)
            begun_ns = time.monotonic_ns()
            beside = asker.ask(K, T, seconds)
            ended_ns = time.monotonic_ns()
            grid = {f'K{k}_T{t}': asker.ask(k, t, GRID_S) for k, t in GRID}
            client.close()
        finally:
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
    return {
        'candidate_steps_per_s': beside['candidate_steps_per_s'],
        'stream_latency_ms': percentiles(latencies.total_ms[inside]),
        'stream_frames': {'sent': int(sent), 'predicted': int(inside.sum())},
        'query_ms': beside['query_ms'],
        'fork64_ms': fork_ms(loaded),
        'queries_by_size': grid,
    }


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

    def ask(self, k: int, t: int, seconds: float) -> dict[str, Any]:
        """Ask for a while; return candidate steps a second, request to answer included."""
        took_ms = []
        begun_s = time.monotonic()
        while (now_s := time.monotonic()) < begun_s + seconds:
            self._client.evaluate(self.candidates(k, t), [self._goal], draws=1)
            took_ms.append(1e3 * (time.monotonic() - now_s))
        elapsed_s = time.monotonic() - begun_s
        return {
            'candidate_steps_per_s': len(took_ms) * k * t / elapsed_s,
            'query_ms': percentiles(np.array(took_ms)),
            'queries': len(took_ms),
        }


def fork_ms(package: ModelPackage) -> float:
    """Return the median time of a fork of 64 of this package's memory, ms."""
    memory = memories.initial(package.memory_specs)
    took = []
    for _ in range(FORKS):
        begun = time.perf_counter()
        memories.fork(memory, K)
        took.append(1e3 * (time.perf_counter() - begun))
    return float(np.median(took))


def percentiles(times_ms: Any) -> dict[str, float]:
    """Return median and 99th percentile."""
    p50, p99 = np.percentile(times_ms, (50, 99))
    return {'p50': round(float(p50), 3), 'p99': round(float(p99), 3)}
