"""A LeRobot dataset into bags, one each per episode, and a contract for them.

A bag holds the pictures of every camera as PNG (or the very bytes of an image feature), the action
as `wm_ros_msgs/msg/Action`, the state as JointState and the task as a latched String, all stamped
with the frame's timestamp. Nothing is lost that the dataset's own videos had not lost.

Axes: T frames of an episode, A action, H W pixels, C channels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from wm_ros.bag import BagRecorder
from wm_ros.bag.record import LATCHED
from wm_ros.bag.stream import (
    STRING,
    action_bytes,
    compressed_image_bytes,
    joint_state_bytes,
    string_bytes,
)
from wm_ros.contract import StreamContract
from wm_ros.contract_init.text import contract_text, widened
from wm_ros.lerobot.info import LeRobotError
from wm_ros.lerobot.read import Dataset, Episode
from wm_ros.preprocess import JPEG_START, PNG_START
from wm_ros.sources import (
    ACTION,
    COMPRESSED_IMAGE,
    JOINT_STATE,
    ActionEntry,
    ActionSource,
    CameraSource,
    ResetPolicy,
)
from wm_ros.tiles import MOST_CAMERAS

ACTION_TOPIC, STATE_TOPIC, TASK_TOPIC = '/action', '/state', '/task'
FIRST_NS = 1_000_000_000  # stamp of an episode's first frame; zero means "no stamp" in ROS
EXACT_S = 1e-3  # timestamps, float32, this close to k / fps mean k / fps
PNG_LEVEL = 1  # of 9: twice as fast as the default for a few per cent of size


@dataclass(frozen=True)
class Imported:
    """What was written: the contract's file, the bags, their frames."""

    contract: Path
    bags: tuple[Path, ...]
    frames: int


def import_dataset(
    dataset: Dataset,
    out: Path,
    *,
    cameras: Sequence[str] = (),
    episodes: range | None = None,
    image_size: int = 64,
    on_bag: Callable[[Path, int], None] = lambda bag, frames: None,
) -> Imported:
    """Write `out/episode_000000` and so on, and `out/contract.yaml`.

    Args:
        dataset: what to read.
        out: folder of the bags; bags that are there already stop the import.
        cameras: feature keys; empty for all. The contract names the first four.
        episodes: which; None for all.
        image_size: of the contract, px. The bags keep the dataset's own size.
        on_bag: told of every finished bag and its frames.

    Raises:
        LeRobotError: the dataset is damaged, or has no such camera or episode; a contract exists.
        BagError: a bag exists or cannot be written.
    """
    chosen = tuple(cameras) or dataset.info.cameras
    topics = _camera_topics(dataset, chosen)
    wanted = range(len(dataset)) if episodes is None else episodes
    if not len(wanted):
        raise LeRobotError(f'{dataset.info.path}: no episode of {len(dataset)} is asked for')
    path = out / 'contract.yaml'
    if path.exists():
        raise LeRobotError(f'{path} exists and may have been edited: give another folder')
    low_A = np.full(dataset.info.action.width, np.inf)
    high_A = -low_A
    bags, frames = [], 0
    for index in wanted:
        episode = dataset.episode(index)
        if not np.isfinite(episode.action_TA).all():
            raise LeRobotError(f'{dataset.info.root}: action of episode {index} is not finite')
        low_A = np.minimum(low_A, episode.action_TA.min(axis=0))
        high_A = np.maximum(high_A, episode.action_TA.max(axis=0))
        bag = out / f'episode_{index:06d}'
        _write_bag(dataset, episode, topics, bag)
        bags.append(bag)
        frames += episode.length
        on_bag(bag, episode.length)
    seen = tuple(topics.values())[:MOST_CAMERAS]
    contract = _contract(dataset, out, seen, low_A, high_A, image_size)
    path.write_text(_text(dataset, contract, topics, low_A, high_A), encoding='utf-8')
    return Imported(path, tuple(bags), frames)


def _camera_topics(dataset: Dataset, keys: Sequence[str]) -> dict[str, str]:
    """Return feature key -> topic."""
    known = dataset.info.cameras
    topics = {}
    for key in keys:
        if key not in known:
            raise LeRobotError(
                f'{dataset.info.path}: features: no camera {key}, found '
                f'{", ".join(known) or "none"}'
            )
        word = key.removeprefix('observation.').removeprefix('images.')
        topics[key] = f'/camera/{re.sub(r"[^A-Za-z0-9]+", "_", word)}/image_raw/compressed'
    if not topics or len(set(topics.values())) < len(topics):
        raise LeRobotError(
            f'{dataset.info.path}: features: cameras {", ".join(topics) or "none"}, expected at '
            'least one, with names that differ in letters and digits'
        )
    return topics


