"""The compositor: what it shows before it has learnt, and what its outputs mean."""

from dataclasses import replace

import pytest
import torch

from models.autoencoder import Autoencoder
from models.compositor import REACH, Compositor, split, with_reference
from models.world_model import LatentWorldModel
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
    reference=True,
)


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def codes() -> torch.Tensor:
    return torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))


def test_what_is_packed_into_a_latent_comes_out_again(frames: torch.Tensor) -> None:
    code = codes()
    latent = with_reference(code, frames)
    assert latent.shape[1:] == CONFIG.latent_shape
    for found, given in zip(split(latent, CONFIG), (code, code, frames), strict=True):
        assert torch.equal(found, given)


def test_untrained_it_shows_the_seen_frame_and_a_little_of_the_decoded(
    frames: torch.Tensor,
) -> None:
    decoded = torch.full_like(frames, 0.5)
    shown = Compositor(CONFIG)(codes(), codes(), frames, decoded)
    share = torch.sigmoid(torch.tensor(2.0))
    torch.testing.assert_close(shown, share * frames + (1 - share) * decoded)


def test_where_nothing_was_seen_it_shows_what_is_decoded(frames: torch.Tensor) -> None:
    compositor = Compositor(CONFIG)
    torch.nn.init.normal_(compositor.out.weight)
    nothing = torch.cat([torch.zeros(1, 3, 32, 32), frames[:1]])
    shown = compositor(codes(), codes(), nothing, frames)
    assert torch.equal(shown[0], frames[0])
    assert not torch.equal(shown[1], frames[1])


def test_a_flow_of_two_pixels_fetches_what_lies_two_pixels_on(frames: torch.Tensor) -> None:
    compositor = Compositor(CONFIG)
    with torch.no_grad():  # half a picture is 16 px
        compositor.out.bias.copy_(torch.tensor([2 / 16 / REACH, -1 / 16 / REACH, 30.0]))
    shown = compositor(codes(), codes(), frames, torch.zeros_like(frames))
    torch.testing.assert_close(
        shown[:, :, 1:, :-2], frames[:, :, :-1, 2:], atol=1e-4, rtol=1e-4
    )


def test_a_model_has_one_only_where_latents_carry_a_reference() -> None:
    assert LatentWorldModel(CONFIG).compositor is not None
    without = LatentWorldModel(replace(CONFIG, reference=False))
    assert without.compositor is None
    assert not any('compositor' in name for name in without.state_dict())
    assert Autoencoder(CONFIG).encode(torch.zeros(1, 3, 32, 32)).shape[1:] == CONFIG.coded_shape
