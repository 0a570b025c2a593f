"""`world_model_node`: camera and command topics in, remembered and predicted frames out.

A managed node. configure: everything that can refuse (see loading.py). activate: subscribe, and
one inference thread takes what the callbacks leave in the inbox. A callback converts, puts and
returns.

Stamps decide what belongs together; the node's clock is only used to refuse stamps from the future
and to stamp what has none. So the node works the same with `use_sim_time`, and a clock that jumps
shows up as stamps that jump, which the contract's reset policy handles. Quality of service: sensor
data for the camera (best effort, newest 5), reliable for commands and outputs; each can be changed
by the standard parameters `qos_overrides.<topic>.<subscription|publisher>.<policy>`.
"""

from __future__ import annotations

import time
import traceback
from functools import partial
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Empty

from wm_ros.config import RuntimeConfig
from wm_ros.datatypes import ResetReason
from wm_ros.messages import commands_from_message, frame_from_message
from wm_ros.nodes import convert, params, spin
from wm_ros.nodes.inbox import ArrivedCommands, ArrivedFrame, Inbox, Refusal, Restart
from wm_ros.nodes.loading import REFUSALS, Loaded, load
from wm_ros.nodes.outputs import OVERRIDES, RELIABLE, Outputs
from wm_ros.nodes.services import MemoryServices
from wm_ros.nodes.session import Outcome, Session
from wm_ros.nodes.statistics import Statistics
from wm_ros.nodes.worker import Worker
from wm_ros.rejection import RejectedInput, Rejection
from wm_ros.sources import ActionSource

