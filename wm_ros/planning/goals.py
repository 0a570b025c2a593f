"""From goal pictures to a goal term, or the reason why not.

What needs no model is checked at once, when a `GoalPictures` is made; encoding, and the check that
the tokenizer can represent the picture at all, are done in pieces by whoever owns the model.

Axes: G goals (alternatives), H W pixels or latent cells, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wm_ros.config import ModelConfig
from wm_ros.datatypes import FloatArray, ImageArray
from wm_ros.model_package import ModelPackage
from wm_ros.planning.errors import QueryCode, QueryError
from wm_ros.planning.objectives import LAST, GoalImage, Objective, check_over
from wm_ros.planning.redrawing import goal_bar_db, psnr_db
from wm_ros.preprocess import crop_box
from wm_ros.sources import CropBox
from wm_ros.world_model import WorldModel

FLAT_STD = 2.0  # of 255; a lens cap or an empty buffer is below, a dim scene is not


@dataclass(frozen=True)
class Region:
    """A rectangle in pixels of the model's picture (fractions allowed)."""

    left: float
    top: float
    width: float
    height: float

    def weights_HW(self, size: int, cells: int) -> FloatArray:
        """Return the covered share of each latent cell, float32 [cells, cells].

        Args:
            size: side of the model's picture, px.
            cells: latent cells per side.

        Raises:
            QueryError: INVALID_GOAL, the region is empty or leaves the picture.
        """
        inside = (
            self.width > 0
            and self.height > 0
            and self.left >= -1e-6
            and self.top >= -1e-6
            and self.left + self.width <= size + 1e-6
            and self.top + self.height <= size + 1e-6
        )
        if not inside:
            raise QueryError(
                QueryCode.INVALID_GOAL,
                f'region of {self.width:g} x {self.height:g} px at {self.left:g}, {self.top:g}: '
                f'expected one of some size inside the picture of {size} x {size} px',
            )
        rows_H = _covered(self.top, self.height, size / cells, cells)
        columns_W = _covered(self.left, self.width, size / cells, cells)
        return np.outer(rows_H, columns_W).astype(np.float32)

    @classmethod
    def of_camera(
        cls,
        left: int,
        top: int,
        width: int,
        height: int,
        *,
        image_width: int,
        image_height: int,
        crop: CropBox | None,
        size: int,
    ) -> Region:
        """Build from a rectangle in pixels of the camera's picture.

        Args:
            left: first column.
            top: first row.
            width: columns.
            height: rows.
            image_width: columns of the camera's picture.
            image_height: rows of it.
            crop: the contract's.
            size: side of the model's picture, px.

        Raises:
            QueryError: INVALID_GOAL, empty, outside the camera's picture or outside the part that
                the model sees.
        """
        if width < 1 or height < 1:
            raise QueryError(
                QueryCode.INVALID_GOAL, f'region of {width} x {height} px: it has no size'
            )
        if min(left, top) < 0 or left + width > image_width or top + height > image_height:
            raise QueryError(
                QueryCode.INVALID_GOAL,
                f'region of {width} x {height} px at {left}, {top} leaves the picture of '
                f'{image_width} x {image_height} px',
            )
        box = crop_box(image_height, image_width, crop)
        right, bottom = (
            min(left + width, box.left + box.width),
            min(top + height, box.top + box.height),
        )
        left, top = max(left, box.left), max(top, box.top)
        if right <= left or bottom <= top:
            raise QueryError(
                QueryCode.INVALID_GOAL,
                f'region lies outside the part that the model sees: {box.width} x {box.height} px '
                f'at {box.left}, {box.top}',
            )
        scale = size / box.width
        return cls(
            (left - box.left) * scale,
            (top - box.top) * scale,
            (right - left) * scale,
            (bottom - top) * scale,
        )


