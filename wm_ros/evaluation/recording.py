"""Recordings: camera frames and, for the same instants, what was predicted; also read from a bag.

In: arrays, or a bag with a camera and a prediction topic. Out: aligned arrays. Judges nothing.

Axes: T camera frames, H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wm_ros.bag.read import iter_messages, iter_steps, open_bag
from wm_ros.bag.types import BagError
from wm_ros.config import PREDICTION_TOPIC
from wm_ros.contract import StreamContract
from wm_ros.datatypes import ImageArray
from wm_ros.messages import stamp_to_ns
from wm_ros.preprocess import decode_raw
from wm_ros.sim.plan import EpisodePlan

IMAGE = 'sensor_msgs/msg/Image'
PREDICTION = 'wm_ros_msgs/msg/Prediction'


@dataclass(frozen=True)
class Recording:
    """Camera frames and, for each, the prediction of that instant.

    Attributes:
        camera_THWC: uint8 RGB [T, S, S, 3], after the contract's crop and resize.
        prediction_THWC: uint8 RGB [T, S, S, 3], row t shows what was predicted for row t of
            the camera; anything where `predicted_T` is False.
        predicted_T: bool [T], whether a prediction of that instant exists.
        stamps_ns_T: int64 [T], the camera's stamps, growing.
        horizon: frames between the newest observed frame and the predicted one.
        latency_ms: one entry per prediction: from reception of the frame to publication, ms.
        memory_bytes: resident memory of the node over the run, bytes; empty if not sampled.
        moments_ns: what to show besides the automatic choice: text -> stamp of the frame.
    """

    camera_THWC: ImageArray
    prediction_THWC: ImageArray
    predicted_T: npt.NDArray[np.bool_]
    stamps_ns_T: npt.NDArray[np.int64]
    horizon: int = 1
    latency_ms: Sequence[float] = ()
    memory_bytes: Sequence[float] = ()
    moments_ns: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {
            name: len(getattr(self, name))
            for name in ('camera_THWC', 'prediction_THWC', 'predicted_T', 'stamps_ns_T')
        }
        if len(set(lengths.values())) != 1:
            raise ValueError(f'a recording needs one entry per camera frame, found {lengths}')
        if self.camera_THWC.shape != self.prediction_THWC.shape:
            raise ValueError(
                f'camera frames {self.camera_THWC.shape} and predictions '
                f'{self.prediction_THWC.shape} differ in shape'
            )
        if not self.predicted_T.any():
            raise ValueError(f'{len(self.camera_THWC)} camera frames, prediction of none of them')

    @property
    def rate_hz(self) -> float:
        """Camera frames per second, from the median gap of the stamps."""
        if len(self.stamps_ns_T) < 2:
            return 1.0
        return 1e9 / float(np.median(np.diff(self.stamps_ns_T)))

    @property
    def seconds_T(self) -> npt.NDArray[np.float64]:
        """Seconds since the first camera frame."""
        return np.asarray((self.stamps_ns_T - self.stamps_ns_T[0]) / 1e9, np.float64)


def recall_moments(plan: EpisodePlan, stamps_ns_T: Sequence[int]) -> dict[str, int]:
    """Return where a report should look in a played evaluation episode: text -> stamp.

    Args:
        plan: the episode; its tests are the reveals worth looking at.
        stamps_ns_T: stamp of each frame of the plan, as far as it was played.
    """
    return {
        f'{test.fact} shows again after {test.lag} frames': int(stamps_ns_T[test.scored_frame])
        for test in plan.tests
        if test.scored_frame < len(stamps_ns_T)
    }


@dataclass(frozen=True)
class Shown:
    """One predicted picture of a bag: the instant it predicts, how far ahead, how late it came."""

    stamp_ns: int
    horizon: int
    latency_ms: float | None
    image_HWC: ImageArray


def read_recording(
    bag: str | Path,
    contract: StreamContract,
    *,
    topic: str = PREDICTION_TOPIC,
    horizon: int = 1,
    memory_bytes: Sequence[float] = (),
    moments_ns: Mapping[str, int] | None = None,
) -> Recording:
    """Read the camera through the contract and put each prediction beside the frame it predicted.

    Args:
        bag: path of the bag.
        contract: the robot's; its action topics must be in the bag too.
        topic: of type `wm_ros_msgs/msg/Prediction`, or of predicted images stamped with the
            instant they predict.
        horizon: which predictions to show; a topic of images is taken to hold only these.
        memory_bytes, moments_ns: see `Recording`.

    Raises:
        BagError: bag or topic missing, damaged or of another type, or no prediction fits a frame.
    """
    frames = [step.frame for step in iter_steps(bag, contract) if step.frame is not None]
    if not frames:
        raise BagError(f'bag {bag}: no camera frame under contract {contract.name!r}')
    stamps_ns_T = np.array([frame.stamp_ns for frame in frames], np.int64)
    camera_THWC = np.stack([frame.image_HWC for frame in frames])
    prediction_THWC = np.full_like(camera_THWC, 128)
    predicted_T = np.zeros(len(frames), bool)
    latency_ms, found = [], set()
    for shown in _predictions(bag, topic, horizon):
        found.add(shown.horizon)
        if shown.horizon != horizon:
            continue
        if shown.image_HWC.shape != camera_THWC.shape[1:]:
            raise BagError(
                f'bag {bag}: {topic} holds pictures of {shown.image_HWC.shape}, '
                f'the contract makes frames of {camera_THWC.shape[1:]}'
            )
        if shown.latency_ms is not None:
            latency_ms.append(shown.latency_ms)
        at = int(np.abs(stamps_ns_T - shown.stamp_ns).argmin())
        if abs(int(stamps_ns_T[at]) - shown.stamp_ns) <= contract.period_ns // 2:
            prediction_THWC[at], predicted_T[at] = shown.image_HWC, True
    if not predicted_T.any():
        raise BagError(
            f'bag {bag}: {topic} predicts none of the {len(frames)} camera frames at horizon '
            f'{horizon}; horizons found: {sorted(found)}'
        )
    return Recording(
        camera_THWC,
        prediction_THWC,
        predicted_T,
        stamps_ns_T,
        horizon,
        latency_ms,
        memory_bytes,
        moments_ns or {},
    )


def _predictions(bag: str | Path, topic: str, horizon: int) -> Iterator[Shown]:
    with open_bag(bag) as reader:
        msgtype = reader.topics[topic].msgtype if topic in reader.topics else PREDICTION
    if msgtype not in (PREDICTION, IMAGE):
        raise BagError(f'bag {bag}: {topic} is {msgtype}, expected {PREDICTION} or {IMAGE}')
    for _, message, _ in iter_messages(bag, {topic: msgtype}):
        if msgtype == IMAGE:
            yield Shown(stamp_to_ns(message.header.stamp), horizon, None, _picture(message))
        else:
            yield Shown(
                stamp_to_ns(message.header.stamp),
                int(message.horizon),
                float(message.latency_ms),
                _picture(message.image),
            )


def _picture(image: Any) -> ImageArray:
    return decode_raw(
        image.data, image.height, image.width, image.step, image.encoding, image.is_bigendian
    )
