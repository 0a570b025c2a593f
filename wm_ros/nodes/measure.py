"""From the logs and the bag of a run to the figures of its summary. Reads files only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wm_ros.bag.read import iter_messages
from wm_ros.nodes.logs import read_log
from wm_ros.nodes.table import INFO_TOPIC, STATUS_TOPIC

WARM_UP_FRAMES = 300


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


def rss_slope(samples: Sequence[MemorySample], received_ns: npt.NDArray[np.int64]) -> float:
    """Return the growth of resident memory after warm-up, bytes per predicted frame.

    The median slope over all pairs of samples (Theil-Sen) after the first 300 predictions (a
    quarter of a shorter run). A leak climbs in steps of 4 KiB pages all along and shows in full
    from two steps on; one step alone, as when a stalled receiver makes a buffer deeper for good,
    does not, and is seen in `rss_growth`. NaN with fewer than three samples.
    """
    frames, warm = warm_samples(samples, received_ns)
    if len(warm) < 3:
        return float('nan')
    rss = np.array([sample.rss_bytes for sample in warm], np.float64)
    first, second = np.triu_indices(len(warm), 1)
    apart = frames[second] - frames[first]
    return float(np.median(((rss[second] - rss[first])[apart > 0]) / apart[apart > 0]))


def rss_growth(
    samples: Sequence[MemorySample], received_ns: npt.NDArray[np.int64]
) -> dict[str, int]:
    """Return last minus first sample after warm-up, bytes: `private` (ours) and `shared` pages."""
    _, warm = warm_samples(samples, received_ns)
    if not warm:
        return {'private': 0, 'shared': 0}
    total = warm[-1].rss_bytes - warm[0].rss_bytes
    shared = warm[-1].shared_bytes - warm[0].shared_bytes
    return {'private': total - shared, 'shared': shared}


def warm_samples(
    samples: Sequence[MemorySample], received_ns: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], list[MemorySample]]:
    """Return the samples between warm-up and the last prediction, and the predictions by then."""
    at_ns = np.array([sample.monotonic_ns for sample in samples], np.int64)
    frames = np.searchsorted(np.sort(received_ns), at_ns).astype(np.int64)
    warm = (frames >= min(WARM_UP_FRAMES, len(received_ns) // 4)) & (frames < len(received_ns))
    return frames[warm], [sample for sample, keep in zip(samples, warm, strict=True) if keep]


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


def summarise(
    bag: Path, latencies: Latencies, samples: Sequence[MemorySample], stream_bytes: int
) -> dict[str, Any]:
    """Return the summary of a run as plain JSON values.

    Args:
        bag: what was recorded.
        latencies: of the run.
        samples: resident memory of the node over the run.
        stream_bytes: resident memory of the node at the last sample.
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
        'rss_slope_bytes_per_frame': round(rss_slope(samples, latencies.received_ns), 2),
        'rss_growth_bytes': rss_growth(samples, latencies.received_ns),
        'rss_mib': round(stream_bytes / 2**20, 1),
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
        'load': [round(value, 2) for value in os.getloadavg()],
        'cpus': os.cpu_count(),
        'commit': commit(),
    }


def commit() -> str:
    """Return the commit of the checkout that this runs from, or `unknown` outside of one."""
    here = Path(__file__).resolve().parents[2]
    command = ['git', '-C', str(here), 'describe', '--always', '--dirty', '--abbrev=12']
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
