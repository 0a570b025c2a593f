"""Pictures for people: enlarged pixels, labelled rows of frames, differences, PNG, HTML, video.

In: uint8 RGB frames. Out: uint8 RGB sheets, PNG bytes, HTML fragments, an MP4. No measures here.

Axes: R rows, T time, H W pixels, C channels.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from matplotlib.figure import Figure

from wm_ros.datatypes import ImageArray

INK, PAPER = (33, 37, 41), (255, 255, 255)
LABEL_PX = 22
GAP_PX = 4
DIFFERENCE_GAIN = 3


def enlarge(image_HWC: ImageArray, side_px: int) -> ImageArray:
    """Return the picture with every pixel repeated, about `side_px` wide."""
    factor = max(1, round(side_px / image_HWC.shape[1]))
    return np.repeat(np.repeat(image_HWC, factor, 0), factor, 1)


def difference(a_HWC: ImageArray, b_HWC: ImageArray, gain: int = DIFFERENCE_GAIN) -> ImageArray:
    """Return |a - b| times `gain`, clipped: black where both agree."""
    gap = np.abs(a_HWC.astype(np.int16) - b_HWC) * gain
    return np.clip(gap, 0, 255).astype(np.uint8)


def label(text: str, width_px: int, height_px: int = LABEL_PX) -> ImageArray:
    """Return a strip of paper with a line of text, cut off where the strip ends."""
    strip = np.full((height_px, width_px, 3), PAPER, np.uint8)
    at = (3, height_px - 7)
    cv2.putText(strip, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
    return strip


def sheet(
    rows: Mapping[str, Sequence[ImageArray]],
    captions: Sequence[str] = (),
    *,
    side_px: int = 128,
    label_width_px: int = 96,
) -> ImageArray:
    """Return one picture: a named row per entry, a column per frame, captions above the columns.

    Raises:
        ValueError: no rows, or rows of unequal length.
    """
    lengths = {name: len(frames) for name, frames in rows.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f'rows of a sheet need the same number of frames, found {lengths}')
    lines: list[ImageArray] = []
    for name, frames in rows.items():
        cells = [enlarge(frame_HWC, side_px) for frame_HWC in frames]
        height = cells[0].shape[0]
        gap = np.full((height, GAP_PX, 3), PAPER, np.uint8)
        head = np.full((height, label_width_px, 3), PAPER, np.uint8)
        head[height // 2 - LABEL_PX // 2 :][:LABEL_PX] = label(name, label_width_px)
        lines.append(np.hstack([head, *(part for cell in cells for part in (cell, gap))]))
    width = lines[0].shape[1]
    if captions:
        column = (width - label_width_px) // len(captions)
        marks = [label(caption, column) for caption in captions]
        top = np.full((LABEL_PX, width, 3), PAPER, np.uint8)
        row = np.hstack(marks)
        top[:, label_width_px : label_width_px + row.shape[1]] = row
        lines.insert(0, top)
    gap_row = np.full((GAP_PX, width, 3), PAPER, np.uint8)
    return np.vstack([part for line in lines for part in (line, gap_row)])


def png(image_HWC: ImageArray) -> bytes:
    """Return the picture as PNG."""
    done, data = cv2.imencode('.png', cv2.cvtColor(image_HWC, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f'cannot write a picture of shape {image_HWC.shape} as PNG')
    return bytes(data)


def jpeg(image_HWC: ImageArray) -> bytes:
    """Return the picture as JPEG of quality 90: a third of the PNG for enlarged frames."""
    bgr_HWC = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode('.jpg', bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not done:
        raise ValueError(f'cannot write a picture of shape {image_HWC.shape} as JPEG')
    return bytes(data)


def figure_png(figure: Figure) -> bytes:
    """Return a matplotlib figure as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format='png', dpi=110, bbox_inches='tight')
    return stream.getvalue()


def html_image(data: bytes, alt: str) -> str:
    """Return an <img> with the PNG or JPEG inside."""
    kind = 'jpeg' if data[:2] == b'\xff\xd8' else 'png'
    return f'<img alt="{alt}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def write_video(path: Path, frames: Iterable[ImageArray], rate_hz: float) -> int:
    """Write frames of equal, even size as H.264 in MP4; return how many.

    Raises:
        ValueError: no frames.
    """
    with Video(path, rate_hz) as video:
        for frame_HWC in frames:
            video.add(frame_HWC)
    if not video.count:
        raise ValueError('no frames to write as video')
    return video.count


class Video:
    """An H.264 film in MP4 that frames are added to one by one. A context manager.

    Args:
        path: file to write.
        rate_hz: frames per second.

    Attributes:
        count: frames added.
    """

    def __init__(self, path: Path, rate_hz: float) -> None:
        self.count = 0
        self._rate = max(1, round(rate_hz))
        self._container = av.open(str(path), 'w', options={'movflags': 'faststart'})
        self._stream: Any = None

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()

    def add(self, frame_HWC: ImageArray) -> None:
        """Add a frame; all have one size, height and width even."""
        if self._stream is None:
            self._stream = self._container.add_stream('libx264', rate=self._rate)
            self._stream.height, self._stream.width = frame_HWC.shape[:2]
            self._stream.pix_fmt = 'yuv420p'
            self._stream.options = {'crf': '20', 'preset': 'veryfast', 'threads': '1'}
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format='rgb24')
        self._container.mux(self._stream.encode(picture))
        self.count += 1
