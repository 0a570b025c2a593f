"""From the logs and the bag of a run to the figures of its summary. Reads files only.

Growth of resident memory is judged after a warm-up: the first half of the predictions' time, 20 s
at least. Engines, middleware and allocator take their buffers there. Single pages come later too:
in a run of 360 s five after 38 s and one or two after 51, 87, 180 and 259 s, nothing between; in
three runs of 66 s the last after 48, 50 and 69 s.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wm_ros.bag.read import iter_messages
from wm_ros.evaluation import machine
from wm_ros.nodes.logs import read_log
from wm_ros.nodes.table import INFO_TOPIC, STATUS_TOPIC

WARM_UP_S = 20.0
WARM_UP_SHARE = 1 / 2
LEAST_S = 20.0  # after warm-up; less is not judged
LEAST_SAMPLES = 10
STRETCHES = 3
MOST_OWN_BYTES = 64 * 1024  # over what is judged; measured: 24 KiB at most
PAGE_BYTES = resource.getpagesize()


@dataclass(frozen=True)
class MemorySample:
    """Resident memory of the node, bytes, at an instant of the monotonic clock.

    `shared_bytes` of `rss_bytes` are pages of files and shared memory: code, and the segments of
    fixed size in which Fast DDS hands messages over. A page of one counts from its first use.
    """

    monotonic_ns: int
    rss_bytes: int
    shared_bytes: int = 0


@dataclass(frozen=True)
class Latencies:
    """From the camera message published to its first prediction received by another process.

    Attributes:
        total_ms: one entry per answered frame.
        received_ns: when each prediction was received, monotonic clock.
        sent: frames published.
    """

    total_ms: npt.NDArray[np.float64]
    received_ns: npt.NDArray[np.int64]
    sent: int


def read_latencies(publish_log: Path, receive_log: Path) -> Latencies:
    """Join the logs of sender and receiver by the frame's stamp.

    Raises:
        ValueError: no prediction was received.
    """
    sent = {row['stamp_ns']: row['monotonic_ns'] for row in read_log(publish_log)}
    rows = [row for row in read_log(receive_log) if row['horizon'] == 1]
    rows = [row for row in rows if row['source_stamp_ns'] in sent]
    if not rows:
        raise ValueError(f'{len(sent)} frames were sent, no prediction was received')
    received_ns = np.array([row['monotonic_ns'] for row in rows], np.int64)
    sent_ns = np.array([sent[row['source_stamp_ns']] for row in rows], np.int64)
    return Latencies((received_ns - sent_ns) / 1e6, received_ns, len(sent))


@dataclass(frozen=True)
class Growth:
    """Resident memory of the node after warm-up.

    No growth means: none over a stretch as long as a third of the frames judged, wherever it lies,
    and own pages within `MOST_OWN_BYTES`. A process leaks the same from every frame, so a leak
    leaves no stretch longer than it takes to fill a page: 256 frames at 16 bytes per frame. (Not
    before what was freed earlier is filled up: resident memory cannot show that.) What leaks in
    large pieces may leave a stretch, and meets the bound. Steps of an allocator, or of a buffer
    that gets deeper for good, come now and then. Shared pages are outside the bound: their
    segments have a fixed size.

    Attributes:
        warm_up_s: left out, from the first prediction on.
        seconds, frames, samples: what was judged: its length, predictions, readings.
        bytes_per_frame: see `machine.bytes_per_frame`; one step alone does not show in it.
        private_bytes, shared_bytes: last minus first sample, of own and of shared pages.
        flat_frames: the longest stretch without growth.
    """

    warm_up_s: float
    seconds: float
    frames: int
    samples: int
    bytes_per_frame: float
    private_bytes: int
    shared_bytes: int
    flat_frames: int

    @property
    def least_flat_frames(self) -> float:
        """How long the longest stretch without growth must be."""
        return self.frames / STRETCHES

    @property
    def least_seen(self) -> float:
        """Bytes per frame from which a leak leaves no such stretch."""
        return PAGE_BYTES / self.least_flat_frames

    @property
    def text(self) -> str:
        """One sentence for people: what was found, and what can be told apart."""
        total_kb = (self.private_bytes + self.shared_bytes) / 1024
        return (
            f'Resident memory over {self.seconds:.0f} s and {self.frames} frames after a warm-up '
            f'of {self.warm_up_s:.0f} s: {total_kb:+.0f} KB in all, '
            f'{self.bytes_per_frame:+.1f} bytes per frame, none over {self.flat_frames} frames on '
            f'end ({self.samples} samples). No growth means: none over '
            f'{self.least_flat_frames:.0f} on end, own pages at most {MOST_OWN_BYTES / 1024:g} KB '
            f'more in all. A page of {PAGE_BYTES / 1024:g} KB now and then passes; a leak of more '
            f'than {self.least_seen:.1f} bytes per frame does not.'
        )


def rss_growth(
    samples: Sequence[MemorySample], received_ns: npt.NDArray[np.int64]
) -> Growth | str:
    """Judge the growth of resident memory after warm-up, or say why the run is too short for it.

    Args:
        samples: over the run.
        received_ns: when predictions were received, on the same clock; one or more.
    """
    received_ns = np.sort(received_ns)
    length_s = float(received_ns[-1] - received_ns[0]) / 1e9
    warm_up_s = max(WARM_UP_S, WARM_UP_SHARE * length_s)
    warm_ns = received_ns[0] + warm_up_s * 1e9
    warm = [sample for sample in samples if warm_ns <= sample.monotonic_ns <= received_ns[-1]]
    if length_s - warm_up_s < LEAST_S or len(warm) < LEAST_SAMPLES:
        return (
            f'Too short to judge the growth of resident memory: {length_s:.1f} s of predictions, '
            f'{len(warm)} samples after a warm-up of {warm_up_s:.0f} s; expected '
            f'{LEAST_S:.0f} s and {LEAST_SAMPLES} samples after it.'
        )
    frames = np.searchsorted(received_ns, [sample.monotonic_ns for sample in warm])
    if frames[-1] == frames[0]:
        return 'Cannot judge the growth of resident memory: no prediction came between readings.'
    shared = warm[-1].shared_bytes - warm[0].shared_bytes
    rss = np.array([sample.rss_bytes for sample in warm], np.int64)
    earlier, later = np.triu_indices(len(rss))
    apart = frames[later] - frames[earlier]
    return Growth(
        warm_up_s,
        (warm[-1].monotonic_ns - warm[0].monotonic_ns) / 1e9,
        int(frames[-1] - frames[0]),
        len(warm),
        machine.bytes_per_frame(frames, rss),
        warm[-1].rss_bytes - warm[0].rss_bytes - shared,
        shared,
        int(apart[rss[later] <= rss[earlier]].max()),
    )


def read_status(bag: Path) -> tuple[list[Any], Any]:
    """Return every MemoryStatus of a bag, and its ModelInfo.

    Raises:
        ValueError: one of the two is not in it.
    """
    kinds = {
        STATUS_TOPIC: 'wm_ros_msgs/msg/MemoryStatus',
        INFO_TOPIC: 'wm_ros_msgs/msg/ModelInfo',
    }
    found: dict[str, list[Any]] = {topic: [] for topic in kinds}
    for topic, message, _ in iter_messages(bag, kinds):
        found[topic].append(message)
    if missing := [topic for topic, messages in found.items() if not messages]:
        raise ValueError(f'{bag}: no message on {", ".join(missing)}')
    return found[STATUS_TOPIC], found[INFO_TOPIC][0]


def summarise(bag: Path, latencies: Latencies, samples: Sequence[MemorySample]) -> dict[str, Any]:
    """Return the summary of a run as plain JSON values.

    Args:
        bag: what was recorded.
        latencies: of the run.
        samples: resident memory of the node over the run.
    """
    statuses, info = read_status(bag)
    first, last = statuses[0], statuses[-1]
    p50, p95, p99 = (float(np.percentile(latencies.total_ms, q)) for q in (50, 95, 99))
    return {
        'predictions': len(latencies.total_ms),
        'frames_sent': latencies.sent,
        'latency_ms': {
            'p50': round(p50, 3),
            'p95': round(p95, 3),
            'p99': round(p99, 3),
            'max': round(float(latencies.total_ms.max()), 3),
        },
        'state_bytes': {'first': int(first.state_bytes), 'last': int(last.state_bytes)},
        **_memory(rss_growth(samples, latencies.received_ns)),
        'rss_mib': round(samples[-1].rss_bytes / 2**20, 1),
        'backend': str(info.backend),
        'precision': str(info.precision),
        'package': str(info.name),
        'arm': str(info.arm),
        'resets': int(last.resets),
        'missing_frames': int(last.missing_frames),
        'dropped_frames': int(last.dropped_frames),
        'rejected': {
            str(name): int(count)
            for name, count in zip(last.rejected_names, last.rejected_counts, strict=True)
        },
        'load': machine.load(),
        'cpus': os.cpu_count(),
        'commit': machine.commit(),
    }


def _memory(growth: Growth | str) -> dict[str, Any]:
    """Return growth as JSON values; a slope that was not judged is null, and the text says why."""
    if isinstance(growth, str):
        return {'rss_slope_bytes_per_frame': None, 'rss_text': growth}
    return {
        'rss_slope_bytes_per_frame': round(growth.bytes_per_frame, 2),
        'rss_growth': {**asdict(growth), 'page_bytes': PAGE_BYTES},
        'rss_text': growth.text,
    }
