"""`colcon build` as a ROS user runs it; executables run from install/, outside the repository."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor

from wm_ros.nodes.table import PROCESSES

ROOT = Path(__file__).parents[2]
BUILD_S = 300.0
START_S = 30.0
STOP_S = 10.0
pytestmark = pytest.mark.timeout(BUILD_S + START_S)


@pytest.fixture(scope='module')
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The install folder of a fresh colcon build of both packages."""
    base = tmp_path_factory.mktemp('colcon')
    done = subprocess.run(
        [
            'colcon',
            '--log-base',
            str(base / 'log'),
            'build',
            '--build-base',
            str(base / 'build'),
            '--install-base',
            str(base / 'install'),
            '--event-handlers',
            'console_cohesion+',
            '--cmake-args',
            '-G',
            'Ninja',
            '-DBUILD_TESTING=OFF',
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert 'Summary: 2 packages finished' in done.stderr + done.stdout
    return base / 'install'


def sourced(prefix: Path, command: str) -> list[str]:
    return ['bash', '-c', f'source {prefix}/setup.bash && exec {command}']


@contextmanager
def running(prefix: Path, command: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """A process started from the install folder; killed if it outlives the block."""
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    process = subprocess.Popen(
        sourced(prefix, command),
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=STOP_S)


def seen_in_graph(name: str, process: subprocess.Popen[str]) -> bool:
    """Whether a node called `name` shows up before the process ends or time runs out."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('watcher', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            executor.spin_once(timeout_sec=0.1)
            if name in node.get_node_names():
                return True
        return False
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


@pytest.mark.slow
def test_share_holds_what_the_nodes_look_for(prefix: Path) -> None:
    share = prefix / 'wm_ros' / 'share' / 'wm_ros'
    for name in (
        'package.xml',
        'launch/world_model.launch.py',
        'launch/demo.launch.py',
        'contracts/tabletop.yaml',
        'config/world_model.yaml',
    ):
        assert (share / name).is_file(), name
    for package in (ROOT / 'packages').glob('*/manifest.json'):
        installed = share / 'packages' / package.parent.name
        kept = {
            path.relative_to(package.parent)
            for path in package.parent.rglob('*')
            if path.is_file()
        }
        assert kept == {
            path.relative_to(installed) for path in installed.rglob('*') if path.is_file()
        }


@pytest.mark.slow
def test_wm_runs_from_the_installed_code(prefix: Path, tmp_path: Path) -> None:
    script = prefix / 'wm_ros' / 'lib' / 'wm_ros' / 'wm'
    done = subprocess.run(
        sourced(prefix, f'{script} --help'),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=STOP_S,
    )
    assert done.returncode == 0, done.stderr
    assert 'usage: wm' in done.stdout
    where = subprocess.run(
        sourced(
            prefix,
            'python3 -c "import wm_ros, wm_ros_msgs as m; print(wm_ros.__file__, m.__file__)"',
        ),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=STOP_S,
    )
    assert where.stdout.count(str(prefix)) == 2, where.stdout + where.stderr


@pytest.mark.slow
@pytest.mark.parametrize('name', sorted(PROCESSES))
def test_node_starts_and_stops_from_install(name: str, prefix: Path, tmp_path: Path) -> None:
    """It shows up in the ROS graph under its name and ends cleanly on SIGINT."""
    process = PROCESSES[name]
    values = {
        'world_model': '-p autostart:=false',
        'recorder': f'-p out:={tmp_path}/bag',
        'player': f'-p bag:={recorded_bag(tmp_path)} -p wait_subscribers:=5',
        'sim': '-p wait_subscribers:=5',
        'planner': '-p candidates:=8',
    }[name]
    script = prefix / 'wm_ros' / 'lib' / 'wm_ros' / process.executable
    with running(prefix, f'{script} --ros-args {values}', tmp_path) as child:
        if not seen_in_graph(process.node_name, child):
            child.kill()
            pytest.fail(f'{process.node_name} did not appear:\n{child.communicate()[0]}')
        child.send_signal(signal.SIGINT)
        output, _ = child.communicate(timeout=STOP_S)
    assert child.returncode == 0, output
    assert 'Traceback' not in output


def recorded_bag(tmp_path: Path) -> Path:
    """A bag with one camera message for the player to hold."""
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import Image

    from wm_ros.bag import BagRecorder

    path = tmp_path / 'recorded'
    recorder = BagRecorder(path)
    recorder.write('/camera/image_raw', 'sensor_msgs/msg/Image', serialize_message(Image()), 1)
    recorder.close()
    return path


def test_colcon_is_the_environments_own() -> None:
    """A colcon from elsewhere would build with another Python."""
    colcon = shutil.which('colcon')
    assert colcon is not None
    if 'ROS_DISTRO' not in os.environ:
        assert Path(colcon).parent == Path(shutil.which('python') or '').parent
