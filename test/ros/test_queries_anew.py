"""A node that is configured anew while answers of its former self are still on their way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
from planner import CONTRACT, A, request
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from robot import MATCH_S, Robot
from std_msgs.msg import Header
from wm_ros_msgs.srv import EvaluateCandidates

from wm_ros.backends.resolve import resolve_backend
from wm_ros.config import RuntimeConfig
from wm_ros.manifest import Calibration, Planning
from wm_ros.nodes import objective_messages
from wm_ros.nodes.diagnostics import model_info
from wm_ros.nodes.inbox import Inbox
from wm_ros.nodes.loading import Loaded
from wm_ros.nodes.objective_terms import goal_image, smoothness
from wm_ros.nodes.queries import QueryServer
from wm_ros.nodes.query_queue import QueryQueue
from wm_ros.planning.query import Limits, QueryCode, QueryError, Start
from wm_ros.toy_package import write_toy_package
from wm_ros.world_model import WorldModel

pytestmark = pytest.mark.ros

ANSWERS = 10


@pytest.fixture
def node() -> Iterator[LifecycleNode]:
    context = Context()
    rclpy.init(context=context)
    node = LifecycleNode('world_model', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    yield node
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)


def served(node: LifecycleNode, model: WorldModel) -> tuple[QueryServer, QueryQueue]:
    """A configuration of the node: its server, open, and what its inference thread would do."""
    config = RuntimeConfig(query_candidates=8, query_steps=8)
    loaded: Any = SimpleNamespace(model=model, contract=CONTRACT)
    server = QueryServer(node, loaded, config, SimpleNamespace(frame_id='cam'))  # type: ignore
    server.create()
    start = Start(model.reset(), np.zeros(A, np.float32))
    session: Any = SimpleNamespace(
        statistics=SimpleNamespace(stream_share=lambda now_ns: 0.0),
        start=lambda: start,
        taken=None,
    )
    return server, server.open(session, Inbox(), print)


def test_after_cleanup_only_the_new_model_answers(node: LifecycleNode, tmp_path: Path) -> None:
    package = write_toy_package(tmp_path / 'toy', CONTRACT)
    model = WorldModel(package, resolve_backend('toy', package))
    old, _ = served(node, model)
    services = len(list(node.services))
    old._desk.waiting = 1  # an answer that has not been sent
    old.destroy()
    new, queue = served(node, model)
    assert len(list(node.services)) > services, 'the old one is still there, or nothing is tested'
    with Robot(publishes=False) as robot:
        client = robot.node.create_client(EvaluateCandidates, '/world_model/evaluate_candidates')
        robot.until(client.service_is_ready, 'the service')

        def until(condition: Callable[[], Any], what: str) -> None:
            def turned() -> Any:
                node.executor.spin_once(timeout_sec=0.0)
                queue.unit()
                return condition()

            robot.until(turned, what)

        robot.spin(MATCH_S)
        asked = [
            client.call_async(EvaluateCandidates.Request(**request(objective=[smoothness()])))
            for _ in range(ANSWERS)
        ]
        until(lambda: all(future.done() for future in asked), 'answers')
        codes = {QueryCode(future.result().error_code) for future in asked}
        assert codes == {QueryCode.NONE}, 'the old one answers NOT_ACTIVE'
        assert (old._desk.answered + old._desk.refused, new._desk.answered) == (0, ANSWERS)
        old._desk.waiting = 0
        until(lambda: len(list(node.services)) == services, 'the old one is taken down')
    new.destroy()


def test_the_model_says_for_how_many_draws_it_is_calibrated(tmp_path: Path) -> None:
    calibration = Calibration(3, (1,), (0.0,), (1.0,))
    for planning, draws in ((Planning(8, calibration), 3), (Planning(), 0)):
        package = write_toy_package(tmp_path / str(draws), CONTRACT, planning=planning)
        model = WorldModel(package, resolve_backend('toy', package))
        info = model_info(Loaded(model, CONTRACT, ''), Header())
        assert info.calibrated_draws == draws


def test_nothing_is_decoded_of_an_objective_that_is_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded: list[Any] = []
    real = objective_messages.raw_image

    def watched(message: Any) -> Any:
        decoded.append(message)
        return real(message)

    monkeypatch.setattr(objective_messages, 'raw_image', watched)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (64, 64, 3), np.uint8)
    other = rng.integers(0, 255, (128, 128, 3), np.uint8)
    small = Limits(goals=3, goal_pixels=5 * 64 * 64, terms=2)
    for messages in (
        [goal_image(picture)] * 3,
        [goal_image(picture), goal_image([picture] * 4)],
        [goal_image([picture] * 3), goal_image([picture] * 3)],
        [goal_image([picture, other])],
        [goal_image(picture, over='first')],
    ):
        with pytest.raises(QueryError):
            objective_messages.terms(messages, CONTRACT, small)
        assert decoded == []
    assert len(objective_messages.terms([goal_image([picture] * 2)], CONTRACT, small)) == 1
    assert len(decoded) == 2
