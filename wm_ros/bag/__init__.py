"""Bags: read them as steps, record them so that a kill loses at most a second, repair what was
cut.
"""

from wm_ros.bag.read import BagInfo, TopicSummary, bag_info, iter_steps
from wm_ros.bag.record import BagRecorder
from wm_ros.bag.recover import Recovery, recover
from wm_ros.bag.types import BagError, ros_types

__all__ = [
    'BagError',
    'BagInfo',
    'BagRecorder',
    'Recovery',
    'TopicSummary',
    'bag_info',
    'iter_steps',
    'recover',
    'ros_types',
]
