"""Published names and shapes against our trees; old names, other forms, and what is refused."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures import published

from diffjax.interop import configs
from diffjax.interop.names import NAMES, Names
from diffjax.interop.params import current_names, fitted, tensor_names, to_params
from diffjax.models.autoencoder import AutoencoderKL
from diffjax.models.conditioning import Table
from diffjax.models.dit import DiT
from diffjax.models.text import TextTransformer
from diffjax.models.unet import UNet
from diffjax.types import ConfigError

IMAGES, TEXT = jnp.zeros((1, 224, 224, 3)), jnp.zeros((1, 77), int)
WIDE = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
VISION = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
LARGE = {"text_config": WIDE, "vision_config": VISION | {"patch_size": 14}, "projection_dim": 768}
LATENTS, TIME, CLASSES = jnp.zeros((1, 32, 32, 4)), jnp.zeros(1), {"class": jnp.zeros(1, int)}
TOKENS = (("text", lambda widths: published.Tokens(name="text")),)
TABLE = (("class", lambda widths: Table(1001, widths, name="classes")),)
UNET = UNet(
  320, (1, 2, 4, 4), attention=(32, 16, 8), heads=8, transformers=(1,) * 4, conditions=TOKENS, out_channels=4
)
DIT = DiT(patch=2, channels=1152, blocks=28, heads=16, out_channels=8, conditions=TABLE)
PUBLISHED = {
  "stable_diffusion_unet": ("unet_condition", UNET, (LATENTS, TIME, {"text": jnp.zeros((1, 77, 768))})),
  "ddpm_unet": ("unet", UNet(), (jnp.zeros((1, 32, 32, 3)), TIME)),
  "dit_xl_2": ("dit", DIT, (LATENTS, TIME, CLASSES)),
  "stable_diffusion_vae": ("autoencoder_kl", AutoencoderKL(), (IMAGES,)),
  "flux_vae": ("autoencoder_kl", AutoencoderKL(latent_channels=16, latent_convs=False), (IMAGES,)),
  "clip_text_large": ("clip_text", TextTransformer(channels=768, heads=12), (TEXT,)),
  "clip_base_32": ("clip", configs.clip({"text_config": {}, "vision_config": {}}), (IMAGES, TEXT)),
  "clip_large_14": ("clip", configs.clip(LARGE), (IMAGES, TEXT)),
}


@functools.cache
def published_shapes():
  return json.loads((published.ROOT / "names.json").read_text())


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_tensor_is_one_parameter_of_its_shape(name):
  kind, net, args = PUBLISHED[name]
  shapes = published.shapes(net, *args)
  theirs = published_shapes()[name]
  ours = tensor_names(shapes, NAMES[kind])
  # Zeros that take no memory, so that the largest network passes too.
  zeros = {name: np.broadcast_to(np.float32(0), shape) for name, shape in theirs.items()}
  result = current_names(zeros, NAMES[kind], name)
  assert sorted(part for parts in ours.values() for part in parts) == sorted(result)
  leaves = {
    "/".join(key.key for key in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
  }
  for path, parts in ours.items():
    given = [result[part] for part in parts]
    assert fitted(given, path, leaves[path].shape, name).shape == leaves[path].shape


def small(name="autoencoder_kl"):
  """Network, its tensors, kind, and the shapes of its parameters."""
  if name == "clip_text":
    net, args = configs.clip_text(published.config(name)), (jnp.zeros((1, 7), int),)
  else:
    net, args = configs.autoencoder_kl(published.config(name)), (jnp.zeros((1, 16, 16, 3)),)
  return dict(published.tensors(name)), published.shapes(net, *args), NAMES[name]


def same(a, b):
  return jax.tree.all(jax.tree.map(np.array_equal, a, b))


OLD = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}


def test_the_old_names_of_attention_and_its_convolutions():
  tensors, shapes, names = small()
  want = to_params(tensors, shapes, names)
  old = {}
  for name, tensor in tensors.items():
    for new, before in OLD.items():
      name = name.replace(new, before)
    is_kernel = re.search(r"(query|key|value|proj_attn)\.weight", name)
    old[name] = tensor[:, :, None, None] if is_kernel else tensor
  assert len(old.keys() - tensors.keys()) == 16
  assert same(to_params(old, shapes, names), want)
  dense = {name: t[:, :, 0, 0] if t.shape[2:] == (1, 1) else t for name, t in tensors.items()}
  assert sum(a.shape != b.shape for a, b in zip(dense.values(), tensors.values(), strict=True)) > 2
  assert same(to_params(dense, shapes, names), want)


def test_the_prefix_of_old_text_towers_and_their_table_of_positions():
  tensors, shapes, names = small("clip_text")
  old = {f"text_model.{name}": tensor for name, tensor in tensors.items()}
  old["text_model.embeddings.position_ids"] = np.arange(9)[None]
  assert same(to_params(old, shapes, names), to_params(tensors, shapes, names))


@pytest.mark.parametrize("dtype, tolerance", [(np.float16, 1e-3), (jnp.bfloat16, 1e-2)])
def test_half_precision_becomes_float32(dtype, tolerance):
  tensors, shapes, names = small("clip_text")
  params = to_params({name: t.astype(dtype) for name, t in tensors.items()}, shapes, names)
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
  for half, full in zip(
    jax.tree.leaves(params), jax.tree.leaves(to_params(tensors, shapes, names)), strict=True
  ):
    np.testing.assert_allclose(half, full, rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize(
  "change, message",
  [
    (lambda t: t.pop("encoder.conv_in.bias"), r"the file lacks 1 tensors \(encoder.conv_in.bias\); it holds"),
    (lambda t: t.update(extra=t["quant_conv.bias"]), r"has, beyond the network's, 1 tensors \(extra\)"),
    (
      lambda t: t.update({"decoder.conv_inn.bias": t.pop("decoder.conv_in.bias")}),
      r"lacks 1 tensors \(decoder.conv_in.bias, where there is decoder.conv_inn.bias\) and has, beyond",
    ),
    (
      lambda t: [t.pop(name) for name in list(t) if name.startswith("encoder.mid_block.resnets")],
      r"lacks 16 tensors \(.*; \.\.\.\)",
    ),
    (
      lambda t: t.update({"encoder.conv_in.bias": t["encoder.conv_in.bias"][:3]}),
      r"the tensor of encoder/conv_in/bias is \[3\], which does not fit \[4\]",
    ),
    (
      lambda t: t.update({"encoder.conv_in.weight": t["encoder.conv_in.weight"].transpose(1, 0, 2, 3)}),
      r"encoder/conv_in/kernel is \[3, 4, 3, 3\], which does not fit \[3, 3, 3, 4\]",
    ),
    (
      lambda t: t.update({"encoder.conv_in.weight": t["encoder.conv_in.weight"].reshape(4, 27)}),
      r"encoder/conv_in/kernel is \[4, 27\], which does not fit",
    ),
    (
      lambda t: t.update({"quant_conv.bias": np.zeros(8, int)}),
      "moments_conv/bias is int64; it must hold float",
    ),
    (
      lambda t: t.update(
        {"decoder.mid_block.attentions.0.query.bias": t["decoder.mid_block.attentions.0.to_q.bias"]}
      ),
      "has the tensor decoder.mid_block.attentions.0.to_q.bias under two names",
    ),
  ],
  ids=["missing", "extra", "nearest", "many", "short", "transposed", "flat", "integers", "twice"],
)
def test_what_does_not_fit_is_refused(change, message):
  tensors, shapes, names = small()
  change(tensors)
  with pytest.raises(ConfigError, match=message):
    to_params(tensors, shapes, names)


def test_a_table_must_name_every_parameter_once():
  shapes = {"a": {"kernel": jnp.zeros((2, 2))}}
  with pytest.raises(KeyError, match="0 rows name the parameter a/kernel"):
    tensor_names(shapes, Names({"b": "b"}))
  with pytest.raises(KeyError, match="2 rows name the parameter a/kernel"):
    tensor_names(shapes, Names({"a": "x"}, {"a/kernel": "y"}))


def test_equal_copies_are_one_parameter_and_others_are_refused():
  net = configs.dit(published.config("dit"), (("class", lambda widths: Table(11, widths, name="classes")),))
  shapes = published.shapes(net, jnp.zeros((1, 8, 8, 4)), TIME, CLASSES)
  tensors = dict(published.tensors("dit"))
  name = "transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias"
  tensors[name] = tensors[name] + 1
  with pytest.raises(ConfigError, match=f"several copies of embedding.timestep_embedder.*{name} differs"):
    to_params(tensors, shapes, NAMES["dit"])


def test_parts_of_other_shapes_are_refused():
  parts = [np.zeros((4, 4), np.float32), np.zeros((4, 4, 1, 1), np.float32)]
  with pytest.raises(ConfigError, match=r"of a/kernel are \[4, 4\], \[4, 4, 1, 1\]; their shapes must agree"):
    fitted(parts, "a/kernel", (4, 8), "the file")


def test_numbers_count_from_the_end_where_a_row_says_so():
  leaf = {"kernel": jnp.zeros((2, 2))}
  shapes = {"up_0_0": {"one": leaf}, "up_1_0": {"two": leaf}, "up_2_0": {"two": leaf}}
  rows = {"up_{level}_{i}/one": "u.{-level}.{i}.one", "up_{level}_{i}/two": "u.{-level}.{i}.two"}
  assert tensor_names(shapes, Names(rows)) == {
    "up_0_0/one/kernel": ("u.2.0.one.weight",),
    "up_1_0/two/kernel": ("u.1.0.two.weight",),
    "up_2_0/two/kernel": ("u.0.0.two.weight",),
  }
