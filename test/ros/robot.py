"""A robot for tests: a node in this process that sends frames and commands, keeps what comes back.

Also starts and stops other nodes as real processes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from wm_ros_msgs.msg import Action, MemoryStatus, ModelInfo, Prediction

from wm_ros.config import CAMERA_TOPIC, COMMAND_TOPIC
from wm_ros.messages import stamp_to_ns
from wm_ros.nodes import convert
from wm_ros.nodes.table import CAMERA_INFO_TOPIC, PROCESSES

PERIOD_NS = 40_000_000
WIDTH = 11
LONG_S = 30.0
MATCH_S, LOST_S = 0.3, 10.0
PAST_NS = 600 * 10**9


class Child:
    """A node of the table as a process of its own, its output kept for failures."""

    def __init__(
        self, name: str, log: Path, remaps: tuple[tuple[str, str], ...] = (), **parameters: Any
    ) -> None:
        self.log = log
        command = PROCESSES[name].command(sys.executable, parameters, remaps)
        with log.open('w') as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)

    def stop(self, number: int = signal.SIGINT, timeout_s: float = 10.0) -> int:
        """Send a signal, wait, return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f'did not stop:\n{self.log.read_text()}') from None

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if error is not None:
            print(f'--- output of the node\n{self.log.read_text()}')


