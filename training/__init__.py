"""PyTorch tools that train the teacher and distil the student. Knows nothing of ROS."""
