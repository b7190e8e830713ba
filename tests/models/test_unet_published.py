"""The U-Net in the forms of DDPM and of Stable Diffusion against diffusers', on random weights; published sizes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures import published

from diffjax.interop import configs
from diffjax.interop.names import NAMES
from diffjax.interop.params import to_params
from diffjax.models import MODELS
from diffjax.models.conditioning import Embedded, Table, Widths
from diffjax.models.layers import Conv, Dense, sinusoids

CONTEXT = (("text", lambda widths: published.Tokens(name="text")),)


class Sizes(nn.Module):
  """A pooled text and six numbers in the embedding (Podell et al. 2023, section 2.2), as a condition from outside."""

  widths: Widths
  channels: int

  @nn.compact
  def __call__(self, value):
    pooled, sizes = value
    waves = sinusoids(sizes.reshape(-1), self.channels, 0, cosines_first=True).reshape(len(pooled), -1)
    h = Dense(self.widths.vector, name="dense_0")(jnp.concatenate([pooled, waves], -1))
    return Embedded(vector=Dense(self.widths.vector, name="dense_1")(nn.swish(h)))


def outputs(net, names, io, cond, *several):
  """The network's outputs with each of these tensors, by one compile."""
  args = (io["x"], np.float32(io["time"]), cond)
  shapes, apply = published.shapes(net, *args), jax.jit(net.apply)
  return [apply({"params": to_params(tensors, shapes, names)}, *args) for tensors in several]


def equal(got, want):
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


def test_ddpms_form_is_diffusers():
  io, tensors, config = published.arrays("unet"), published.tensors("unet"), published.config("unet")
  old = {
    name.replace(".to_q.", ".query.").replace(".to_out.0.", ".proj_attn."): t for name, t in tensors.items()
  }
  net = configs.unet(config)
  assert net == MODELS["unet"](4, (1, 2), 1, (8,), 1, 0, 0.0, groups=2, eps=1e-6)
  out, quiet = outputs(net, NAMES["unet"], io, {}, old, published.quiet(tensors))
  equal(out, io["out"])
  equal(quiet, io["out_eps"])


def test_heads_of_equal_width_centred_kernels_waves_and_eps_are_diffusers():
  io, config = published.arrays("unet"), published.config("unet")
  other = {"attention_head_dim": 4, "downsample_padding": 1, "norm_eps": 1e-2}
  net = configs.unet(config | other | {"flip_sin_to_cos": True, "freq_shift": 0})
  (out,) = outputs(net, NAMES["unet"], io, {}, published.tensors("unet"))
  equal(out, io["out_heads"])
  assert np.abs(io["out_heads"] - io["out"]).max() > 0.1


def test_scales_and_shifts_classes_and_bare_blocks_that_resample_are_diffusers():
  io, tensors = published.arrays("unet_scale_shift"), published.tensors("unet_scale_shift")
  classes = (("class", lambda widths: Table(11, widths, name="classes")),)
  net = configs.unet(published.config("unet_scale_shift"), conditions=classes)
  assert net.level_resamples == ("bare_block", "bare_block", "conv") and not net.middle_norm
  out, quiet = outputs(net, NAMES["unet"], io, {"class": io["classes"]}, tensors, published.quiet(tensors))
  equal(out, io["out"])
  equal(quiet, io["out_eps"])


def test_stable_diffusions_form_is_diffusers():
  io, tensors = published.arrays("unet_condition"), published.tensors("unet_condition")
  net = configs.unet(published.config("unet_condition"), conditions=CONTEXT)
  out, quiet = outputs(
    net, NAMES["unet_condition"], io, {"text": io["context"]}, tensors, published.quiet(tensors)
  )
  equal(out, io["out"])
  equal(quiet, io["out_eps"])


def test_stable_diffusion_xls_form_is_diffusers():
  io = published.arrays("unet_condition_xl")
  sizes = ("sizes", lambda widths: Sizes(widths, 4, name="sizes"))
  net = configs.unet(published.config("unet_condition_xl"), conditions=(*CONTEXT, sizes))
  assert (net.head_channels, net.transformers) == (4, (1, 2))
  rows = {f"embedding/sizes/dense_{i}": f"add_embedding.linear_{i + 1}" for i in range(2)}
  names = NAMES["unet_condition"]._replace(modules=NAMES["unet_condition"].modules | rows)
  cond = {"text": io["context"], "sizes": (io["pooled"], io["sizes"])}
  (out,) = outputs(net, names, io, cond, published.tensors("unet_condition_xl"))
  equal(out, io["out"])


XL = {
  "_class_name": "UNet2DConditionModel",
  "sample_size": 128,
  "block_out_channels": [320, 640, 1280],
  "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
  "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
  "attention_head_dim": [5, 10, 20],
  "transformer_layers_per_block": [1, 2, 10],
}


def test_stable_diffusion_xl_has_the_published_number_of_parameters():
  sizes = ("sizes", lambda widths: Sizes(widths, 256, name="sizes"))
  net = configs.unet(XL, conditions=(*CONTEXT, sizes))
  cond = {"text": jnp.zeros((1, 77, 2048)), "sizes": (jnp.zeros((1, 1280)), jnp.zeros((1, 6)))}
  assert published.count(net, jnp.zeros((1, 128, 128, 4)), jnp.zeros(1), cond) == 2_567_463_684


def test_a_centred_kernel_has_its_middle_on_every_other_pixel_from_the_first():
  x = np.random.default_rng(0).standard_normal((1, 4, 6, 1)).astype(np.float32)
  middle = np.zeros((3, 3, 1, 1), np.float32)
  middle[1, 1] = 1
  for centred, first in ((True, 0), (False, 1)):
    layer = Conv(1, stride=2, centred=centred)
    out = layer.apply({"params": {"kernel": middle, "bias": np.zeros(1)}}, x)
    np.testing.assert_array_equal(out, x[:, first::2, first::2])


def test_without_a_context_a_transformer_reads_its_own_pixels_alone():
  net = MODELS["unet"](4, (1,), 1, (4,), 2, transformers=(1,))
  shapes = published.shapes(net, jnp.zeros((1, 4, 4, 3)), jnp.zeros(1))
  assert shapes["middle_attention"]["block_0"].keys() == {"norm_0", "attention", "norm_1", "mlp_0", "mlp_1"}


@pytest.mark.parametrize(
  "change, message",
  [
    ({"act_fn": "mish"}, "act_fn is 'mish', but this network has 'silu'"),
    (
      {"resnet_time_scale_shift": "spatial"},
      "resnet_time_scale_shift is 'spatial', but this network has 'default' or",
    ),
    ({"downsample_type": "conv", "upsample_type": "resnet"}, "upsample_type is 'resnet', but"),
    ({"attn_norm_num_groups": 4}, "attn_norm_num_groups is 4, but"),
    ({"only_cross_attention": True}, "only_cross_attention is True"),
    ({"attention_head_dim": [2, 2]}, r"attention_head_dim makes heads of \[2, 4\] channels"),
    ({"down_block_types": ["DownBlock2D", "SimpleCrossAttnDownBlock2D"]}, "up_block_types is"),
    (
      {
        "down_block_types": ["KDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "KUpBlock2D"],
      },
      "down_block_types has 'KDownBlock2D', but this network has CrossAttnDownBlock2D",
    ),
  ],
)
def test_what_is_not_our_network_is_refused(change, message):
  with pytest.raises(configs.ConfigError, match=message):
    configs.unet(published.config("unet" if "attn_norm_num_groups" in change else "unet_condition") | change)
