"""world_model_node in this process: a transition that fails leaves nothing behind."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from wm_ros import parity
from wm_ros.backends.base import EngineUnavailable
from wm_ros.backends.resolve import LOADERS, resolve_backend
from wm_ros.backends.toy_backend import ToyBackend
from wm_ros.contract import StreamContract, find_contract
from wm_ros.datatypes import Frame
from wm_ros.feed import ArrivedCommands, ArrivedFrame
from wm_ros.memory import NonFiniteError
from wm_ros.messages import Command
from wm_ros.model_package import ModelPackage, PackageError
from wm_ros.nodes import outputs, worker, world_model_node
from wm_ros.nodes.listening import Listening
from wm_ros.nodes.world_model_node import WorldModelNode
from wm_ros.toy_package import write_toy_package

pytestmark = pytest.mark.ros

CONTRACT = StreamContract.load(find_contract('tabletop'))
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@pytest.fixture(scope='module')
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return write_toy_package(tmp_path_factory.mktemp('packages') / 'toy', CONTRACT)


@pytest.fixture
def node(package: ModelPackage) -> Iterator[WorldModelNode]:
    given = ['--ros-args', '-p', f'package:={package.path}', '-p', 'backend:=toy']
    rclpy.init(args=given, signal_handler_options=SignalHandlerOptions.NO)
    made = WorldModelNode()
    yield made
    made.destroy_node()
    rclpy.shutdown()


def held(node: WorldModelNode) -> Counter[str]:
    """What a node has of each kind, and the inference threads of this process."""
    threads = [thread for thread in threading.enumerate() if thread.name == 'inference']
    return Counter(
        publishers=len(list(node.publishers)),
        subscriptions=len(list(node.subscriptions)),
        services=len(list(node.services)),
        timers=len(list(node.timers)),
        managed=len(node._managed_entities),
        threads=len(threads),
    )


@pytest.mark.parametrize(
    'error', [RuntimeError, NonFiniteError, PackageError, OSError, KeyError, MemoryError]
)
def test_whatever_stops_configure_is_a_refusal(
    node: WorldModelNode, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = held(node)
    for where, name in ((parity, 'check_sample'), (world_model_node, 'MemoryServices')):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, raising(error('injected')))
            assert node.trigger_configure() == FAILURE
        assert held(node) == before and node.loaded is None, f'after {name}'
    assert node.trigger_configure() == SUCCESS, 'still unconfigured, and able'
    assert node.trigger_cleanup() == SUCCESS and held(node) == before


def raising(error: Exception) -> Any:
    """A function that raises such an error, each time a new one: a traceback keeps what it saw."""

    def raise_it(*_: object, **__: object) -> None:
        raise type(error)(*error.args)

    return raise_it


def failing_at(count: int, function: Any) -> Any:
    """`function`, its call number `count` raising."""
    calls = iter(range(1, 1000))

    def wrapped(*given: Any, **named: Any) -> Any:
        if next(calls) == count:
            raise RuntimeError('injected')
        return function(*given, **named)

    return wrapped


def test_publishers_made_before_one_that_fails_are_taken_back(
    node: WorldModelNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = held(node)
    monkeypatch.setattr(outputs.Outputs, '_make', failing_at(4, outputs.Outputs._make))
    assert node.trigger_configure() == FAILURE
    assert held(node) == before


def test_an_activation_that_fails_is_taken_back(
    node: WorldModelNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert node.trigger_configure() == SUCCESS
    before = held(node)
    with monkeypatch.context() as patch:
        patch.setattr(Listening, 'add', failing_at(3, Listening.add))
        assert node.trigger_activate() == FAILURE
    assert held(node) == before and not node.outputs.image.is_activated
    assert node.session is None and node.loaded is not None
    assert node.trigger_activate() == SUCCESS
    assert held(node)['threads'] == 1 and held(node)['subscriptions'] > before['subscriptions']
    assert node.trigger_deactivate() == SUCCESS and held(node) == before


def test_the_engine_is_given_back(node: WorldModelNode, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = []
    monkeypatch.setitem(LOADERS, 'toy', remembering(engines))
    for _ in range(2):
        assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
        assert node.trigger_deactivate() == SUCCESS and node.trigger_cleanup() == SUCCESS
    monkeypatch.setattr(world_model_node, 'MemoryServices', raising(RuntimeError('injected')))
    assert node.trigger_configure() == FAILURE
    gc.collect()
    assert len(engines) == 3 and [engine() for engine in engines] == [None] * 3


def remembering(engines: list[Any]) -> Any:
    """A loader of the toy engine that keeps weak references."""

    def load(package: ModelPackage, threads: int, precision: str, reason: str) -> ToyBackend:
        engine = ToyBackend(package, reason)
        engines.append(weakref.ref(engine))
        return engine

    return load


def test_an_engine_that_hangs_is_left_behind_and_publishes_nothing_more(
    node: WorldModelNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = held(node)
    monkeypatch.setattr(worker, 'JOIN_S', 0.2)
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    entered, released = threading.Event(), threading.Event()
    model, run = node.loaded.model, node.loaded.model.backend.run

    def hang(graph: str, inputs: Any) -> Any:
        entered.set()
        assert released.wait(30)
        return run(graph, inputs)

    monkeypatch.setattr(model.backend, 'run', hang)
    published: list[object] = []
    monkeypatch.setattr(outputs.Outputs, 'publish_outcome', lambda *given: published.append(given))
    stamp_ns = 10**18
    command = Command(np.zeros(CONTRACT.action_width), stamp_ns)
    node.inbox.put(ArrivedCommands(0, (command,), stamp_ns))
    frame = Frame(np.zeros((64, 64, 3), np.uint8), stamp_ns)
    node.inbox.put(ArrivedFrame(frame, stamp_ns, (64, 64)), 1)
    assert entered.wait(30)
    assert node.trigger_deactivate() == TransitionCallbackReturn.ERROR
    assert node.loaded is None, 'on_error has unloaded: the node is unconfigured'
    assert held(node) == before + Counter(threads=1)
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    (hung,) = [t for t in threading.enumerate()
               if t.name == 'inference' and t is not node.worker._thread]  # fmt: skip
    released.set()
    hung.join(30)
    assert not hung.is_alive() and published == [], 'not through the outputs of the new session'


def test_auto_passes_over_an_engine_that_raises_and_says_so(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOADERS, 'tensorrt', raising(EngineUnavailable('tensorrt: not here')))
    monkeypatch.setitem(LOADERS, 'cuda', raising(OSError('libcuda.so: wrong version')))
    monkeypatch.setitem(LOADERS, 'openvino', raising(PackageError('op TopK: not supported')))
    monkeypatch.setitem(LOADERS, 'onnxruntime', LOADERS['toy'])
    reason = resolve_backend('auto', package).reason
    for found in ('tensorrt: not here', 'cuda: OSError: libcuda.so: wrong version',
                  'openvino: PackageError: op TopK'):  # fmt: skip
        assert found in reason
    with pytest.raises(PackageError, match='op TopK'):
        resolve_backend('openvino', package)
    monkeypatch.setitem(LOADERS, 'onnxruntime', raising(RuntimeError('broken')))
    with pytest.raises(PackageError, match='no engine .*OSError.*TopK.*RuntimeError: broken'):
        resolve_backend('auto', package)
    monkeypatch.setitem(LOADERS, 'openvino', raising(RuntimeError('broken')))
    with pytest.raises(EngineUnavailable, match='no engine for package toy'):
        resolve_backend('auto', package)
