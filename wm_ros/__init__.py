"""wm_ros: an action-conditioned world model with constant-size memory, for ROS 2.

This package is the robot side: numpy and OpenCV, an inference engine, no PyTorch.
"""

__version__ = '0.1.0'
