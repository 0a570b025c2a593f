"""docs/planning.md says what the code says: every table is held against what it describes.

`python test/core/test_planning_page.py` writes the tables of parameters anew.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from wm_ros.config import PlannerConfig, RuntimeConfig
from wm_ros.model_package import ModelPackage, find_package
from wm_ros.planning.errors import QueryCode
from wm_ros.planning.objectives import OVERS
from wm_ros.planning.query import FramesWanted, Limits
from wm_ros.planning.states import LONGEST_KEEP_S

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'planning.md').read_text()
EXAMPLES = sorted((ROOT / 'docs' / 'examples').glob('*.py'))
BLOCKS = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
PARAMETERS: Mapping[str, tuple[type, str]] = {
    'query_parameters': (RuntimeConfig, r'query_|state_'),
    'planner_parameters': (PlannerConfig, ''),
}
FIELD = re.compile(r'^([\w/]+(?:\[\])?) (\w+)$', re.MULTILINE)
CONSTANT = re.compile(r'^\w+ ([A-Z_]+)=(\w+)$', re.MULTILINE)


def part(name: str) -> str:
    """What stands between the two marks of a name."""
    (found,) = re.findall(rf'<!-- {name}:begin -->\n(.*?)<!-- {name}:end -->', PAGE, re.DOTALL)
    return str(found)


def rows(name: str) -> list[list[str]]:
    """The cells of a table without its head, code marks taken off."""
    lines = part(name).splitlines()[2:]
    found = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    assert found and len({len(cells) for cells in found}) == 1
    return [[cell.strip('`') for cell in cells] for cells in found]


def interface(name: str) -> list[str]:
    """The parts of a message, service or action file."""
    (path,) = (ROOT / 'msg').glob(f'*/{name}.*')
    return path.read_text().split('\n---\n')


def parameters(config: type, names: str) -> str:
    """The table of a node's parameters, as it has to stand on the page."""
    lines = ['| parameter | default | range | what it is |', '|---|---|---|---|']
    for item in fields(config):
        meta: Any = item.metadata
        if not re.match(names, item.name):
            continue
        unit = f' {meta["unit"]}' if meta['unit'] else ''
        default = item.default
        value = ', '.join(default) if isinstance(default, tuple) else f'{default}{unit}'
        allowed = ', '.join(map(str, meta['choices']))
        if meta['low'] is not None:
            allowed = f'{meta["low"]:g} to {meta["high"]:g}'
        lines.append(f'| `{item.name}` | {value} | {allowed} | {meta["doc"]} |')
    return '\n'.join(lines) + '\n'


@pytest.mark.parametrize('name', PARAMETERS)
def test_parameters_are_those_of_the_nodes(name: str) -> None:
    assert part(name) == parameters(*PARAMETERS[name]), 'see the text of this module'


@pytest.mark.parametrize(
    ('name', 'file', 'index'),
    [
        ('request', 'EvaluateCandidates', 0),
        ('reply', 'EvaluateCandidates', 1),
        ('imagine', 'Imagine', 0),
    ],
)
def test_fields_are_those_of_the_interface(name: str, file: str, index: int) -> None:
    expected = [(field, kind) for kind, field in FIELD.findall(interface(file)[index])]
    assert len(expected) >= 10
    assert [(field, kind) for field, kind, _ in rows(name)] == expected


def test_what_a_handle_says_is_told() -> None:
    (text,), (told,) = interface('StateHandle'), re.findall('What a handle says: (.*)', PAGE)
    assert re.findall('`(\\w+)`', told) == [field for _, field in FIELD.findall(text)]


def test_every_error_has_its_row() -> None:
    told = {cells[1]: int(cells[0]) for cells in rows('errors')}
    assert told == {code.name: code.value for code in QueryCode if code}
    _, result, _ = interface('ReachGoal')
    codes = {name: int(value) for name, value in CONSTANT.findall(result)}
    assert codes.pop('NONE') == 0
    assert {cells[1]: int(cells[0]) for cells in rows('planner_errors')} == codes
    for name in ('errors', 'planner_errors'):
        assert all(cell for cells in rows(name) for cell in cells), 'what to do is always said'


