"""The vision transformer against transformers' CLIP, its published sizes, patches and pooling, and its classifier."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures import published

from diffjax.interop.configs import clip
from diffjax.models.vit import Classifier, VisionTransformer
from diffjax.types import ConfigError

IO = published.arrays("clip")
IMAGES = IO["images"]
NET = clip(published.config("clip")).image
SMALL = VisionTransformer(patch=4, channels=12, blocks=2, heads=3)


@pytest.mark.parametrize(
  "fields, size, parameters",
  [
    ({"pre_norm": True, "patch_bias": False}, 224, 87_456_000),
    ({"pre_norm": True, "patch_bias": False, "projection": 512}, 224, 87_456_000 + 393_216),
    ({"patch": 16}, 224, 85_798_656),
    ({"patch": 16, "channels": 1024, "blocks": 24, "heads": 16}, 224, 303_301_632),
  ],
  ids=["CLIP ViT-B/32", "with projection", "ViT-B/16", "ViT-L/16"],
)
def test_it_has_the_published_number_of_parameters(fields, size, parameters):
  assert published.count(VisionTransformer(**fields), jnp.zeros((1, size, size, 3))) == parameters


def test_the_classifier_has_the_published_number_of_parameters():
  net = Classifier(VisionTransformer(patch=16), 1000)
  assert published.count(net, jnp.zeros((1, 224, 224, 3))) == 86_567_656  # ViT-B/16, section 4.1: 86M


@pytest.mark.parametrize("suffix", ["", "_eps"])
def test_it_is_transformers(suffix):
  tensors = published.tensors("clip")
  if suffix:
    tensors = published.quiet(tensors)
  variables = published.variables(clip(published.config("clip")), "clip", tensors, IMAGES, IO["ids"])
  out = jax.jit(NET.apply)({"params": variables["params"]["image"]}, IMAGES)
  np.testing.assert_allclose(out.pooled, IO[f"image_features{suffix}"], atol=1e-5)
  if not suffix:
    np.testing.assert_allclose(out.tokens, IO["vision_last"], atol=1e-5)


def test_the_mean_is_over_normed_patches_and_there_is_no_class_token():
  net = dataclasses.replace(SMALL, pool="mean")
  variables = jax.jit(net.init)(jax.random.key(0), IMAGES)
  norm = {"scale": jnp.linspace(0.5, 2, 12), "bias": jnp.linspace(-1, 1, 12)}
  variables["params"]["norm_out"] = norm
  out = jax.jit(net.apply)(variables, IMAGES)
  assert out.tokens.shape == (3, 9, 12)
  tokens = np.float64(out.tokens)
  unit = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(tokens.var(-1, keepdims=True) + 1e-6)
  np.testing.assert_allclose(out.pooled, (unit * norm["scale"] + norm["bias"]).mean(1), rtol=1e-4, atol=1e-5)


def test_every_patch_of_an_image_that_is_not_square_counts():
  net = dataclasses.replace(SMALL, eps=1e-5)
  images = np.random.default_rng(0).standard_normal((1, 8, 12, 3)).astype(np.float32)
  variables = jax.jit(net.init)(jax.random.key(0), images)
  gradient = jax.jit(jax.grad(lambda x: net.apply(variables, x).pooled[0, 0]))(images)
  assert (gradient != 0).all()


def test_the_classifier_starts_at_zero_and_examples_do_not_couple():
  net = Classifier(SMALL, 5)
  out, variables = jax.jit(net.init_with_output)(jax.random.key(0), IMAGES)
  np.testing.assert_array_equal(out, np.zeros((3, 5)))
  variables["params"]["head"]["kernel"] = jnp.ones((12, 5)) * jnp.arange(12.0)[:, None]
  run = jax.jit(net.apply)
  np.testing.assert_allclose(run(variables, IMAGES)[1:2], run(variables, IMAGES[1:2]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"patch": 5}, "patch=5 must divide the image's sides, but it is 12x12"),
    ({"pool": "max"}, "pool='max' must be one of class, mean"),
  ],
)
def test_what_does_not_fit_is_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    jax.eval_shape(dataclasses.replace(SMALL, **fields).init, jax.random.key(0), IMAGES)


def test_bfloat16_and_remat_change_neither_parameters_nor_the_type_of_outputs():
  variables = jax.jit(SMALL.init)(jax.random.key(0), IMAGES)
  want = jax.jit(SMALL.apply)(variables, IMAGES)
  for fields, tolerance in (({"remat": True}, 1e-5), ({"dtype": "bfloat16"}, 0.1)):
    net = dataclasses.replace(SMALL, **fields)
    assert published.shapes(net, IMAGES) == published.shapes(SMALL, IMAGES)
    out = jax.jit(net.apply)(variables, IMAGES)
    assert out.tokens.dtype == out.pooled.dtype == jnp.float32
    np.testing.assert_allclose(out.pooled, want.pooled, atol=tolerance)