DONE, REFUSED = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class WorldModelNode(LifecycleNode):
    """See the module text."""

    def __init__(self) -> None:
        super().__init__('world_model')
        params.declare(self, RuntimeConfig)
        self.add_on_set_parameters_callback(self.refuse_late_changes)
        self.loaded: Loaded | None = None
        self.outputs: Outputs | None = None
        self.session: Session | None = None
        self.worker: Worker | None = None
        self.inbox = Inbox()
        self.inputs: list[Any] = []

    # --- lifecycle ---

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load, check and warm up the model; make publishers and services."""
        try:
            self.config = params.read(self, RuntimeConfig)
            self.loaded = load(self.config)
        except REFUSALS as error:
            self.get_logger().fatal(f'cannot configure: {error}')
            return REFUSED
        except Exception:
            self.get_logger().fatal(f'cannot configure:\n{traceback.format_exc()}')
            raise
        model = self.loaded.model
        self.get_logger().info(
            f'package {model.package.name} ({model.package.model.arm}) on {model.backend.name} '
            f'{model.backend.precision}: {model.backend.reason}; {self.loaded.parity}'
        )
        self.outputs = Outputs(self, self.loaded, self.config)
        with_reset = self.loaded.contract.reset.service
        self.memory_services = MemoryServices(self, model.package, with_reset)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        period_s = self.config.status_period_s
        self.status_timer = self.create_timer(period_s, self.publish_status, clock=steady)
        return DONE

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start with an empty memory: start the inference thread, then subscribe."""
        if self.loaded is None or self.outputs is None:
            return REFUSED
        contract = self.loaded.contract
        self.inbox = Inbox()
        self.session = Session(
            self.loaded.model,
            contract,
            horizon=self.config.horizon,
            seed=self.config.seed,
            statistics=Statistics(self.config.drift_frames, contract.period_ns),
            on_rejection=self.log_rejection,
        )
        self.worker = Worker(self.session, self.inbox, self.publish_outcome, self.log_error)
        super().on_activate(state)
        self.outputs.publish_model()
        self.memory_services.open(self.session, self.inbox)
        self.worker.start()
        camera, sensor = contract.camera, qos_profile_sensor_data
        info_topic = convert.info_topic(camera.topic)
        self.listen(camera.type, camera.topic, self.receive_camera, sensor)
        self.listen('sensor_msgs/msg/CameraInfo', info_topic, self.receive_info, sensor)
        for index, source in enumerate(contract.actions):
            receive = partial(self.receive_action, index, source)
            self.listen(source.type, source.topic, receive, RELIABLE)
        if contract.reset.topic is not None:
            self.listen('std_msgs/msg/Empty', contract.reset.topic, self.receive_reset, RELIABLE)
        return DONE

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening and predicting; the model stays loaded, the memory is given up."""
        self.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give the model back."""
        self.unload()
        return DONE

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and give everything back."""
        self.stop()
        self.unload()
        return DONE

    def stop(self) -> None:
        """End the subscriptions and the inference thread."""
        for subscription in self.inputs:
            self.destroy_subscription(subscription)
        self.inputs = []
        if self.worker is not None:
            self.memory_services.close()
            self.worker.stop()
            self.worker = self.session = None

    def unload(self) -> None:
        """Take publishers, services and timer off the node and drop the model."""
        if self.outputs is not None:
            self.destroy_timer(self.status_timer)
            self.memory_services.destroy()
            self.outputs.destroy()
            self.loaded = self.outputs = None

    def destroy_node(self) -> None:
        """Stop, then destroy the node."""
        self.stop()
        super().destroy_node()

    def refuse_late_changes(self, parameters: list[Parameter]) -> SetParametersResult:
        """Parameters are read at configure: refuse changes that would do nothing."""
        names = ', '.join(params.changed(parameters, RuntimeConfig))
        if self.loaded is not None and names:
            reason = f'{names}: read at configure; clean up the node first'
            return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    # --- messages in ---

    def listen(self, type_name: str, topic: str, callback: Any, qos: QoSProfile) -> None:
        """Subscribe for as long as the node is active."""
        kind = convert.message_class(type_name)
        self.inputs.append(
            self.create_subscription(kind, topic, callback, qos, qos_overriding_options=OVERRIDES)
        )

    def receive_camera(self, message: Any) -> None:
        """Convert a camera message and leave its frame in the slot."""
        arrived_ns = time.monotonic_ns()
        if self.session is None or self.loaded is None or self.outputs is None:
            return
        self.session.statistics.camera_monotonic_ns = arrived_ns
        try:
            frame = frame_from_message(self.loaded.contract, message)
        except RejectedInput as error:
            stamp_ns = convert.stamp_to_ns(message.header.stamp)
            self.inbox.put_refusal(Refusal('frame', error, stamp_ns))
            return
        self.outputs.frame_id = frame.frame_id
        now_ns = self.get_clock().now().nanoseconds
        self.inbox.put_frame(ArrivedFrame(frame, now_ns, arrived_ns))

    def receive_action(self, index: int, source: ActionSource, message: Any) -> None:
        """Convert a command and leave it in the queue."""
        if self.session is None:
            return
        self.session.statistics.action_monotonic_ns = time.monotonic_ns()
        now_ns = self.get_clock().now().nanoseconds
        try:
            commands = commands_from_message(source, message, now_ns)
        except RejectedInput as error:
            self.inbox.put_refusal(Refusal('action', error, now_ns))
            return
        self.inbox.put_commands(ArrivedCommands(index, commands, now_ns))

    def receive_info(self, message: CameraInfo) -> None:
        """Keep the camera's intrinsics; ones without a size cannot be cropped."""
        if self.outputs is not None and message.width and message.height:
            self.outputs.source_info = message

    def receive_reset(self, _: Empty) -> None:
        """Start the memory afresh."""
        self.inbox.put_restart(Restart(ResetReason.TOPIC))

    # --- messages out ---

    def publish_outcome(self, outcome: Outcome) -> None:
        """Publish predictions; called in the inference thread."""
        if self.outputs is not None and self.session is not None:
            self.outputs.publish_outcome(self.session, outcome)
            if outcome.index == 0:
                self.publish_status()

    def publish_status(self) -> None:
        """Publish memory status and diagnostics while active."""
        if self.outputs is not None and self.session is not None:
            self.outputs.publish_status(self.session, self.inbox)

    def log_rejection(self, rejection: Rejection) -> None:
        """Say what was refused, at most once a second."""
        self.get_logger().warning(
            f'{rejection.kind} refused ({rejection.reason}): {rejection.detail}',
            throttle_duration_sec=1.0,
        )

    def log_error(self, text: str) -> None:
        """Report an exception of the inference thread; it goes on."""
        if self.session is not None:
            self.session.statistics.note = text.strip().splitlines()[-1]
        self.get_logger().error(f'inference failed:\n{text}', throttle_duration_sec=1.0)


def build() -> WorldModelNode:
    """Make the node and, with `autostart`, bring it up.

    Raises:
        ValueError: autostart was asked for and a transition failed.
    """
    node = WorldModelNode()
    if node.get_parameter('autostart').value:
        for trigger in (node.trigger_configure, node.trigger_activate):
            if trigger() != DONE:
                node.destroy_node()
                raise ValueError('autostart failed, see above')
    return node


def main() -> int:
    """Run the node until SIGINT or SIGTERM."""
    return spin.run(build)


if __name__ == '__main__':
    raise SystemExit(main())
