"""The text transformer against transformers' CLIPTextModel, its published sizes, and how it reads and pools."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures import published

from diffjax.interop.configs import clip_text
from diffjax.models.text import TextTransformer
from diffjax.types import ConfigError

LARGE = {"channels": 768, "heads": 12}
IO = published.arrays("clip_text")
IDS = IO["ids"]
NET = clip_text(published.config("clip_text"))


@pytest.fixture(scope="module")
def variables():
  return published.variables(NET, "clip_text", published.tensors("clip_text"), IDS)


@functools.cache
def compiled(net):
  return jax.jit(net.apply)


def read(net, variables, *args):
  return compiled(net)(variables, *args)


@pytest.mark.parametrize(
  "fields, parameters",
  [
    (LARGE, 123_060_480),
    ({}, 63_165_952),
    ({"projection": 512}, 63_165_952 + 262_144),
    ({"channels": 1024, "heads": 16, "blocks": 23, "activation": "gelu"}, 340_387_840),
    ({"channels": 1280, "heads": 20, "blocks": 32, "projection": 1280}, 694_659_840),
  ],
  ids=["ViT-L/14", "ViT-B/32", "with projection", "ViT-H/14", "bigG"],
)
def test_it_has_the_published_number_of_parameters(fields, parameters):
  assert published.count(TextTransformer(**fields), jnp.zeros((1, 77), int)) == parameters


def test_it_is_transformers(variables):
  out = read(NET, variables, IDS)
  np.testing.assert_allclose(out.tokens, IO["last"], atol=1e-5)
  np.testing.assert_allclose(out.pooled, IO["pooled"], atol=1e-5)
  np.testing.assert_allclose(out.penultimate, IO["penultimate"], atol=1e-5)
  masked = read(NET, variables, IDS, IO["mask"] > 0)
  np.testing.assert_allclose(masked.tokens, IO["masked"], atol=1e-5)


def test_a_block_less_is_the_penultimate_layer_normed(variables):
  params = {name: leaf for name, leaf in variables["params"].items() if name != f"block_{NET.blocks - 1}"}
  out = read(dataclasses.replace(NET, blocks=NET.blocks - 1), {"params": params}, IDS)
  np.testing.assert_allclose(out.tokens, IO["penultimate_normed"], atol=1e-5)


def test_its_eps_is_transformers():
  quiet = published.variables(NET, "clip_text", published.quiet(published.tensors("clip_text")), IDS)
  np.testing.assert_allclose(read(NET, quiet, IDS).tokens, IO["last_eps"], atol=1e-5)


def test_exact_gelu_and_the_end_token_by_its_number(variables):
  gelu = dataclasses.replace(NET, activation="gelu", end=99)
  out = read(gelu, variables, IO["gelu_ids"])
  np.testing.assert_allclose(out.tokens, IO["gelu_last"], atol=1e-5)
  np.testing.assert_allclose(out.pooled, IO["gelu_pooled"], atol=1e-5)
  at_41 = read(dataclasses.replace(gelu, end=41), variables, IDS)
  np.testing.assert_allclose(at_41.pooled, IO["pooled_at_41"], atol=1e-5)


def test_negative_tokens_are_no_text(variables):
  """What fills a text up changes nothing that is read of it, without a causal mask too."""
  net = dataclasses.replace(NET, causal=False, pool="mean")
  short = read(net, variables, IDS[:, :4])
  filled = read(net, variables, np.where(np.arange(7) < 4, IDS, -1))
  np.testing.assert_allclose(filled.tokens[:, :4], short.tokens, atol=1e-5)
  np.testing.assert_allclose(filled.pooled, short.pooled, atol=1e-5)
  np.testing.assert_allclose(short.pooled, short.tokens.mean(1), atol=1e-5)
  empty = read(net, variables, np.full((1, 7), -1))
  assert np.isfinite(empty.tokens).all() and not empty.pooled.any()


@pytest.mark.parametrize("causal", [True, False])
def test_a_causal_one_does_not_look_ahead(variables, causal):
  net = dataclasses.replace(NET, causal=causal)
  other = IDS.copy()
  other[:, -1] = 7
  a, b = (read(net, variables, ids).tokens for ids in (IDS, other))
  assert np.array_equal(a[:, :-1], b[:, :-1]) == causal


def test_no_pool():
  net = dataclasses.replace(NET, pool="none")
  out, _ = jax.eval_shape(net.init_with_output, jax.random.key(0), IDS)
  assert out.pooled is None and out.tokens.shape == (*IDS.shape, 16)


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"length": 5}, "length=5 is that of the longest text, but these have 7 tokens"),
    ({"pool": "max"}, "pool='max' must be one of end, mean, none"),
    ({"pool": "none", "projection": 4}, "projection=4 projects the pooled vector"),
  ],
)
def test_what_does_not_fit_is_refused(fields, message):
  with pytest.raises(ConfigError, match=message):
    jax.eval_shape(dataclasses.replace(NET, **fields).init, jax.random.key(0), IDS)


def test_bfloat16_and_remat_change_neither_parameters_nor_the_type_of_outputs(variables):
  want = read(NET, variables, IDS)
  for fields, tolerance in (({"remat": True}, 1e-5), ({"dtype": "bfloat16"}, 0.3)):
    net = dataclasses.replace(NET, **fields)
    assert published.shapes(net, IDS) == published.shapes(NET, IDS)
    out = read(net, variables, IDS)
    assert {leaf.dtype for leaf in out} == {jnp.dtype("float32")}
    np.testing.assert_allclose(out.tokens, want.tokens, atol=tolerance)
