"""What the node says about itself: MemoryStatus, ModelInfo and /diagnostics, from counters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header
from wm_ros_msgs.msg import MemoryStatus, ModelInfo

from wm_ros import memory as memories
from wm_ros.arrivals import RATE_SLACK
from wm_ros.nodes import convert
from wm_ros.nodes.inbox import Inbox
from wm_ros.nodes.loading import Loaded
from wm_ros.nodes.session import Session
from wm_ros.rejection import RejectReason

REJECT_WORDS = frozenset(reason.value for reason in RejectReason)
LATE_SHARE = 0.01  # of the newest predictions may be late before diagnostics warn


def model_info(loaded: Loaded, head: Header) -> ModelInfo:
    """Return the latched description of the loaded model."""
    package, contract = loaded.model.package, loaded.contract
    manifest = package.manifest
    limits_A2, uncertainty = contract.limits_A2, manifest.planning.uncertainty
    return ModelInfo(
        header=head,
        name=package.name,
        arm=package.model.arm,
        backend=loaded.model.backend.name,
        precision=loaded.model.backend.precision,
        backend_reason=loaded.model.backend.reason,
        renderer=manifest.renderer or '',
        image_size=package.model.image_size,
        rate_hz=float(contract.rate_hz),
        action_names=[entry.name for entry in contract.entries],
        action_units=[entry.unit for entry in contract.entries],
        action_low=convert.float_array(limits_A2[:, 0]),
        action_high=convert.float_array(limits_A2[:, 1]),
        action_lead_ms=float(contract.action_lead_ms),
        sampler_steps=len(package.sampler.steps),
        sampler_noise=package.sampler.noise,
        calibrated_draws=0 if uncertainty is None else uncertainty.draws,
        state_bytes=manifest.state_bytes,
        licence=manifest.licence,
        provenance_command=manifest.provenance.command,
        provenance_commit=manifest.provenance.commit,
        package_sha256=package.sha256,
    )


def rejected(session: Session) -> dict[str, int]:
    """Return refusals by `kind.reason`, those of the model's own output included."""
    counts = {
        name: count
        for name, count in sorted(dict(session.synchronizer.counts).items())
        if name.partition('.')[2] in REJECT_WORDS
    }
    if session.statistics.not_finite:
        counts['model.not_finite'] = session.statistics.not_finite
    return counts


def memory_status(session: Session, inbox: Inbox, frame_id: str) -> MemoryStatus:
    """Return how memory and stream are doing."""
    memory, statistics = session.memory, session.statistics
    refused = rejected(session)
    message = MemoryStatus(
        header=convert.header(memory.stamp_ns, frame_id),
        frames=memory.frames,
        state_bytes=memory.nbytes,
        norm=memories.norm(memory),
        finite=all(bool(np.isfinite(array).all()) for array in memory.arrays.values()),
        last_reset_reason=statistics.last_reset or '',
        resets=statistics.resets,
        missing_frames=session.synchronizer.counts['frame.missing'],
        dropped_frames=inbox.dropped_frames,
        deadline_misses=statistics.deadline_misses,
        rejected_names=list(refused),
        drift_psnr=statistics.drift_db.mean(),
        copy_last_psnr=statistics.copy_last_db.mean(),
        latency_p50_ms=statistics.latency_ms.percentile(50),
        latency_p99_ms=statistics.latency_ms.percentile(99),
    )
    message.rejected_counts = list(refused.values())
    return message


@dataclass(frozen=True)
class Ages:
    """Seconds since the newest camera and command message; infinite before the first. `views_s`
    is the same for further cameras, by topic.
    """

    camera_s: float
    action_s: float
    views_s: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def at(cls, session: Session, monotonic_ns: int) -> Ages:
        """Return the ages at an instant of the monotonic clock."""
        statistics = session.statistics

        def age_s(at_ns: int) -> float:
            return (monotonic_ns - at_ns) / 1e9 if at_ns else float('inf')

        views_s = {
            camera.topic: age_s(statistics.view_monotonic_ns.get(camera.topic, 0))
            for camera in session.contract.cameras[1:]
        }
        return cls(
            age_s(statistics.camera_monotonic_ns), age_s(statistics.action_monotonic_ns), views_s
        )


@dataclass(frozen=True)
class Surroundings:
    """What the node has found out about its robot.

    Attributes:
        reliability: topic -> how it is heard, `reliable` or `best_effort`.
        renderer: what draws the camera's frames, as a simulator says; empty for a real camera.
    """

    reliability: Mapping[str, str] = field(default_factory=dict)
    renderer: str = ''