def test_terms_are_those_of_the_message() -> None:
    (text,) = interface('ObjectiveTerm')
    words = [word for _, word in CONSTANT.findall(text)]
    table = rows('terms')
    assert [cells[0] for cells in table] == [word for word in words if word not in OVERS]
    known = {field for _, field in FIELD.findall(text)} - {'kind', 'weight'}
    assert {name for cells in table for name in re.findall(r'\w+', cells[3])} == known
    called = [re.match(r'\w+', cells[1]) for cells in table]
    assert [call and call[0] for call in called] == [cells[0] for cells in table]
    assert all(f'`{over}`' in PAGE for over in OVERS)


def test_numbers_in_the_text_are_those_of_the_code() -> None:
    limits = Limits()
    assert f'1 to {limits.terms} terms' in PAGE and f'more than {limits.terms} terms' in PAGE
    assert f'1 to {limits.draws}; 0 for' in PAGE and f'more than {limits.draws} draws' in PAGE
    assert limits.rows == 2 * limits.candidates and 'may reach twice `query_candidates`' in PAGE
    assert limits.latents == limits.rows * limits.steps, 'no further limit to be told of'
    assert LONGEST_KEEP_S == 24 * 3600 and 'at most a day' in PAGE
    assert all(f'FRAMES_{wanted.name}' in PAGE for wanted in FramesWanted)


def test_names_of_parameters_and_targets_exist() -> None:
    known = {item.name for config in (RuntimeConfig, PlannerConfig) for item in fields(config)}
    known |= {
        field for text in interface('EvaluateCandidates') for _, field in FIELD.findall(text)
    }
    named = set(re.findall(r'`((?:query|state)_\w+)`', PAGE))
    diagnosed = (ROOT / 'wm_ros' / 'nodes' / 'queries.py').read_text()
    strange = {name for name in named - known if f"'{name}'" not in diagnosed}
    assert 'query_unit_ms' in named and not strange
    makefile = (ROOT / 'Makefile').read_text()
    targets = set(re.findall(r'`make ([a-z-]+)|^make ([a-z-]+)', PAGE, re.MULTILINE))
    assert targets and all(f'\n{"".join(target)}:' in makefile for target in targets), targets


def test_links_lead_somewhere() -> None:
    headings = re.findall(
        r'^#+ (.*)$', re.sub(r'```.*?```', '', PAGE, flags=re.DOTALL), re.MULTILINE
    )
    anchors = {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}
    links = re.findall(r'\]\(([^)]+)\)', PAGE)
    assert links
    for link in links:
        if link.startswith('#'):
            assert link[1:] in anchors, link
        else:
            assert (ROOT / 'docs' / link).exists(), link
    assert 'docs/planning.md' in (ROOT / 'README.md').read_text()


@pytest.mark.parametrize('text', BLOCKS, ids=[str(index) for index in range(len(BLOCKS))])
def test_python_on_the_page_is_python(text: str) -> None:
    assert ast.parse(text).body  # what it does is tested in test/ros/test_planning_examples.py


@pytest.mark.parametrize('path', EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_an_example_needs_rclpy_numpy_and_the_planners_parts(path: Path) -> None:
    """No simulator, no model: what a planner author copies must run beside any world model."""
    assert f'examples/{path.name}' in PAGE
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module))
    ours = {name for name in imported if name.startswith('wm_ros.')}
    assert 'wm_ros.nodes.planner_client' in ours
    allowed = ('wm_ros.nodes.planner_client', 'wm_ros.planning.')
    assert [name for name in ours if not name.startswith(allowed)] == []
    messages = {'sensor_msgs.msg', 'wm_ros_msgs.msg'}
    others = {name.split('.')[0] for name in imported - ours - messages}
    assert others - sys.stdlib_module_names == {'numpy', 'rclpy'}


def test_the_bar_of_a_goal_picture_is_that_of_the_shipped_package() -> None:
    package = ModelPackage.load(find_package('tabletop_small'))
    assert f'refuses below {package.manifest.planning.goal_db:g},' in PAGE


def test_there_are_two_examples() -> None:
    assert [path.stem for path in EXAMPLES] == ['choose_trajectory', 'mppi_controller']


def test_figures_have_their_place() -> None:
    assert part('FIGURES').strip()


if __name__ == '__main__':
    for name in PARAMETERS:
        PAGE = PAGE.replace(part(name), parameters(*PARAMETERS[name]))
    (ROOT / 'docs' / 'planning.md').write_text(PAGE)