def _write_bag(dataset: Dataset, episode: Episode, topics: Mapping[str, str], bag: Path) -> None:
    stamps_ns = _stamps_ns(episode, dataset.info.fps)
    pictures = [_pictures(dataset, episode, key) for key in topics]
    state = dataset.info.state
    state_names = state.entry_names('state') if state else ()
    task = ''
    with BagRecorder(bag) as recorder:
        recorder.add_topic(TASK_TOPIC, STRING, qos=LATCHED)
        for at, encoded in enumerate(zip(*pictures, strict=True)):
            stamp_ns = stamps_ns[at]
            if episode.tasks_T and episode.tasks_T[at] != task:
                task = episode.tasks_T[at]
                recorder.write(TASK_TOPIC, STRING, string_bytes(task), stamp_ns)
            if episode.state_TD is not None:
                data = joint_state_bytes(state_names, episode.state_TD[at], stamp_ns)
                recorder.write(STATE_TOPIC, JOINT_STATE, data, stamp_ns)
            data = action_bytes(episode.action_TA[at], stamp_ns)
            recorder.write(ACTION_TOPIC, ACTION, data, stamp_ns)
            for (key, topic), (kind, image) in zip(topics.items(), encoded, strict=True):
                data = compressed_image_bytes(image, kind, stamp_ns, key)
                recorder.write(topic, COMPRESSED_IMAGE, data, stamp_ns)


def _stamps_ns(episode: Episode, fps: float) -> list[int]:
    even_T = np.arange(episode.length) / fps
    is_even = np.abs(episode.seconds_T - even_T).max() < EXACT_S
    seconds_T = even_T if is_even else episode.seconds_T
    return [FIRST_NS + round(second * 1e9) for second in seconds_T.tolist()]


def _pictures(dataset: Dataset, episode: Episode, key: str) -> Iterator[tuple[str, bytes]]:
    """Yield (png or jpeg, bytes); one per frame of the episode."""
    if dataset.info.features[key].dtype == 'image':
        for at, data in enumerate(dataset.encoded(episode, key)):
            if not data.startswith((JPEG_START, PNG_START)):
                raise LeRobotError(
                    f'{dataset.info.root}: frame {at} of {key}, episode {episode.index}, begins '
                    f'with {data[:4].hex()}, expected PNG or JPEG'
                )
            yield ('jpeg' if data.startswith(JPEG_START) else 'png'), data
        return
    for image_HWC in dataset.frames(episode, key):
        bgr_HWC = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2BGR)
        _, data_N = cv2.imencode('.png', bgr_HWC, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])
        yield 'png', data_N.tobytes()


def _contract(
    dataset: Dataset,
    out: Path,
    cameras: Sequence[str],
    low_A: np.ndarray,
    high_A: np.ndarray,
    image_size: int,
) -> StreamContract:
    names = dataset.info.action.entry_names('action')
    entries = tuple(
        ActionEntry(name, '1', *widened(low, high, '1'))
        for name, low, high in zip(names, low_A.tolist(), high_A.tolist(), strict=True)
    )
    return StreamContract(
        name=re.sub(r'\W+', '_', out.resolve().name),
        rate_hz=dataset.info.fps,
        image_size=image_size,
        cameras=tuple(CameraSource(topic, COMPRESSED_IMAGE) for topic in cameras),
        actions=(ActionSource(ACTION_TOPIC, ACTION, entries),),
        reset=ResetPolicy(gap_s=max(1.0, round(3 / dataset.info.fps, 1))),
    )


def _text(
    dataset: Dataset,
    contract: StreamContract,
    topics: Mapping[str, str],
    low_A: np.ndarray,
    high_A: np.ndarray,
) -> str:
    others = [f'{topic}: {key}, in the bags too' for key, topic in topics.items()]
    found = {
        entry.name: f'found {low:.4g} to {high:.4g}'
        for entry, low, high in zip(contract.entries, low_A.tolist(), high_A.tolist(), strict=True)
    }
    remarks = {
        '': [
            f'For the bags that `wm import lerobot` made of {dataset.info.root.name} '
            f'(LeRobot {dataset.info.version}).',
            'Limits: the range found, widened on each side by a fifth. Units are not known.',
        ],
        'cameras': others[len(contract.cameras) :],
    }
    return contract_text(contract, remarks, found)
