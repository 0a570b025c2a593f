"""wm_ros_msgs: documented, installed as written here, and able to carry what it must."""

import array
import math
import re
from itertools import pairwise
from pathlib import Path

import pytest
from ament_index_python.packages import get_package_share_directory
from rclpy.serialization import deserialize_message, serialize_message
from wm_ros_msgs.action import Imagine
from wm_ros_msgs.msg import Action, MemoryStatus, ModelInfo, ObjectiveTerm, Prediction
from wm_ros_msgs.srv import (
    DropState,
    EvaluateCandidates,
    ForkState,
    KeepState,
    ListStates,
    LoadMemory,
    ResetMemory,
    SaveMemory,
)

from wm_ros.datatypes import ResetReason
from wm_ros.nodes.objective_messages import FIELDS
from wm_ros.planning.errors import QueryCode
from wm_ros.planning.objectives import OVERS
from wm_ros.planning.query import FramesWanted
from wm_ros.rejection import RejectReason

SOURCE = Path(__file__).parents[2] / 'msg'
FILES = sorted(
    [*SOURCE.glob('msg/*.msg'), *SOURCE.glob('srv/*.srv'), *SOURCE.glob('action/*.action')]
)
SERVICES = (ResetMemory, SaveMemory, LoadMemory)
QUERIES = (EvaluateCandidates, ForkState, KeepState, ListStates, DropState)
CODE = re.compile(r'uint16 ([A-Z_]+)=(\d+)')


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


@pytest.mark.parametrize('path', FILES, ids=names(FILES))
def test_every_field_is_commented(path: Path) -> None:
    """A comment stands right above every field and every constant."""
    lines = path.read_text().splitlines()
    assert lines[0].startswith('# '), 'the file does not say what it is for'
    fields = [
        (above, line)
        for above, line in pairwise(lines)
        if line.strip() not in ('', '---') and line[0] != '#'
    ]
    assert fields and [line for above, line in fields if not above.startswith('# ')] == []


def test_words_in_the_comments_are_those_of_the_code() -> None:
    text = (SOURCE / 'msg' / 'MemoryStatus.msg').read_text()
    (block,) = re.findall(r'((?:#.*\n)+)string last_reset_reason', text)
    told = set(re.findall(r'[a-z_]+', block.split('afresh:')[1].split('.')[0])) - {'or'}
    assert told == {reason.value for reason in ResetReason}
    (block,) = re.findall(r'((?:#.*\n)+)string\[\] rejected_names', text)
    examples = re.findall(r'(?:frame|action|camera_info|model)\.([a-z_]+)', block)
    assert len(examples) > 3 and set(examples) <= {reason.value for reason in RejectReason}


@pytest.mark.parametrize('path', FILES, ids=names(FILES))
def test_installed_interface_is_the_one_in_the_repository(path: Path) -> None:
    """Catches an environment that was not rebuilt after a change (`make setup`)."""
    installed = Path(get_package_share_directory('wm_ros_msgs')) / path.parent.name / path.name
    assert installed.read_text() == path.read_text()


def test_prediction_survives_the_wire() -> None:
    message = Prediction(horizon=3, index=2**40, latency_ms=1.5, package='tabletop_small')
    message.header.stamp.sec, message.header.frame_id = 7, 'camera'
    message.source_stamp.nanosec = 999_999_999
    message.image.data = array.array('B', bytes(range(256)) * 48)
    copy = deserialize_message(serialize_message(message), Prediction)
    assert copy == message
    assert bytes(copy.image.data[:256]) == bytes(range(256))


def test_action_is_single_precision_and_any_length() -> None:
    message = Action(values=array.array('f', [0.1, -2.0, math.inf]))
    copy = deserialize_message(serialize_message(message), Action)
    assert copy.values.typecode == 'f'
    assert list(copy.values) == list(message.values)


def test_status_and_model_info_survive_the_wire() -> None:
    status = MemoryStatus(
        frames=2**33,
        state_bytes=36_000,
        finite=True,
        rejected_names=['action.not_finite'],
        rejected_counts=array.array('Q', [3]),
        drift_psnr=math.nan,
    )
    copy = deserialize_message(serialize_message(status), MemoryStatus)
    assert (copy.frames, list(copy.rejected_counts)) == (2**33, [3])
    assert math.isnan(copy.drift_psnr)
    info = ModelInfo(name='x', action_names=['a', 'b'], action_low=array.array('f', [-1, 0]))
    assert deserialize_message(serialize_message(info), ModelInfo) == info


def test_error_codes_are_unique_and_success_is_zero() -> None:
    seen: dict[int, str] = {}
    for service in SERVICES:
        text = (SOURCE / 'srv' / f'{service.__name__}.srv').read_text()
        codes = {name: int(value) for name, value in CODE.findall(text)}
        assert {name: getattr(service.Response, name) for name in codes} == codes
        assert codes.pop('NONE') == 0 and service.Response().error_code == 0
        assert not set(codes.values()) & set(seen), f'{service.__name__} repeats a code of {seen}'
        seen |= {code: f'{service.__name__}.{name}' for name, code in codes.items()}
    assert {name.split('.')[1] for name in seen.values()} >= {'NOT_ACTIVE', 'UNKNOWN'}


def test_error_codes_of_queries_are_those_of_the_code() -> None:
    answers = {service.__name__: service.Response for service in QUERIES}
    told: set[str] = set()
    for name, answer in {**answers, 'Imagine': Imagine.Result}.items():
        (path,) = SOURCE.glob(f'*/{name}.*')
        codes = {code: int(value) for code, value in CODE.findall(path.read_text())}
        assert {code: getattr(answer, code) for code in codes} == codes
        assert all(QueryCode[code] == value for code, value in codes.items()), name
        assert {'NONE', 'NOT_ACTIVE', 'UNKNOWN'} <= set(codes) and answer().error_code == 0
        told |= set(codes)
    assert told == {code.name for code in QueryCode}


def test_words_of_queries_are_those_of_the_code() -> None:
    text = (SOURCE / 'msg' / 'ObjectiveTerm.msg').read_text()
    words = dict(re.findall(r'string ([A-Z_]+)=(\w+)', text))
    assert {getattr(ObjectiveTerm, name) for name in words} == set(words.values())
    assert set(words.values()) == {*FIELDS, *OVERS}
    request = EvaluateCandidates.Request
    for wanted in FramesWanted:
        assert getattr(request, f'FRAMES_{wanted.name}') == wanted


def test_wrong_types_are_refused_in_tests() -> None:
    with pytest.raises(AssertionError):
        Prediction(horizon=-1)