def renderer_mismatch(loaded: Loaded, renderer: str) -> str:
    """Return what is wrong with a simulator's renderer; empty where nothing is."""
    trained = loaded.model.package.manifest.renderer
    if not trained or not renderer or trained == renderer:
        return ''
    return (
        f'the frames are drawn by {renderer}, package {loaded.model.package.name} was trained on '
        f'frames drawn by {trained}: expect worse predictions'
    )


def judge(
    loaded: Loaded, session: Session, ages: Ages, around: Surroundings, stale_s: float
) -> tuple[bytes, str]:
    """Return the diagnostic level and the sentence that explains it; the worst finding counts."""
    statistics = session.statistics
    if statistics.note:
        return DiagnosticStatus.ERROR, statistics.note
    if ages.camera_s > stale_s:
        return DiagnosticStatus.WARN, f'no camera message for {ages.camera_s:.1f} s'
    for topic, age_s in ages.views_s.items():
        if age_s > stale_s:
            return DiagnosticStatus.WARN, f'no message of {topic} for {age_s:.1f} s'
    if ages.action_s > stale_s:
        return DiagnosticStatus.WARN, f'no command for {ages.action_s:.1f} s, holding the last one'
    if not statistics.predictions:
        return DiagnosticStatus.WARN, 'no prediction yet'
    if statistics.latency_ms.percentile(100 * (1 - LATE_SHARE)) > statistics.period_ms:
        return DiagnosticStatus.WARN, (
            f'slower than the camera: {100 * LATE_SHARE:g} % of predictions take '
            f'longer than {statistics.period_ms:.1f} ms'
        )
    rate_hz, expected_hz = session.synchronizer.camera_rate_hz, loaded.contract.rate_hz
    if rate_hz is not None and abs(rate_hz / expected_hz - 1) > RATE_SLACK:
        found = f'the camera sends {rate_hz:.1f} frames/s, the model expects {expected_hz:g}'
        return DiagnosticStatus.WARN, found
    if mismatch := renderer_mismatch(loaded, around.renderer):
        return DiagnosticStatus.WARN, mismatch
    return DiagnosticStatus.OK, 'predicting'


def diagnostics(
    loaded: Loaded,
    session: Session,
    status: MemoryStatus,
    ages: Ages,
    around: Surroundings,
    queries: Mapping[str, object],
    stale_s: float,
    head: Header,
    name: str,
) -> DiagnosticArray:
    """Return one DiagnosticStatus with everything that a person may want to know."""
    level, message = judge(loaded, session, ages, around, stale_s)
    session.statistics.note = ''  # said once
    counts = dict(session.synchronizer.counts)
    camera_rate_hz = session.synchronizer.camera_rate_hz
    values: dict[str, object] = {
        'package': loaded.model.package.name,
        'backend': f'{loaded.model.backend.name} {loaded.model.backend.precision}',
        'backend_reason': loaded.model.backend.reason,
        'package_renderer': loaded.model.package.manifest.renderer or '',
        'camera_renderer': around.renderer,
        'model_rate_hz': f'{loaded.contract.rate_hz:g}',
        'camera_rate_hz': '' if camera_rate_hz is None else f'{camera_rate_hz:.2f}',
        'budget_ms': f'{session.statistics.period_ms:.2f}',
        'latency_p50_ms': f'{status.latency_p50_ms:.2f}',
        'latency_p99_ms': f'{status.latency_p99_ms:.2f}',
        'deadline_misses': status.deadline_misses,
        'predictions': session.statistics.predictions,
        'camera_age_s': f'{ages.camera_s:.3f}',
        **{f'view_age_s {topic}': f'{age_s:.3f}' for topic, age_s in ages.views_s.items()},
        'action_age_s': f'{ages.action_s:.3f}',
        'dropped_frames': status.dropped_frames,
        'missing_frames': status.missing_frames,
        'memory_frames': status.frames,
        'memory_bytes': status.state_bytes,
        'memory_norm': f'{status.norm:.4f}',
        'memory_finite': status.finite,
        'resets': status.resets,
        'last_reset': status.last_reset_reason,
        'drift_psnr_db': f'{status.drift_psnr:.2f}',
        'copy_last_psnr_db': f'{status.copy_last_psnr:.2f}',
        **queries,
        **{f'heard {topic}': how for topic, how in around.reliability.items()},
        **{key: counts[key] for key in sorted(counts)},
    }
    entry = DiagnosticStatus(
        level=level, name=f'{name}: world model', message=message, hardware_id=loaded.contract.name
    )
    entry.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticArray(header=head, status=[entry])
