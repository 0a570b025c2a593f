"""A double of the part of launch and launch_ros that our launch files use; they are not on PyPI.

It records what is constructed and refuses keyword arguments that the real classes (Jazzy) do not
have. The launch files are tried with the real packages by hand.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

EXECUTE_PROCESS = {
    'cmd',
    'name',
    'cwd',
    'env',
    'additional_env',
    'on_exit',
    'output',
    'shell',
    'prefix',
    'respawn',
    'respawn_delay',
    'emulate_tty',
    'condition',
    'sigterm_timeout',
    'sigkill_timeout',
    'log_cmd',
    'cached_output',
}
NODE = EXECUTE_PROCESS - {'cmd'} | {
    'executable',
    'package',
    'namespace',
    'exec_name',
    'parameters',
    'remappings',
    'ros_arguments',
    'arguments',
}


@dataclass
class Entity:
    """One constructed action or substitution: its class, and what it was given."""

    kind: str
    positional: tuple[Any, ...]
    given: dict[str, Any] = field(default_factory=dict)


def entity(kind: str, keywords: set[str], required: set[str] = frozenset()) -> type:
    """Return a class that records its arguments under `kind`."""

    def construct(self: Any, *positional: Any, **given: Any) -> None:
        if unknown := set(given) - keywords:
            raise TypeError(f'{kind} has no argument {", ".join(sorted(unknown))}')
        if missing := required - set(given):
            raise TypeError(f'{kind} needs {", ".join(sorted(missing))}')
        Entity.__init__(self, kind, positional, given)

    return type(kind, (Entity,), {'__init__': construct})


MODULES: dict[str, dict[str, type]] = {
    'launch': {'LaunchDescription': entity('LaunchDescription', {'initial_entities'})},
    'launch.actions': {
        'DeclareLaunchArgument': entity(
            'DeclareLaunchArgument', {'default_value', 'description', 'choices', 'condition'}
        ),
        'IncludeLaunchDescription': entity(
            'IncludeLaunchDescription', {'launch_arguments', 'condition'}
        ),
        'Shutdown': entity('Shutdown', {'reason', 'condition'}),
    },
    'launch.conditions': {'IfCondition': entity('IfCondition', set())},
    'launch.launch_description_sources': {
        'PythonLaunchDescriptionSource': entity('PythonLaunchDescriptionSource', set())
    },
    'launch.substitutions': {
        'LaunchConfiguration': entity('LaunchConfiguration', {'default'}),
        'PathJoinSubstitution': entity('PathJoinSubstitution', set()),
        'IfElseSubstitution': entity('IfElseSubstitution', {'if_value', 'else_value'}),
    },
    'launch_ros': {},
    'launch_ros.actions': {
        'Node': entity('Node', NODE, {'executable'}),
        'LifecycleNode': entity('LifecycleNode', NODE, {'executable', 'name', 'namespace'}),
    },
    'launch_ros.parameter_descriptions': {
        'ParameterValue': entity('ParameterValue', {'value_type'})
    },
    'launch_ros.substitutions': {'FindPackageShare': entity('FindPackageShare', set())},
}


@contextmanager
def installed() -> Iterator[None]:
    """Put the double into sys.modules for the duration of a `with` block."""
    before = {name: sys.modules.get(name) for name in MODULES}
    for name, members in MODULES.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
