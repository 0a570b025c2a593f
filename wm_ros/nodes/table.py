"""The one table of processes: what runs, under which name, with which parameters and remaps.

`make demo` and the launch files both read it, so they cannot drift apart. No rclpy in here: a
launch file is read before any node runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from wm_ros.config import (
    CAMERA_TOPIC,
    COMMAND_TOPIC,
    PREDICTION_TOPIC,
    PlannerConfig,
    PlayerConfig,
    RecorderConfig,
    RuntimeConfig,
    SimNodeConfig,
)
from wm_ros.contract import StreamContract

CAMERA_INFO_TOPIC = '/camera/camera_info'
STATUS_TOPIC = '/world_model/memory_status'
INFO_TOPIC = '/world_model/model_info'


@dataclass(frozen=True)
class Process:
    """One executable of this package.

    Attributes:
        executable: name of the console script (`ros2 run wm_ros <executable>`).
        module: Python module with its `main`, for `python -m`.
        node_name: name of the node inside.
        config: the dataclass whose fields are its parameters; their defaults are the node's.
        parameters: values that the demo sets differently from those defaults.
        remaps: (from, to) pairs that the demo applies.
        lifecycle: whether the node is a managed one.
    """

    executable: str
    module: str
    node_name: str
    config: type
    parameters: Mapping[str, Any] = field(default_factory=dict)
    remaps: tuple[tuple[str, str], ...] = ()
    lifecycle: bool = False

    def command(
        self,
        python: str,
        parameters: Mapping[str, Any] | None = None,
        remaps: tuple[tuple[str, str], ...] = (),
    ) -> list[str]:
        """Return the command line that starts this process with `python -m`.

        Args:
            python: interpreter to start.
            parameters: values over those of the table.
            remaps: pairs beyond those of the table.

        Raises:
            ValueError: a parameter that the node does not declare.
        """
        merged = {**self.parameters, **(parameters or {})}
        known = {item.name for item in fields(self.config)} | {'use_sim_time'}
        if unknown := sorted(set(merged) - known):
            raise ValueError(
                f'{self.executable} has no parameter {", ".join(unknown)}; '
                f'it has {", ".join(sorted(known))}'
            )
        words = [python, '-m', self.module, '--ros-args']
        for name, value in merged.items():
            words += ['-p', f'{name}:={yaml_value(value)}']
        for source, target in (*self.remaps, *remaps):
            words += ['-r', f'{source}:={target}']
        return words


def yaml_value(value: Any) -> str:
    """Return `value` as the YAML that `-p name:=value` expects; text is always quoted."""
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return '[' + ', '.join(yaml_value(item) for item in value) + ']'
    text = str(value).replace("'", "''")
    return f"'{text}'"


PROCESSES: Mapping[str, Process] = {
    'world_model': Process(
        'world_model_node',
        'wm_ros.nodes.world_model_node',
        'world_model',
        RuntimeConfig,
        lifecycle=True,
    ),
    'sim': Process(
        'sim_node', 'wm_ros.nodes.sim_node', 'sim', SimNodeConfig, {'wait_subscribers': 2}
    ),
    'recorder': Process(
        'recorder_node',
        'wm_ros.nodes.recorder_node',
        'recorder',
        RecorderConfig,
        {
            'topics': (
                CAMERA_TOPIC,
                CAMERA_INFO_TOPIC,
                COMMAND_TOPIC,
                PREDICTION_TOPIC,
                STATUS_TOPIC,
                INFO_TOPIC,
            ),
            'wait_for_all': True,
        },
    ),
    'planner': Process('planner_node', 'wm_ros.nodes.planner_node', 'planner', PlannerConfig),
    'player': Process(
        'player_node', 'wm_ros.nodes.player_node', 'player', PlayerConfig, {'wait_subscribers': 2}
    ),
}


def recorded_topics(contract: StreamContract) -> tuple[str, ...]:
    """Return what a run records: the streams of the contract and what the node makes of them."""
    return (*contract.topics, PREDICTION_TOPIC, STATUS_TOPIC, INFO_TOPIC)
