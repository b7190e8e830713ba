"""A space-time transformer whose tokens are cut over devices: its output and gradients are those of one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from diffjax import config as configs
from diffjax import experiment
from diffjax.data.source import Field
from diffjax.machine.parallel import AXES, Parallel
from diffjax.models.dit import DiT
from diffjax.types import ConfigError

B, SHAPE = 4, (4, 8, 8, 1)  # 32 tokens of a clip, 16 at each of two times
MESHES = ((2, 2, 2), (1, 1, 8), (2, 1, 4), (1, 4, 2))


def network(factorised, cut=None, chunk=0):
  settings = {"channels": 16, "blocks": 2, "heads": 2, "out_channels": 1, "attention_chunk": chunk}
  return DiT(patch=2, tubelet=2, factorised=factorised, cut=cut, **settings)


@pytest.fixture(scope="module", params=[True, False], ids=["factorised", "full"])
def alone(request):
  """(factorised, parameters, inputs, gradients and output of one device)."""
  rng = np.random.default_rng(0)
  x, time = rng.standard_normal((B, *SHAPE), np.float32), rng.uniform(0, 1000, B).astype(np.float32)
  shapes = jax.eval_shape(network(request.param).init, jax.random.key(0), x, time)
  params = jax.tree.map(lambda leaf: 0.1 * rng.standard_normal(leaf.shape, np.float32), shapes)
  return request.param, params, (x, time), jax.jit(gradients(network(request.param)))(params, x, time)


def gradients(net):
  def loss(params, x, time):
    out = net.apply(params, x, time)
    return jnp.square(out - x).mean(), out

  return jax.grad(loss, argnums=(0, 1), has_aux=True)


@pytest.mark.parametrize(
  "shape", [pytest.param(shape, marks=() if shape == MESHES[0] else pytest.mark.slow) for shape in MESHES]
)
def test_what_is_cut_is_what_one_device_has(alone, shape):
  factorised, params, (x, time), want = alone
  chunk = 5 if shape == MESHES[0] and not factorised else 0  # queries at a time
  devices, seen = Parallel("jit", Mesh(np.asarray(jax.devices()).reshape(shape), AXES), small=128), []

  def cut(h, axis):
    h = devices.sequence(h, axis)
    jax.debug.inspect_array_sharding(
      h, callback=lambda place: seen.append((place.shard_shape(h.shape), h.shape, axis))
    )
    return h

  placed = jax.tree.map(lambda leaf: jax.device_put(leaf, devices.of_state(leaf.shape)), params)
  result = jax.jit(gradients(network(factorised, cut, chunk)))(placed, *devices.shard((x, time)))
  for got, truth in zip(jax.tree.leaves(result), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(got, truth, atol=1e-5 * max(1, np.abs(truth).max()))
  assert len(seen) >= 2
  for part, whole, axis in seen:
    assert part[axis] == whole[axis] // shape[2] and part[0] == B // min(B, shape[0] * shape[1])


def settled(**given):
  config = configs.base()
  config.model.name, config.space.pixels.field, config.condition.names = "dit", "video", ()
  config.model.dit.channels, config.model.dit.blocks, config.model.dit.heads = 16, 1, 2
  config.parallel.sequence, config.parallel.model = True, 2
  config.update(given)
  return config


def test_the_config_cuts_every_block_or_says_why_not():
  fields, seen = {"video": Field(SHAPE, "uint8")}, []

  def cut(h, axis):
    seen.append((h.shape, axis))
    return h

  experiment.create(settled(), fields, cut=cut)
  assert set(seen) == {((1, 4, 16, 16), 2)}
  with pytest.raises(ConfigError, match="config.parallel.sequence is True, but config.parallel.model is 1"):
    experiment.create(settled(parallel={"model": 1}), fields, cut=cut)
  with pytest.raises(
    ConfigError, match="cuts a transformer's tokens, but .* config.model.name 'unet', which has none"
  ):
    experiment.create(settled(model={"name": "unet"}), fields, cut=cut)
  devices = Parallel("jit", Mesh(np.asarray(jax.devices()[:3]).reshape(1, 1, 3), AXES))
  with pytest.raises(ConfigError, match="config.model: a sequence of 16 tokens cannot be cut over 3 devices"):
    experiment.create(settled(), fields, cut=devices.sequence)