@dataclass(frozen=True, eq=False)
class GoalPictures:
    """A goal term whose pictures are not encoded yet.

    Attributes:
        images_GHWC: uint8 RGB of the model's size; alternatives, the nearest one counts.
        weight: of the term.
        region: the part that counts, None for the whole picture.
        over: as in `GoalImage`.
        name: of the term.
    """

    images_GHWC: ImageArray
    weight: float = 1.0
    region: Region | None = None
    over: str = LAST
    name: str = 'goal_image'

    def __post_init__(self) -> None:
        check_over(self.over)
        check_pictures(self.images_GHWC)

    @property
    def units(self) -> int:
        """Pieces of work that `prepare` takes."""
        return len(self.images_GHWC)

    def check(self, package: ModelPackage) -> None:
        """See `Objective.check`."""
        size = package.model.image_size
        rows, columns = self.images_GHWC.shape[1:3]
        if (rows, columns) != (size, size):
            raise QueryError(
                QueryCode.INVALID_GOAL,
                f'goals of {columns} x {rows} px: expected {size} x {size} px',
            )
        self._mask_HW(package.model)

    def prepare(self, model: WorldModel) -> Iterator[GoalImage | None]:
        """Encode one picture per item and hold it against its decoding; the last item is the
        finished term, the others are None.

        Raises:
            QueryError: INVALID_GOAL, the tokenizer does not know such a picture.
        """
        mask_HW = self._mask_HW(model.package.model)
        bar_db = goal_bar_db(model.package)
        latents = []
        for index, image_HWC in enumerate(self.images_GHWC):
            latent_BCHW = model.encode(image_HWC[None])
            found_db = psnr_db(image_HWC, model.redraw(latent_BCHW)[0])
            if not found_db >= bar_db:
                raise QueryError(
                    QueryCode.INVALID_GOAL,
                    f"goal {index} is not of this robot's world: the model can redraw it only at "
                    f'{found_db:.1f} dB, expected {bar_db:g} dB or more',
                )
            latents.append(latent_BCHW[:, : model.package.model.latent_channels])
            if index < len(self.images_GHWC) - 1:
                yield None
        yield GoalImage(
            np.concatenate(latents), self.weight, mask_HW, over=self.over, name=self.name
        )

    def _mask_HW(self, config: ModelConfig) -> FloatArray | None:
        if self.region is None:
            return None
        return self.region.weights_HW(config.image_size, config.latent_size)

    def encoded(self, model: WorldModel) -> GoalImage:
        """Return the finished term at once; refuses as `check` and `prepare` do."""
        self.check(model.package)
        *_, term = self.prepare(model)
        if term is None:
            raise RuntimeError('the last item of prepare is the term')
        return term


Term = Objective | GoalPictures  # what a query may hold


def check_pictures(images_GHWC: npt.NDArray[Any]) -> None:
    """Refuse goal pictures that no model could take.

    Args:
        images_GHWC: anything that claims to be uint8 RGB [G, S, S, 3].

    Raises:
        QueryError: INVALID_GOAL with what was found and what was expected.
    """
    if images_GHWC.dtype != np.uint8 or images_GHWC.ndim != 4 or images_GHWC.shape[3] != 3:
        raise QueryError(
            QueryCode.INVALID_GOAL,
            f'goals are {images_GHWC.dtype} {list(images_GHWC.shape)}: expected uint8 RGB '
            '[goals, rows, columns, 3]',
        )
    if not len(images_GHWC):
        raise QueryError(QueryCode.INVALID_GOAL, 'no goal picture: expected at least one')
    for index, image_HWC in enumerate(images_GHWC):
        if (std := float(image_HWC.std())) < FLAT_STD:
            raise QueryError(
                QueryCode.INVALID_GOAL,
                f'goal {index} is flat: its values vary by {std:.2f} of 255, expected at least '
                f'{FLAT_STD:g}',
            )


def _covered(start: float, length: float, cell: float, cells: int) -> npt.NDArray[np.float64]:
    low = np.arange(cells) * cell
    return np.clip(np.minimum(low + cell, start + length) - np.maximum(low, start), 0, None) / cell
