"""Queries about the future: candidate actions go in, costs and uncertainty come out.

A query starts from a memory (the live one or a kept one), rolls every candidate out on a fork of
it, lets objectives price what it saw, and touches nothing else. Knows no ROS and no simulator.
"""
