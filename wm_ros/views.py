"""The pictures of a contract's further cameras over time, and the tiled picture of a step.

The first camera is the clock (sync.py). To its frame belongs the view of every other camera that
is stamped nearest, at most half a period away; one stamped later than `action_wait_ms` after the
frame does not count for it, live or recorded, because a live frame cannot wait for it. Where none
is, the camera's last view is held, as a command is; one older than the contract's `gap_s` is too
old to be shown as the present. Stamps and pictures only: no ROS, no clock, no threads.
"""

from __future__ import annotations

import bisect
from collections import Counter
from dataclasses import replace

from wm_ros.checks import refused_frame_stamp, refused_order
from wm_ros.contract import StreamContract
from wm_ros.datatypes import Frame
from wm_ros.rejection import Rejection
from wm_ros.tiles import tile

# Views closer together than this are one too many for the contract's rate; frames likewise.
SHORTEST_PERIODS = 0.6
MOST_VIEWS = 256  # held while no frame comes: 10 s at 25 Hz


class ViewTrack:
    """Views of one camera in the order of their stamps.

    Args:
        topic: of the camera, for what is refused.
        contract: rate, waiting time and `gap_s`: how old a view may be that is held, how far ahead
            of its receipt a stamp may be, and how far behind the newest until it speaks of a clock
            that jumped.
    """

    def __init__(self, topic: str, contract: StreamContract) -> None:
        self.topic = topic
        self._period_ns = contract.period_ns
        self._gap_ns = round(contract.reset.gap_s * 1e9)
        self._after_ns = min(round(contract.action_wait_ms * 1e6), contract.period_ns // 2)
        apart_ns = SHORTEST_PERIODS * contract.period_ns
        # A view this close before an instant has no successor that could be nearer, or in time.
        self._settled_ns = max(apart_ns / 2, apart_ns - self._after_ns)
        self._views: list[Frame] = []
        self._newest_ns: int | None = None  # newest stamp accepted, also when let go of since
        self._after_jump: list[Frame] = []  # of a clock that may have jumped backwards
        self._backward_since_ns = 0  # receipt of the first of them

    def push(self, view: Frame, receive_ns: int) -> Rejection | str | None:
        """Add one view.

        Views further behind than `gap_ns` are kept aside. Once nothing else has come for as long,
        their clock is the camera's new clock.

        Returns:
            None, the refusal, or `clock_jump` when a new clock begins with this view.
        """
        refused = refused_frame_stamp(view.stamp_ns, receive_ns, self._gap_ns)
        newest_ns = self._newest_ns
        if refused is None and newest_ns is not None:
            if view.stamp_ns < newest_ns - self._gap_ns:
                return self._push_backward(view, newest_ns, receive_ns)
            refused = self._refused_order(view, newest_ns)
        if refused is not None:
            return self._named(refused)
        self._after_jump = []
        self._newest_ns = view.stamp_ns
        self._views.append(view)
        del self._views[:-MOST_VIEWS]
        return None

    def _push_backward(self, view: Frame, newest_ns: int, receive_ns: int) -> Rejection | str:
        aside = self._after_jump
        if not aside or receive_ns < self._backward_since_ns:
            self._backward_since_ns = receive_ns
        if not aside or self._refused_order(view, aside[-1].stamp_ns) is None:
            aside.append(view)
            del aside[:-MOST_VIEWS]
        if receive_ns - self._backward_since_ns < self._gap_ns:
            return self._named(refused_order(view.stamp_ns, newest_ns, self._period_ns))
        self._take_over([])
        return 'clock_jump'

    def _refused_order(self, view: Frame, newest_ns: int) -> Rejection | None:
        if view.stamp_ns >= newest_ns + SHORTEST_PERIODS * self._period_ns:
            return None
        return refused_order(view.stamp_ns, newest_ns, self._period_ns)

    def _named(self, refused: Rejection) -> Rejection:
        return replace(refused, kind='view', detail=f'{self.topic}: {refused.detail}')

    def settled(self, stamp_ns: int) -> bool:
        """Whether no view that is still to come can be the one for an instant."""
        newest_ns = self._newest_ns
        return newest_ns is not None and newest_ns > stamp_ns - self._settled_ns

    def at(self, stamp_ns: int) -> tuple[Frame, bool] | None:
        """Return the view for an instant and whether it is held from before; None if there is
        none, or none young enough.
        """
        place = bisect.bisect_right(self._views, stamp_ns + self._after_ns, key=_stamp)
        newest = self._views[max(place - 2, 0) : place]
        if not newest:
            return None
        nearest = min(newest, key=lambda view: abs(view.stamp_ns - stamp_ns))
        age_ns = abs(stamp_ns - nearest.stamp_ns)
        return None if age_ns > self._gap_ns else (nearest, 2 * age_ns > self._period_ns)

    def forget(self, before_ns: int) -> None:
        """Drop the views that a newer one has replaced at an instant."""
        place = bisect.bisect_right(self._views, before_ns, key=_stamp)
        del self._views[: max(place - 1, 0)]

    def jump(self, latest_ns: int) -> None:
        """Follow a clock that jumped backwards: forget all views after `latest_ns`."""
        self._take_over([view for view in self._views if view.stamp_ns <= latest_ns])

    def reset(self, stamp_ns: int) -> None:
        """Start afresh at an instant: forget what is too old to be its view."""
        self._views = [
            view for view in self._views if 2 * (stamp_ns - view.stamp_ns) <= self._period_ns
        ]

    def _take_over(self, kept: list[Frame]) -> None:
        self._views = sorted([*kept, *self._after_jump], key=_stamp)
        self._newest_ns = self._views[-1].stamp_ns if self._views else None
        self._after_jump = []


class Views:
    """All further cameras of a contract; with one camera there is nothing to do.

    Args:
        contract: the robot's streams.
    """

    def __init__(self, contract: StreamContract) -> None:
        self._size = contract.image_size
        self._tracks = [ViewTrack(camera.topic, contract) for camera in contract.cameras[1:]]

    def push(self, camera_index: int, view: Frame, receive_ns: int) -> Rejection | str | None:
        """Add a view of a camera (1 for the contract's second); see `ViewTrack.push`."""
        return self._tracks[camera_index - 1].push(view, receive_ns)

    def settled(self, stamp_ns: int) -> bool:
        """Whether every camera's view for an instant is decided."""
        return all(track.settled(stamp_ns) for track in self._tracks)

    def absent(self, stamp_ns: int) -> list[str]:
        """Return the topics of the cameras without a view for an instant."""
        return [track.topic for track in self._tracks if track.at(stamp_ns) is None]

    def complete(self, frame: Frame, counts: Counter[str]) -> Frame:
        """Return the first camera's frame with every camera's view in its picture.

        Args:
            frame: with one camera, the frame of a step; with several, the first one's part of it.
            counts: `view.held <topic>` is counted.

        Raises:
            ValueError: a camera has no view for the frame; `absent` says which.
        """
        if not self._tracks:
            return frame
        views = [frame.image_HWC]
        for track in self._tracks:
            found = track.at(frame.stamp_ns)
            if found is None:
                raise ValueError(f'no view of {track.topic} at {frame.stamp_ns} ns')
            view, held = found
            if held:
                counts[f'view.held {track.topic}'] += 1
            views.append(view.image_HWC)
        return replace(frame, image_HWC=tile(views, self._size))

    def forget(self, before_ns: int) -> None:
        """See `ViewTrack.forget`."""
        for track in self._tracks:
            track.forget(before_ns)

    def jump(self, latest_ns: int) -> None:
        """See `ViewTrack.jump`."""
        for track in self._tracks:
            track.jump(latest_ns)

    def reset(self, stamp_ns: int) -> None:
        """See `ViewTrack.reset`."""
        for track in self._tracks:
            track.reset(stamp_ns)


def _stamp(view: Frame) -> int:
    return view.stamp_ns
