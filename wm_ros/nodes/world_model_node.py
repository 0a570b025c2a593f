"""`world_model_node`: camera and command topics in, remembered and predicted frames out; planners
ask it about other futures (see queries.py).

A managed node. configure: everything that can refuse (see loading.py). activate: subscribe (see
inputs.py), and one inference thread takes what the callbacks leave in the inbox.

A transition that fails leaves nothing behind: no thread, no subscription, no publisher, no engine.

Stamps decide what belongs together; the node's clock is only used to refuse stamps from the future
and to stamp what has none. So the node works the same with `use_sim_time`, and a clock that jumps
shows up as stamps that jump, which the contract's reset policy handles. Quality of service: see
listening.py for what comes in; what goes out is reliable. History, depth and reliability of a
topic are set by `qos_overrides.<topic>.<subscription|publisher>.<policy>`, as everywhere in ROS 2.
"""

from __future__ import annotations

import traceback
from functools import partial
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from wm_ros.config import RuntimeConfig
from wm_ros.nodes import params, spin
from wm_ros.nodes.inbox import Inbox
from wm_ros.nodes.inputs import Inputs
from wm_ros.nodes.loading import REFUSALS, Loaded, load
from wm_ros.nodes.outputs import Outputs
from wm_ros.nodes.queries import QueryServer
from wm_ros.nodes.services import MemoryServices
from wm_ros.nodes.session import Outcome, Session
from wm_ros.nodes.statistics import Statistics
from wm_ros.nodes.worker import Worker
from wm_ros.rejection import Rejection

DONE, REFUSED = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class WorldModelNode(LifecycleNode):
    """See the module text."""

    def __init__(self) -> None:
        super().__init__('world_model')
        params.declare(self, RuntimeConfig)
        self.add_on_set_parameters_callback(self.refuse_late_changes)
        self.loaded: Loaded | None = None
        self.outputs: Outputs | None = None
        self.services_offered: MemoryServices | None = None
        self.queries: QueryServer | None = None
        self.status_timer: Any = None
        self.session: Session | None = None
        self.worker: Worker | None = None
        self.inputs: Inputs | None = None
        self.inbox = Inbox()

    # --- lifecycle ---

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load, check and warm up the model; make publishers and services."""
        try:
            self.prepare()
        except Exception as error:
            self.unload()
            return self.refused('configure', error)
        return DONE

    def prepare(self) -> None:
        """Do what `on_configure` says; raises whatever goes wrong."""
        self.config = params.read(self, RuntimeConfig)
        self.loaded = load(self.config)
        model = self.loaded.model
        self.get_logger().info(
            f'package {model.package.name} ({model.package.model.arm}) on {model.backend.name} '
            f'{model.backend.precision}: {model.backend.reason}; {self.loaded.parity}'
        )
        self.outputs = Outputs(self, self.loaded, self.config)
        self.outputs.create()
        with_reset = self.loaded.contract.reset.service
        self.services_offered = MemoryServices(self, model.package, with_reset)
        self.services_offered.create()
        self.queries = QueryServer(self, self.loaded, self.config, self.outputs)
        self.queries.create()
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        period_s = self.config.status_period_s
        self.status_timer = self.create_timer(period_s, self.publish_status, clock=steady)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start with an empty memory: start the inference thread, then subscribe."""
        try:
            super().on_activate(state)
            self.start()
        except Exception as error:
            self.stop()
            super().on_deactivate(state)
            return self.refused('activate', error)
        return DONE

    def start(self) -> None:
        """Do what `on_activate` says; raises whatever goes wrong."""
        services, queries = self.services_offered, self.queries
        if self.loaded is None or self.outputs is None or services is None or queries is None:
            raise RuntimeError('not configured')
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
        publish = partial(self.publish_outcome, self.session)
        queue = queries.open(self.session, self.inbox, self.log_error)
        self.worker = Worker(self.session, self.inbox, queue, publish, self.log_error)
        self.worker.start()
        self.outputs.publish_model()
        services.open(self.session, self.inbox)
        self.inputs = Inputs(self, self.loaded, self.outputs, self.inbox, self.session.statistics)
        self.inputs.open()

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

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give everything back after a transition that raised: the node is unconfigured then."""
        try:
            self.stop()
        finally:
            self.unload()
        return DONE

    def refused(self, what: str, error: Exception) -> TransitionCallbackReturn:
        """Say why a transition fails; the node stays in the state before it."""
        text = str(error) if isinstance(error, REFUSALS) else traceback.format_exc()
        self.get_logger().fatal(f'cannot {what}: {text}')
        return REFUSED

    def stop(self) -> None:
        """End the subscriptions and the inference thread.

        Raises:
            RuntimeError: the thread does not end; it is left to itself and publishes nothing more.
        """
        for part in (self.inputs, self.services_offered, self.queries):
            if part is not None:
                part.close()
        worker, self.worker = self.worker, None
        self.inputs = self.session = None
        if worker is not None:
            try:
                worker.stop()
            except RuntimeError as error:
                self.get_logger().error(str(error))
                raise

    def unload(self) -> None:
        """Take publishers, services and timer off the node and drop the model."""
        if self.status_timer is not None:
            self.destroy_timer(self.status_timer)
        for offered in (self.queries, self.services_offered, self.outputs):
            if offered is not None:
                offered.destroy()
        self.status_timer = self.queries = self.services_offered = None
        self.loaded = self.outputs = None

    def destroy_node(self) -> None:
        """Stop, then destroy the node."""
        try:
            self.stop()
        finally:
            super().destroy_node()

    def refuse_late_changes(self, parameters: list[Parameter]) -> SetParametersResult:
        """Parameters are read at configure: refuse changes that would do nothing."""
        names = ', '.join(params.changed(parameters, RuntimeConfig))
        if self.loaded is not None and names:
            reason = f'{names}: read at configure; clean up the node first'
            return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    # --- messages out ---

    def publish_outcome(self, session: Session, outcome: Outcome) -> None:
        """Publish predictions; called in the inference thread."""
        outputs = self.outputs
        if outputs is not None and session is self.session:
            outputs.publish_outcome(session, outcome)
            if outcome.index == 0:
                self.publish_status()

    def publish_status(self) -> None:
        """Publish memory status and diagnostics while active."""
        outputs, session, inputs, queries = self.outputs, self.session, self.inputs, self.queries
        if outputs and session and inputs and queries:
            around = inputs.surroundings
            outputs.publish_status(session, self.inbox, around, queries.report())

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