class Robot:
    """Publishes camera frames and commands, collects what a world model node publishes."""

    def __init__(
        self,
        name: str = 'robot',
        command_type: Any = Action,
        camera_type: Any = Image,
        command_qos: QoSProfile | None = None,
        publishes: bool = True,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        self.context = Context()
        rclpy.init(context=self.context)
        overrides = [Parameter(key, value=value) for key, value in (parameters or {}).items()]
        self.node = rclpy.create_node(name, context=self.context, parameter_overrides=overrides)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        deep = QoSProfile(depth=100)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        if publishes:
            self.camera = self.node.create_publisher(camera_type, CAMERA_TOPIC, deep)
            self.camera_info = self.node.create_publisher(CameraInfo, CAMERA_INFO_TOPIC, deep)
            self.command = self.node.create_publisher(
                command_type, COMMAND_TOPIC, command_qos or deep
            )
        self.clients: dict[str, Any] = {}
        self.got: dict[str, list[Any]] = {}
        for topic, kind, qos in (
            ('prediction', Prediction, deep),
            ('predicted/image', Image, deep),
            ('predicted/camera_info', CameraInfo, deep),
            ('memory_status', MemoryStatus, deep),
            ('model_info', ModelInfo, latched),
        ):
            self.got[topic] = []
            self.node.create_subscription(
                kind, f'/world_model/{topic}', self.got[topic].append, qos
            )
        self.got['diagnostics'] = []
        self.node.create_subscription(
            DiagnosticArray, '/diagnostics', self.got['diagnostics'].append, deep
        )
        self.stamp_ns = 0

    def now_ns(self) -> int:
        """The system clock, as nodes read it."""
        return time.time_ns()

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = LONG_S) -> Any:
        """Spin until the condition holds; fail after the time."""
        end_s = time.monotonic() + timeout_s
        while not (value := condition()):
            assert time.monotonic() < end_s, f'{what}: did not happen in {timeout_s} s'
            self.executor.spin_once(timeout_sec=0.02)
        return value

    def spin(self, seconds: float) -> None:
        """Spin for a while."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.executor.spin_once(timeout_sec=0.02)

    def wait_matched(self) -> None:
        """Wait until a node listens to camera and commands, and its outputs reach us."""
        self.until(
            lambda: (
                self.camera.get_subscription_count()
                and self.command.get_subscription_count()
                and self.node.count_publishers('/world_model/prediction')
            ),
            'the node listens',
        )
        self.until(lambda: self.got['model_info'], 'model info arrives')
        self.stamp_ns = self.now_ns() - PAST_NS

    def send_command(self, stamp_ns: int, values: Any = None) -> None:
        """Publish a command of the table-top contract."""
        values_A = np.full(WIDTH, 0.1, np.float32) if values is None else values
        self.command.publish(
            Action(header=convert.header(stamp_ns, ''), values=convert.float_array(values_A))
        )

    def send_frame(self, stamp_ns: int, image_HWC: Any = None) -> None:
        """Publish a picture: the given one, else a grey one whose shade follows the stamp."""
        if image_HWC is None:
            image_HWC = np.full((64, 64, 3), stamp_ns // PERIOD_NS % 200, np.uint8)
        self.camera.publish(convert.image_message(image_HWC, convert.header(stamp_ns, 'cam')))

    def tick(self, image_HWC: Any = None, values: Any = None) -> int:
        """Send command and frame of the next instant at once; return its stamp.

        Stamps start in the past and advance by one period, however long a test takes.
        """
        self.stamp_ns += PERIOD_NS
        self.send_command(self.stamp_ns, values)
        self.send_frame(self.stamp_ns, image_HWC)
        return self.stamp_ns

    def step(self, image_HWC: Any = None, values: Any = None) -> Any:
        """Send one frame with its command and return the prediction made from it."""
        return self.predicted(self.tick(image_HWC, values))

    def first_step(self, image_HWC: Any = None) -> Any:
        """Return the prediction made from the first frame of a node that begins afresh.

        Where no command came before, a frame is refused whose own command comes later than it
        waits, and the two topics race: the command goes ahead here.
        """
        self.send_command(self.stamp_ns + PERIOD_NS)
        self.spin(0.5)
        return self.step(image_HWC)

    def predicted(self, source_stamp_ns: int, horizon: int = 1) -> Any:
        """Return the prediction made from a frame, once it has arrived."""

        def find() -> Any:
            return next(
                (
                    p
                    for p in self.got['prediction']
                    if p.horizon == horizon and stamp_to_ns(p.source_stamp) == source_stamp_ns
                ),
                None,
            )

        return self.until(find, f'prediction of horizon {horizon} from {source_stamp_ns}')

    def status(self, condition: Callable[[Any], Any], what: str) -> Any:
        """Return the first later MemoryStatus for which the condition holds."""
        self.got['memory_status'].clear()
        return self.until(
            lambda: next((s for s in self.got['memory_status'] if condition(s)), None), what
        )

    def diagnosed(self, condition: Callable[[Mapping[str, str]], Any]) -> Mapping[str, str]:
        """Return the values of the first later diagnostics for which the condition holds."""
        self.got['diagnostics'].clear()

        def find() -> Any:
            found = [
                {item.key: item.value for item in message.status[0].values}
                | {'message': message.status[0].message}
                for message in self.got['diagnostics']
            ]
            return next((values for values in found if condition(values)), None)

        return self.until(find, 'such diagnostics')

    def call(self, kind: Any, service: str, **fields: Any) -> Any:
        """Call a service and return its response.

        A server that has not yet found the client's own reader drops its answer ("client will not
        receive response", 3 of 60 first calls on a loaded machine); a client cannot see that. So
        a client is kept, its first call waits a little, and a call that is lost all the same is
        made once more.
        """
        if service not in self.clients:
            self.clients[service] = self.node.create_client(kind, service)
            self.until(self.clients[service].service_is_ready, f'{service} is there')
            self.spin(MATCH_S)
        client = self.clients[service]
        self.until(client.service_is_ready, f'{service} is there')
        future = client.call_async(kind.Request(**fields))
        try:
            self.until(future.done, 'first answer', LOST_S)
        except AssertionError:
            future = client.call_async(kind.Request(**fields))
        self.until(future.done, f'{service} answers')
        return future.result()

    def close(self) -> None:
        """Destroy the node and its context."""
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def __enter__(self) -> Robot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def rejected(status: Any) -> Mapping[str, int]:
    """Return the counts of a MemoryStatus by name."""
    return dict(zip(status.rejected_names, status.rejected_counts, strict=True))


def process_is_alive(pid: int) -> bool:
    """Whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
