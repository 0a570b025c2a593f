"""Measures of a world model: recall over long lags, sharpness, answers to actions, reports.

In: a world model (exported package or anything with the same methods), simulator episodes, bags.
Out: figures as plain dictionaries, pictures, HTML. Knows neither ROS, PyTorch nor an engine.
"""
