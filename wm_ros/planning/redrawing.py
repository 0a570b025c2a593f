"""How well the tokenizer redraws a picture: whether it can be a goal at all.

A picture of another world is encoded to something all the same, and a search would pursue that.

Axes: H W pixels, C channels.
"""

from __future__ import annotations

import numpy as np

from wm_ros.datatypes import ImageArray
from wm_ros.model_package import ModelPackage
from wm_ros.world_model import WorldModel

# Where the package says nothing (`Planning.goal_db`, by `wm calibrate --write`): one number cannot
# do for all tokenizers. Measured, PSNR in dB, lowest and highest:
#   tabletop_small, wm_ros.sim.goals, 30 goals of each task (bf16): goals 32.1 to 44.1; mirrored
#   27.1 to 29.5, grey 27.8 to 31.2, upside down 19.7 to 23.6, red and blue swapped 24.8 to 25.4,
#   negatives 15.8 to 20.8, noise of 10 of 255 26.7 to 28.1, static 10.7. Its `goal_db`: 29.9.
#   g1_bottle, 393 frames of its camera: 21.8 to 24.9; mirrored 19.7 to 21.9, negatives 16.6 to
#   18.6.
# A picture that is only shifted by 8 px (28 to 35) cannot be told from a goal by this.
WORST_PSNR_DB = 18.0


def goal_bar_db(package: ModelPackage) -> float:
    """Return the PSNR, dB, at which the tokenizer must redraw a picture that is to be a goal."""
    bar_db = package.manifest.planning.goal_db
    return WORST_PSNR_DB if bar_db is None else bar_db


def redraw_db(model: WorldModel, image_HWC: ImageArray) -> float:
    """Return the PSNR, dB, at which the tokenizer redraws a picture, uint8 RGB [S, S, 3]."""
    return psnr_db(image_HWC, model.redraw(model.encode(image_HWC[None]))[0])


def psnr_db(image_HWC: ImageArray, other_HWC: ImageArray) -> float:
    """Return the peak signal-to-noise ratio of two pictures, dB; 138 where they are equal."""
    error = np.square(image_HWC.astype(np.float32) - other_HWC.astype(np.float32)).mean()
    return float(10 * np.log10(255.0**2 / max(float(error), 1e-9)))
