"""The shape of the repository: what may import what, and that its descriptions agree."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from catkin_pkg.package import parse_package

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def setup_arguments() -> dict[str, Any]:
    """What setup.py hands to setuptools."""
    with mock.patch('setuptools.setup') as setup:
        before = Path.cwd()
        os.chdir(ROOT)
        try:
            runpy.run_path('setup.py')
        finally:
            os.chdir(before)
    return setup.call_args.kwargs


def tracked_files() -> list[Path]:
    """The files of the repository, also where it was unpacked without git."""
    listed = subprocess.run(
        ['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split('\0') if name and (ROOT / name).is_file()]


def requirement_name(requirement: str) -> str:
    return re.split(r'[\[<>=~! ]', requirement, maxsplit=1)[0].lower()


def pinned() -> dict[str, str]:
    lines = (ROOT / 'constraints.txt').read_text().splitlines()
    pairs = [line.split('==') for line in lines if line and not line.startswith('#')]
    return {name.lower(): version for name, version in pairs}


MODULES = sorted(
    '.'.join(path.relative_to(ROOT).with_suffix('').parts)
    for path in (ROOT / 'wm_ros').rglob('*.py')
    if path.name not in ('__init__.py', '__main__.py')
)
IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*sorted({name.split('.')[0] for name in sys.modules}))
"""


def loaded_by(modules: list[str]) -> set[str]:
    """The top-level packages in sys.modules after a fresh Python has imported `modules`."""
    done = subprocess.run(
        [sys.executable, '-c', IMPORT_ALL, *modules], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_wm_ros_runs_without_the_training_side() -> None:
    """Every module of wm_ros, engines and nodes included; also not behind a library's back."""
    assert len(MODULES) > 20
    loaded = loaded_by(MODULES)
    assert {'wm_ros', 'numpy', 'rclpy'} <= loaded
    assert not loaded & {'torch', 'onnxscript', 'models', 'training', 'export'}


def test_below_the_nodes_nothing_knows_ros() -> None:
    modules = [name for name in MODULES if not name.startswith('wm_ros.nodes.')]
    assert not loaded_by(modules) & {'rclpy', 'wm_ros_msgs', 'sensor_msgs', 'launch'}


def test_training_side_knows_no_ros() -> None:
    modules = [
        '.'.join(path.relative_to(ROOT).with_suffix('').parts)
        for folder in ('models', 'training', 'export')
        for path in (ROOT / folder).rglob('*.py')
        if path.name not in ('__init__.py', '__main__.py')
    ]
    loaded = loaded_by(modules)
    assert 'torch' in loaded
    assert not loaded & {'rclpy', 'wm_ros_msgs'}


@pytest.mark.parametrize('folder', ['.', 'msg'])
def test_package_xml_is_valid(folder: str) -> None:
    package = parse_package(str(ROOT / folder / 'package.xml'))
    package.validate()
    assert package.licenses == ['Apache-2.0']
    assert package.version == parse_package(str(ROOT / 'package.xml')).version


def test_setup_py_agrees_with_package_xml(setup_arguments: dict[str, Any]) -> None:
    package = parse_package(str(ROOT / 'package.xml'))
    for field in ('name', 'version', 'description'):
        assert setup_arguments[field] == getattr(package, field)
    assert not [name for name in setup_arguments['packages'] if name.split('.')[0] != 'wm_ros']


def test_console_scripts_exist(setup_arguments: dict[str, Any]) -> None:
    for script in setup_arguments['entry_points']['console_scripts']:
        module, function = script.split(' = ')[1].split(':')
        spec = importlib.util.find_spec(module)
        assert spec is not None and spec.origin is not None, f'{script}: no such module'
        text = Path(spec.origin).read_text()
        assert re.search(rf'^def {function}\(', text, re.MULTILINE), script


def test_data_files_go_to_share(setup_arguments: dict[str, Any]) -> None:
    shipped = {
        source: target for target, files in setup_arguments['data_files'] for source in files
    }
    assert shipped['launch/world_model.launch.py'] == 'share/wm_ros/launch'
    assert shipped['contracts/tabletop.yaml'] == 'share/wm_ros/contracts'
    assert shipped['config/world_model.yaml'] == 'share/wm_ros/config'
    for manifest in (ROOT / 'packages').glob('*/manifest.json'):
        name = str(manifest.relative_to(ROOT))
        assert shipped[name] == f'share/wm_ros/packages/{manifest.parent.name}'


def test_files_inside_packages_are_shipped(setup_arguments: dict[str, Any]) -> None:
    tracked = tracked_files()
    shipped = {
        ROOT / package.replace('.', '/') / name
        for package, names in setup_arguments['package_data'].items()
        for name in names
    }
    inside = {path for path in tracked if path.relative_to(ROOT).parts[0] == 'wm_ros'}
    assert {path for path in inside if path.suffix != '.py'} == shipped


def test_every_requirement_is_pinned(setup_arguments: dict[str, Any]) -> None:
    required = [
        *setup_arguments['install_requires'],
        *(item for extra in setup_arguments['extras_require'].values() for item in extra),
    ]
    missing = {requirement_name(item) for item in required} - set(pinned())
    assert not missing, f'not in constraints.txt: {sorted(missing)}'


def test_only_training_asks_for_torch(setup_arguments: dict[str, Any]) -> None:
    extras = setup_arguments['extras_require']
    assert set(extras) >= {'ros', 'ort', 'gpu', 'openvino', 'sim', 'train', 'test'}
    asking = {name for name, items in extras.items() if 'torch' in map(requirement_name, items)}
    assert asking == {'train'}
    assert 'torch' not in map(requirement_name, setup_arguments['install_requires'])


def test_what_is_shipped_of_models_stays_small() -> None:
    """Issue 2: all packages together below 15 MB, the artefact of a stage at most 4 MB."""
    sizes = {path.relative_to(ROOT): path.stat().st_size for path in tracked_files()}
    packages = {name: size for name, size in sizes.items() if name.parts[0] == 'packages'}
    assert packages and sum(packages.values()) < 15e6
    artefacts = {name: size for name, size in sizes.items() if name.suffix == '.pt'}
    assert artefacts and max(artefacts.values()) <= 4e6, artefacts


def test_no_machine_paths_in_the_repository() -> None:
    """Absolute paths of the machine that a file was written on would break every other one."""
    forbidden = re.compile(r'/(work|root)/[a-z]')
    suffixes = {'.py', '.md', '.toml', '.yaml', '.txt', '.cfg', '.json', '.rst', '.xml'}
    found = []
    for path in tracked_files():
        if path.suffix in suffixes:
            found += [
                f'{path.relative_to(ROOT)}:{number}'
                for number, line in enumerate(path.read_text().splitlines(), 1)
                if forbidden.search(line)
            ]
    assert [item for item in found if not item.startswith('test/core/test_structure.py')] == []
