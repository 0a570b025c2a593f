"""How different two pictures look: distances between the features of an image network.

In: uint8 RGB pictures. Out: float64 distances, 0 for equal pictures and about 2 for pictures that
have nothing in common. The network is the first two thirds of EfficientNet-Lite0, trained on
ImageNet (`perceptual.onnx`, 1.4 MB; NOTICE beside it says whose it is, `tools/make_perceptual.py`
makes it). Knows nothing of models, robots or files.

The distance is that of Zhang et al. 2018, "The unreasonable effectiveness of deep features as a
perceptual metric", eq. 1 with all weights 1: features of length 1, squared difference, mean over
positions, mean over stages. It is not LPIPS: another network, no learned weights.

Measured (one thread, frames of 64 px, medians): 2.4 ms a picture and 0.05 ms a comparison; weights
in fp16 change a distance by less than 0.2 %. At equal mean squared error a missing object of 10 px
costs 10 (simulator) to 50 times (robot) as much as a shift of the brightness. Enlarged to 128 px
that object costs .033 and .027, as it is .024 and .022; 192 px add nothing and take 2.3 times as
long.

Axes: B pictures, H W pixels (h w of a stage), C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from wm_ros.backends.base import EngineUnavailable
from wm_ros.datatypes import FloatArray, ImageArray
from wm_ros.evaluation.metrics import BoolArray, DoubleArray

GRAPH = Path(__file__).with_name('perceptual.onnx')
STAGES = ('stride_2', 'stride_4', 'stride_8', 'stride_16')
SMALLEST_PX, LARGEST_PX = 16, 512
ENLARGED_PX = 128  # of the shorter side
MULTIPLE_PX = 16  # the largest stride
RUN_BATCH = 16  # pictures in the engine at once: bounds its memory, changes no bit of the result


@dataclass(frozen=True)
class Embedded:
    """Pictures as the distance sees them; kept where one is compared with several others.

    Attributes:
        stages_BChw: float32 features of length 1 over the channels, one array per stage; 0.4 MB a
            picture of up to 128 px.
        size_px: height and width of the pictures.
    """

    stages_BChw: tuple[FloatArray, ...]
    size_px: tuple[int, int]

    def __len__(self) -> int:
        return len(self.stages_BChw[0])


class Perceptual:
    """The network, loaded into ONNX Runtime on the CPU. Equal pictures give equal bits, alone or
    among others.

    Args:
        threads: CPU threads of the engine.

    Raises:
        EngineUnavailable: ONNX Runtime is not installed.
    """

    def __init__(self, threads: int = 1) -> None:
        try:
            import onnxruntime as ort
        except ImportError as error:
            text = f'the perceptual distance needs ONNX Runtime (extra `ort` or `gpu`): {error}'
            raise EngineUnavailable(text) from error
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(
            str(GRAPH), options, providers=['CPUExecutionProvider']
        )

    def distances(self, a_BHWC: ImageArray, b_BHWC: ImageArray) -> DoubleArray:
        """Return the distance of each pair of pictures, float64 [B]; see `embed`, `between`."""
        return self.between(self.embed(a_BHWC), self.embed(b_BHWC))

    def embed(self, images_BHWC: ImageArray) -> Embedded:
        """Return the features of pictures.

        Pictures with a shorter side below `ENLARGED_PX` are enlarged to it (cubic); sides that the
        largest stride does not divide are stretched to the nearest that it does.

        Args:
            images_BHWC: uint8 RGB, at least one, sides of 16 to 512 px.

        Raises:
            ValueError: anything else.
        """
        height_px, width_px = _checked_size(images_BHWC)
        scaled_px = _scaled_size(height_px, width_px)
        parts = [
            self._session.run(
                STAGES, {'image': _resized(images_BHWC[i : i + RUN_BATCH], scaled_px)}
            )
            for i in range(0, len(images_BHWC), RUN_BATCH)
        ]
        stages = tuple(np.concatenate(stage) for stage in zip(*parts, strict=True))
        return Embedded(stages, (height_px, width_px))

    def between(self, a: Embedded, b: Embedded, masks_BHW: BoolArray | None = None) -> DoubleArray:
        """Return the distance of each pair, float64 [B].

        Args:
            a, b: equally many pictures of one size.
            masks_BHW: pixels that count, whole pictures when None. A position of a stage counts
                by how much of it lies in the mask; features see some pixels beyond it.

        Raises:
            ValueError: pictures or masks that do not fit, or a mask that holds no pixel.
        """
        if len(a) != len(b) or a.size_px != b.size_px:
            raise ValueError(
                f'{len(a)} pictures of {a.size_px} px and {len(b)} of {b.size_px} px: '
                'expected as many of the same size'
            )
        if masks_BHW is not None:
            _check_masks(masks_BHW, (len(a), *a.size_px))
        total_B = np.zeros(len(a))
        for x_BChw, y_BChw in zip(a.stages_BChw, b.stages_BChw, strict=True):
            squared_Bhw = np.square(x_BChw - y_BChw).sum(1, dtype=np.float64)
            if masks_BHW is None:
                total_B += squared_Bhw.mean((1, 2))
            else:
                weight_Bhw = _shares(masks_BHW, squared_Bhw.shape[1:])
                total_B += (squared_Bhw * weight_Bhw).sum((1, 2)) / weight_Bhw.sum((1, 2))
        return total_B / len(STAGES)


def _checked_size(images_BHWC: ImageArray) -> tuple[int, int]:
    shape, dtype = images_BHWC.shape, images_BHWC.dtype
    if dtype != np.uint8 or len(shape) != 4 or shape[-1] != 3 or not len(images_BHWC):
        raise ValueError(f'{dtype} of shape {shape}: expected uint8 [B, H, W, 3], B at least 1')
    if not all(SMALLEST_PX <= side_px <= LARGEST_PX for side_px in shape[1:3]):
        raise ValueError(
            f'pictures of {shape[1]} x {shape[2]} px: '
            f'expected sides of {SMALLEST_PX} to {LARGEST_PX} px'
        )
    return shape[1], shape[2]


def _check_masks(masks_BHW: BoolArray, expected: tuple[int, ...]) -> None:
    if masks_BHW.shape != expected or masks_BHW.dtype != bool:
        raise ValueError(
            f'masks: {masks_BHW.dtype} of shape {masks_BHW.shape}, expected bool {expected}'
        )
    if not masks_BHW.any((1, 2)).all():
        raise ValueError('a mask is empty: no pixel to compare')


def _scaled_size(height_px: int, width_px: int) -> tuple[int, int]:
    scale = max(1.0, ENLARGED_PX / min(height_px, width_px))
    return (
        MULTIPLE_PX * round(height_px * scale / MULTIPLE_PX),
        MULTIPLE_PX * round(width_px * scale / MULTIPLE_PX),
    )


def _resized(images_BHWC: ImageArray, size_px: tuple[int, int]) -> ImageArray:
    if images_BHWC.shape[1:3] == size_px:
        return images_BHWC
    height_px, width_px = size_px
    return np.stack(
        [
            cv2.resize(image_HWC, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
            for image_HWC in images_BHWC
        ]
    )


def _shares(masks_BHW: BoolArray, size: tuple[int, ...]) -> DoubleArray:
    """Return how much of each position of a stage lies in the mask, float64 [B, h, w]."""
    height, width = size
    return np.stack(
        [
            cv2.resize(mask_HW.astype(np.float64), (width, height), interpolation=cv2.INTER_AREA)
            for mask_HW in masks_BHW
        ]
    )
