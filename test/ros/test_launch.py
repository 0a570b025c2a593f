"""All that a launch file names exists: executables, parameters, topics, files, arguments."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import launch_double
import pytest
import yaml
from launch_double import Entity

from wm_ros.nodes.table import CAMERA_INFO_TOPIC, PROCESSES

ROOT = Path(__file__).parents[2]
LAUNCH_FILES = sorted((ROOT / 'launch').glob('*.launch.py'))
EXECUTABLES = {process.executable: process for process in PROCESSES.values()}


def entities(path: Path) -> list[Entity]:
    """Run a launch file against the double; return what its description holds."""
    with launch_double.installed():
        description = runpy.run_path(str(path))['generate_launch_description']()
    (found,) = description.positional
    return list(found)


def nodes(path: Path) -> list[Entity]:
    return [item for item in entities(path) if item.kind in ('Node', 'LifecycleNode')]


def arguments(path: Path) -> dict[str, Entity]:
    return {
        item.positional[0]: item for item in entities(path) if item.kind == 'DeclareLaunchArgument'
    }


def configurations(value: Any) -> set[str]:
    """Names of all launch arguments that occur anywhere in `value`."""
    if isinstance(value, Entity):
        names = {value.positional[0]} if value.kind == 'LaunchConfiguration' else set()
        return names | configurations([*value.positional, *value.given.values()])
    if isinstance(value, dict):
        return configurations([*value.keys(), *value.values()])
    if isinstance(value, list | tuple):
        return set().union(*(configurations(item) for item in value)) if value else set()
    return set()


all_launch_files = pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)


def test_the_launch_files_are_there() -> None:
    assert [path.name for path in LAUNCH_FILES] == [
        'demo.launch.py',
        'planner.launch.py',
        'world_model.launch.py',
    ]


@all_launch_files
def test_executables_and_parameters_are_the_nodes(path: Path) -> None:
    assert nodes(path)
    for node in nodes(path):
        assert node.given['package'] == 'wm_ros'
        process = EXECUTABLES[node.given['executable']]
        assert node.given['name'] == process.node_name
        assert (node.kind == 'LifecycleNode') == process.lifecycle
        known = set(process.config.__dataclass_fields__) | {'use_sim_time'}
        for parameters in node.given['parameters']:
            if isinstance(parameters, dict):
                assert set(parameters) <= known, set(parameters) - known


@all_launch_files
def test_parameter_types_are_the_nodes(path: Path) -> None:
    for node in nodes(path):
        defaults = EXECUTABLES[node.given['executable']].config()
        for parameters in node.given['parameters']:
            for name, value in parameters.items() if isinstance(parameters, dict) else ():
                expected = bool if name == 'use_sim_time' else type(getattr(defaults, name))
                if isinstance(value, Entity):
                    assert value.kind == 'ParameterValue' and value.given['value_type'] is expected
                else:
                    assert type(value) is (list if expected is tuple else expected), name


@all_launch_files
def test_remapped_topics_are_in_the_shipped_contract(path: Path) -> None:
    contract = yaml.safe_load((ROOT / 'contracts' / 'tabletop.yaml').read_text())
    topics = {*re.findall(r"'topic': '([^']+)'", str(contract)), CAMERA_INFO_TOPIC}
    for node in nodes(path):
        for source, _ in node.given.get('remappings', []):
            assert source in topics


@all_launch_files
def test_arguments_are_declared_described_and_used(path: Path) -> None:
    declared = arguments(path)
    for name, argument in declared.items():
        assert len(argument.given['description']) > 10, f'{name} is not described'
        assert argument.given.get('default_value') is not None, f'{name} has no default'
    used = configurations(entities(path))
    assert used == set(declared)


def test_autostart_is_an_argument() -> None:
    declared = arguments(ROOT / 'launch' / 'world_model.launch.py')
    assert declared['autostart'].given['default_value'] == 'True'


def test_demo_includes_an_existing_file_with_arguments_that_it_has() -> None:
    (include,) = [
        item
        for item in entities(ROOT / 'launch' / 'demo.launch.py')
        if item.kind == 'IncludeLaunchDescription'
    ]
    (parts,) = include.positional[0].positional[0].positional
    included = ROOT / Path(*parts[1:])
    assert parts[0].positional == ('wm_ros',) and included.is_file()
    given = {name for name, _ in include.given['launch_arguments']}
    assert given <= set(arguments(included))


def test_demo_starts_what_make_demo_starts() -> None:
    path = ROOT / 'launch' / 'demo.launch.py'
    started = {node.given['executable'] for node in nodes(path)} | {'world_model_node'}
    assert started == {PROCESSES[name].executable for name in ('sim', 'world_model', 'recorder')}


@pytest.mark.parametrize('name', sorted(PROCESSES))
def test_parameter_file_fits_the_node(name: str) -> None:
    """The file that params_file points at: current, complete, and readable by the node."""
    process = PROCESSES[name]
    text = (ROOT / 'config' / f'{name}.yaml').read_text()
    ((node_name, section),) = yaml.safe_load(text).items()
    assert node_name == f'/**/{process.node_name}', 'would not be read in a namespace'
    values = section['ros__parameters']
    assert set(values) == set(process.config.__dataclass_fields__)
    assert (
        process.config(
            **{
                key: tuple(value) if isinstance(value, list) else value
                for key, value in values.items()
            }
        )
        == process.config()
    )
