"""CLIP against transformers' CLIPModel, its published sizes, and its loss by its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures import published

from diffjax.interop import configs
from diffjax.models import clip
from diffjax.types import ConfigError

IO = published.arrays("clip")
LARGE_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
LARGE_VISION = {
  "hidden_size": 1024,
  "intermediate_size": 4096,
  "num_hidden_layers": 24,
  "num_attention_heads": 16,
  "patch_size": 14,
}


@pytest.mark.parametrize(
  "config, parameters",
  [
    ({"text_config": {}, "vision_config": {}}, 151_277_313),
    ({"text_config": LARGE_TEXT, "vision_config": LARGE_VISION, "projection_dim": 768}, 427_616_513),
  ],
  ids=["ViT-B/32", "ViT-L/14"],
)
def test_it_has_the_published_number_of_parameters(config, parameters):
  images, text = jnp.zeros((1, 224, 224, 3)), jnp.zeros((1, 77), int)
  assert published.count(configs.clip(config), images, text) == parameters


def test_it_is_transformers():
  net = configs.clip(published.config("clip"))
  variables = published.variables(net, "clip", published.tensors("clip"), IO["images"], IO["ids"])
  pairs = jax.jit(net.apply)(variables, IO["images"], IO["ids"])
  np.testing.assert_allclose(pairs.images, IO["image_embeds"], atol=1e-5)
  np.testing.assert_allclose(pairs.texts, IO["text_embeds"], atol=1e-5)
  scores = clip.logits(pairs)
  np.testing.assert_allclose(scores, IO["logits_per_image"], atol=1e-5)
  np.testing.assert_allclose(clip.softmax(pairs).mean(), IO["loss"], atol=1e-5)

  alone = jax.jit(net.apply)(variables, IO["images"], None)
  assert alone.texts is None
  np.testing.assert_allclose(alone.images, pairs.images, atol=1e-6)
  alone = jax.jit(net.apply)(variables, None, IO["ids"])
  assert alone.images is None
  np.testing.assert_allclose(alone.texts, pairs.texts, atol=1e-6)


B, D = 6, 4


def drawn(scale=1.3, bias=-0.7):
  """Pairs of random unit vectors."""
  rng = np.random.default_rng(0)
  unit = lambda x: jnp.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), jnp.float32)
  pairs = clip.Pairs(
    *(unit(rng.standard_normal((B, D))) for _ in range(2)), jnp.asarray(scale), jnp.asarray(bias)
  )
  return pairs, np.exp(scale) * np.asarray(pairs.images, float) @ np.asarray(pairs.texts, float).T + bias


def test_the_softmax_is_the_mean_of_two_cross_entropies():
  pairs, scores = drawn()
  want = [
    (np.log(np.exp(scores[n]).sum()) + np.log(np.exp(scores[:, n]).sum())) / 2 - scores[n, n]
    for n in range(B)
  ]
  np.testing.assert_allclose(clip.softmax(pairs), want, rtol=1e-5)


def test_the_sigmoid_is_a_decision_for_every_pair():
  pairs, scores = drawn()
  z = 2 * np.eye(B) - 1
  np.testing.assert_allclose(clip.sigmoid(pairs), np.log1p(np.exp(-z * scores)).sum(1), rtol=1e-5)


@pytest.mark.parametrize("loss", clip.CONTRASTS)
def test_chunks_change_nothing_and_take_memory_by_their_size(loss):
  pairs, _ = drawn()
  each = clip.CONTRASTS[loss].each

  def value(pairs, rows):
    return each(pairs, rows) @ jnp.arange(1.0, B + 1)

  whole, parts = (jax.value_and_grad(value)(pairs, rows) for rows in (clip.at_once, clip.in_chunks(2)))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5), parts, whole)
  with pytest.raises(ConfigError, match="chunk is 4, which does not divide the batch of 6"):
    each(pairs, clip.in_chunks(4))

  def needed(rows, batch=1024):
    like = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((batch, *x.shape[1:]) if x.ndim else (), x.dtype), pairs
    )
    step = jax.jit(jax.grad(lambda pairs: each(pairs, rows).mean()))
    return step.lower(like).compile().memory_analysis().temp_size_in_bytes

  small, large = needed(clip.in_chunks(32)), needed(clip.in_chunks(128))
  linear = 96 * 1024 * 4  # bytes of 96 more rows of logits
  assert 0.9 * linear < large - small < 4.5 * linear
  assert needed(clip.at_once) > 3 * large


@pytest.mark.parametrize("loss", clip.CONTRASTS)
def test_copies_of_a_text_have_the_floor_that_is_said(loss):
  text = jnp.asarray([[1, 2], [1, 3], [1, 2], [1, 2]])
  count = clip.copies(text)
  np.testing.assert_array_equal(count, [3, 1, 3, 3])
  np.testing.assert_array_equal(clip.copies(text, clip.in_chunks(2)), count)
  floor = np.asarray(clip.CONTRASTS[loss].floor(count))
  assert floor[1] == 0
  # The least over one logit x between equal ones, those that differ being told apart.
  x = np.linspace(-5, 5, 200_001)
  if loss == "softmax":
    least = np.log(3)  # whatever x is
  else:
    least = (np.log1p(np.exp(-x)) + 2 * np.log1p(np.exp(x))).min()
  np.testing.assert_allclose(floor[0], least, rtol=1e-6)


def test_pairs_that_are_told_apart_cost_nothing_and_others_the_logarithm_of_the_batch():
  pairs = clip.Pairs(jnp.eye(5), jnp.eye(5), jnp.log(100.0))
  np.testing.assert_allclose(clip.softmax(pairs), 0, atol=1e-5)
  np.testing.assert_allclose(clip.sigmoid(pairs._replace(bias=-50.0)), 0, atol=1e-5)
  same = clip.Pairs(jnp.ones((5, 1)), jnp.ones((5, 1)), jnp.asarray(1.0))
  np.testing.assert_allclose(clip.softmax(same), np.log(5), rtol=1e-6)
