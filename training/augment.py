"""Variations of what a camera saw: shifted, turned, nearer or further, in another light.

A robot's bags show few places: a tokenizer that sees nothing else learns them by heart, and is
10 dB worse on the next recording (docs/log.md). Here no contents change, so what a command does
stays what it was; only `mirror` changes which hand moved, and is for single frames.

Axes: T frames, H W pixels, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from wm_ros.datatypes import ImageArray

# At strength 1.
SHIFT = 0.0625  # of the picture's side
ZOOM = 0.12
TURN_DEG = 4.0
GAIN = 0.12  # of brightness, and half of that of each colour by itself
OFFSET = 10.0  # grey levels


@dataclass(frozen=True)
class Variation:
    """One way to see things.

    Attributes:
        shift: x and y, shares of the side.
        zoom: above 1 is nearer.
        turn_deg: about the centre.
        gain: factors of red, green and blue.
        offset: grey levels added.
        mirror: left is right.
    """

    shift: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0
    turn_deg: float = 0.0
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: float = 0.0
    mirror: bool = False

    def __call__(self, image_HWC: ImageArray) -> ImageArray:
        """Return a uint8 RGB frame as it would be seen so; borders are mirrored."""
        height, width = image_HWC.shape[:2]
        moved = cv2.getRotationMatrix2D((width / 2, height / 2), self.turn_deg, self.zoom)
        moved[:, 2] += self.shift[0] * width, self.shift[1] * height
        seen_HWC = cv2.warpAffine(
            image_HWC, moved, (width, height), borderMode=cv2.BORDER_REFLECT
        )
        if self.mirror:
            seen_HWC = seen_HWC[:, ::-1]
        coloured = seen_HWC * np.asarray(self.gain, np.float32) + np.float32(self.offset)
        return np.clip(np.rint(coloured), 0, 255).astype(np.uint8)

    def of_clip(self, images_THWC: ImageArray) -> ImageArray:
        """Return all frames of a clip, seen in this one way."""
        return np.stack([self(image_HWC) for image_HWC in images_THWC])


def vary(rng: np.random.Generator, strength: float, mirrored: bool = False) -> Variation:
    """Draw a variation.

    Args:
        rng: where from.
        strength: 0 leaves everything as it is.
        mirrored: one in two is.
    """
    shift = rng.uniform(-SHIFT, SHIFT, 2) * strength
    gain = 1 + strength * (rng.uniform(-GAIN, GAIN) + rng.uniform(-GAIN / 2, GAIN / 2, 3))
    variation = Variation(
        shift=(float(shift[0]), float(shift[1])),
        zoom=float(np.exp(rng.uniform(-ZOOM, ZOOM) * strength)),
        turn_deg=float(rng.uniform(-TURN_DEG, TURN_DEG) * strength),
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
        offset=float(rng.uniform(-OFFSET, OFFSET) * strength),
    )
    return replace(variation, mirror=bool(mirrored and rng.random() < 0.5))
