"""CLIP against transformers' CLIPModel, its published sizes, and its loss by its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures import published

from diffjax.interop import configs
from diffjax.models import clip

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
  np.testing.assert_allclose(clip.contrastive(scores).mean(), IO["loss"], atol=1e-5)

  alone = jax.jit(net.apply)(variables, IO["images"], None)
  assert alone.texts is None
  np.testing.assert_allclose(alone.images, pairs.images, atol=1e-6)
  alone = jax.jit(net.apply)(variables, None, IO["ids"])
  assert alone.images is None
  np.testing.assert_allclose(alone.texts, pairs.texts, atol=1e-6)


def test_an_examples_loss_is_the_mean_of_two_cross_entropies():
  scores = np.random.default_rng(0).standard_normal((4, 4)) * 3
  want = []
  for n in range(4):
    row, column = scores[n], scores[:, n]
    want.append((np.log(np.exp(row).sum()) + np.log(np.exp(column).sum())) / 2 - scores[n, n])
  np.testing.assert_allclose(clip.contrastive(jnp.asarray(scores, jnp.float32)), want, rtol=1e-5)


def test_pairs_that_are_told_apart_cost_nothing_and_others_the_logarithm_of_the_batch():
  np.testing.assert_allclose(clip.contrastive(100 * jnp.eye(5)), 0, atol=1e-6)
  np.testing.assert_allclose(clip.contrastive(jnp.ones((5, 5))), np.log(5), rtol=1e-6)
