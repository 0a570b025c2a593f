"""LeRobot datasets: v2.1 and v3.0 in, v3.0 out, by pyarrow and PyAV alone (extra `lerobot`)."""

from wm_ros.lerobot.from_bags import export_bags
from wm_ros.lerobot.info import LeRobotError
from wm_ros.lerobot.read import Dataset, Episode
from wm_ros.lerobot.to_bags import import_dataset
from wm_ros.lerobot.write import DatasetWriter

__all__ = [
    'Dataset',
    'DatasetWriter',
    'Episode',
    'LeRobotError',
    'export_bags',
    'import_dataset',
]
