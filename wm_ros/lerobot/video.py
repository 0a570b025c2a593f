"""Frames out of and into MP4 files, by PyAV. Many episodes may share a file.

In and out: uint8 RGB pictures [H, W, 3]. Knows nothing of datasets.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import ImageArray
from wm_ros.lerobot.info import LeRobotError

CODEC, QUALITY, KEY_EVERY = 'libx264', 18, 12  # crf, frames between key frames


def read_frames(
    path: Path, from_s: float, seconds_T: npt.NDArray[np.float64], fps: float, where: str
) -> Iterator[ImageArray]:
    """Yield the frames of one episode.

    Args:
        path: MP4 file.
        from_s: where in it the episode begins.
        seconds_T: timestamps of the frames, from the episode's beginning.
        fps: frames per second; a frame may be half a period from its timestamp.
        where: feature and episode, for errors.

    Raises:
        LeRobotError: the file is missing or damaged, or has no frame for a timestamp; names file
            and frame.
    """
    if not path.is_file():
        raise LeRobotError(f'{path} is missing ({where})')
    half_s = 0.5 / fps
    read = 0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            base, start = stream.time_base, stream.start_time or 0
            if from_s > half_s:
                container.seek(int(from_s / base) + start, stream=stream)
            for frame in container.decode(stream):
                at_s = float((frame.pts - start) * base) - from_s
                if at_s < seconds_T[0] - half_s:
                    continue
                if abs(at_s - seconds_T[read]) > half_s:
                    raise LeRobotError(
                        f'{path}: frame {read} of {where} is at {at_s:.4f} s of the episode, '
                        f'expected {seconds_T[read]:.4f} s'
                    )
                yield np.ascontiguousarray(frame.to_ndarray(format='rgb24'))
                read += 1
                if read == len(seconds_T):
                    return
    except (av.FFmpegError, IndexError) as error:
        raise LeRobotError(f'{path}: damaged after frame {read} of {where}: {error}') from error
    raise LeRobotError(f'{path}: {read} frames of {where}, expected {len(seconds_T)}')


class VideoWriter:
    """Writes one MP4: H.264, crf 18, a key frame every 12 frames.

    `frames` and `bytes` are what was encoded so far.

    Args:
        path: the file; its folder is made.
        fps: frames per second.
        height, width: of every picture, px. Odd sizes are kept by not halving the colours.
    """

    def __init__(self, path: Path, fps: float, height: int, width: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.frames = self.bytes = 0
        self._container = av.open(str(path), 'w')
        rate = Fraction(fps).limit_denominator(10000)
        self._stream = self._container.add_stream(CODEC, rate=rate)
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = 'yuv444p' if height % 2 or width % 2 else 'yuv420p'
        self._stream.options = {'crf': str(QUALITY), 'g': str(KEY_EVERY)}
        self._stream.thread_count = 1
        self._period = 1 / rate

    @property
    def pix_fmt(self) -> str:
        """How the colours are stored."""
        return str(self._stream.pix_fmt)

    def write(self, image_HWC: ImageArray) -> None:
        """Append one uint8 RGB picture [H, W, 3]."""
        frame = av.VideoFrame.from_ndarray(image_HWC, format='rgb24')
        frame.pts, frame.time_base = self.frames, self._period
        self._mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Write what the encoder holds, and the index."""
        self._mux(self._stream.encode())
        self._container.close()

    def _mux(self, packets: list[av.Packet]) -> None:
        self.bytes += sum(packet.size for packet in packets)
        self._container.mux(packets)
