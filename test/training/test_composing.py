"""The compositor's stage: it learns from imagined futures, and the world model stays as it is."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from models.autoencoder import Autoencoder
from models.world_model import LatentWorldModel
from training.composing import imagine_futures, train_compositor
from training.recipes import QUICK, REAL, CompositorStage, scaled
from training.world import Clip
from wm_ros.config import ModelConfig

CONFIG = ModelConfig(
    action_width=3,
    image_size=32,
    latent_channels=4,
    tokenizer_width=8,
    patch=1,
    width=32,
    layers=1,
    heads=2,
    writer_width=32,
    memory_heads=2,
    key_width=8,
    value_width=8,
    change_std=0.5,
    reference=True,
)
STAGE = CompositorStage(steps=40, rate=1e-2, clips=4, starts=6, ahead=6, batch=16)
STEPS = (1.0, 2 / 3)


class Drifting:
    """Textured clips that move one pixel to the right a frame."""

    clips = 2

    def practice(self, seed: int, frames: int) -> Clip:
        texture = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
        wide = texture.repeat(4, 0).repeat(4, 1)
        images = np.stack([np.roll(wide, t, 1) for t in range(30)])
        return Clip(images, np.zeros((30, 3), np.float32), np.zeros((30, 0), bool))


@pytest.fixture
def parts() -> SimpleNamespace:
    torch.manual_seed(0)
    autoencoder = Autoencoder(CONFIG).eval().requires_grad_(False)
    return SimpleNamespace(model=LatentWorldModel(CONFIG), autoencoder=autoencoder)


def world() -> Any:
    return Drifting()


def test_futures_stand_beside_what_was_recorded_there(parts: SimpleNamespace) -> None:
    found = imagine_futures(
        parts.model, parts.autoencoder, world(), STAGE, (1.0,), 'deterministic', 0
    )
    depths = 6  # all of 1 .. 6
    assert len(found.seen_NSSC) == 4 * 6 * depths
    # What was recorded d frames on is the seen frame, d pixels further to the right.
    moved = []
    for seen, recorded in zip(found.seen_NSSC, found.recorded_NSSC, strict=True):
        fits = [d for d in range(1, 7) if np.array_equal(np.roll(seen, d, 1), recorded)]
        assert len(fits) == 1
        moved += fits
    assert sorted(set(moved)) == [1, 2, 3, 4, 5, 6]
    # An untrained model holds the last frame.
    torch.testing.assert_close(
        found.imagined_NCHW.float(), found.seen_NCHW.float(), atol=1e-3, rtol=1e-2
    )


def test_it_learns_and_leaves_the_world_model_alone(
    parts: SimpleNamespace, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in parts.model.state_dict().items()}
    model = train_compositor(
        parts.model,
        parts.autoencoder,
        world(),
        replace(STAGE, exact_share=1.0),
        sampler_steps=STEPS,
        noise_mode='deterministic',
        work=tmp_path,
        seed=0,
    )
    changed = {name for name, value in model.state_dict().items()
               if not torch.equal(value, before[name])}
    assert changed and all(name.startswith('compositor.') for name in changed)
    curve = (tmp_path / 'ttt.compositor.jsonl').read_text()
    assert '"step": 25' in curve


def test_a_world_of_short_clips_is_refused(parts: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match='more than the 29 frames'):
        imagine_futures(
            parts.model,
            parts.autoencoder,
            world(),
            replace(STAGE, ahead=29),
            STEPS,
            'deterministic',
            0,
        )


def test_a_recipe_has_the_stage_where_its_model_has_a_reference() -> None:
    assert REAL.compositor is not None and REAL.model.reference
    assert scaled(REAL, 0.1).compositor.steps == round(0.1 * REAL.compositor.steps)
    with pytest.raises(ValueError, match='compositor'):
        replace(REAL, compositor=None)
    with pytest.raises(ValueError, match='compositor'):
        replace(QUICK, compositor=CompositorStage())
