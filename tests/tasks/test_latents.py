"""Diffusion on latents, trained and guided, cut over eight devices, where they are pixels in other units on one."""

import jax
import jax.numpy as jnp
import numpy as np
from dense import Network
from jax.sharding import Mesh

from diffjax import config as configs
from diffjax import experiment, keys
from diffjax.data import SOURCES
from diffjax.data import encoded as edge
from diffjax.data.source import ArraySource
from diffjax.jobs.drawing import Sampling
from diffjax.jobs.train_step import make_chunk, make_step
from diffjax.machine import state
from diffjax.machine.parallel import AXES, Parallel
from diffjax.models import MODELS
from diffjax.spaces import of_pixels
from diffjax.types import Trained

B, STEPS, PLACE, FACTOR, OFFSET = 16, 3, "runs/vae", 3.0, 1.0
DIGITS = SOURCES["digits"]("train").read(np.arange(64), ("image", "label"))
DATA = ArraySource(DIGITS, "digits", {"label": 10})


def multiplied(matrix, x):
  return (x.reshape(len(x), -1) @ matrix).reshape(x.shape)


def encode(params, images):
  z = multiplied(params["matrix"], of_pixels(images)) + OFFSET
  return {"mean": z, "std": jnp.zeros_like(z)}


def decode(params, z):
  return multiplied(jnp.linalg.inv(params["matrix"]), z - OFFSET)


def config_of(**changes):
  c = configs.base()
  c.model.name, c.condition.names, c.condition.label.dropout = "mine", ("label",), 0.2
  c.train.averages, c.train.batch_size, c.train.warmup, c.train.learning_rate = (), B, 0, 1e-2
  c.sample.weights, c.sample.sampler, c.sample.steps, c.sample.batch_size = "raw", "ddim", 3, B
  c.sample.guides, c.sample.classifier_free.w = ("classifier_free",), 2.0
  c.update_from_flattened_dict(changes)
  return c


def run(parts, devices, source):
  """Losses and parameters of a few steps, and what is drawn with these."""
  now = devices.init(lambda: state.create(parts.task.init(keys.seed(7)), parts.optimizer, {}, keys.seed(3)))
  take, losses = devices.train(make_chunk(make_step(parts))), []
  for step in range(STEPS):
    index = np.arange(B) + B * step
    batch = source.read(index, parts.task.fields) | {"index": index.astype(np.int32)}
    chunk = {name: values[None] for name, values in batch.items()}
    now, metrics = take(now, parts.frozen, devices.place(chunk, B))
    losses.append(float(metrics["loss"][0]))
  request = {"index": np.arange(B, dtype=np.int32), "label": np.arange(B, dtype=np.int32) % 10}
  return losses, now.params, Sampling(parts, devices, B).draw(now.params, keys.seed(1), request)["image"]


def mesh(shape):
  return Parallel("jit", Mesh(np.asarray(jax.devices()[: int(np.prod(shape))]).reshape(shape), AXES), 512)


def test_latents_train_and_are_guided_cut_over_eight_devices_as_pixels_in_their_units_on_one(
  tmp_path, monkeypatch
):
  """z = 3 x + 1 brought to mean 0 and deviation 1 is x so brought; the decoder's frozen matrix is cut as well."""
  monkeypatch.setitem(MODELS, "mine", Network)
  x = of_pixels(DIGITS["image"]).astype(np.float64)
  units = {"space.pixels.scale": float(1 / x.std()), "space.pixels.shift": float(x.mean())}
  one, devices = mesh((1, 1, 1)), mesh((1, 8, 1))
  expected = run(experiment.create(config_of(**units), DATA.fields), one, DATA)
  free = {"sample.classifier_free.w": 0.0}
  unguided = Sampling(experiment.create(config_of(**units, **free), DATA.fields), one, B)
  request = {"index": np.arange(B, dtype=np.int32), "label": np.arange(B, dtype=np.int32) % 10}
  assert (unguided.draw(expected[1], keys.seed(1), request)["image"] != expected[2]).mean() > 0.1
  params = devices.init(lambda: {"matrix": FACTOR * jnp.eye(64)})
  assert not params["matrix"].sharding.is_fully_replicated
  result = Trained(PLACE, {"encode": encode, "decode": decode}, params, "0")
  latent = {"space.name": "latent", "space.latent.run": PLACE}
  parts = experiment.create(config_of(**latent), DATA.fields, lambda place, wants: result)
  source = edge.encoded(DATA, parts.task.encodings, devices, str(tmp_path))
  moments = edge.measure(source, parts.task.encodings)
  np.testing.assert_allclose(moments["latent"], [[FACTOR * x.mean() + OFFSET], [FACTOR * x.std()]], rtol=1e-5)
  source = edge.normalised(source, parts.task.encodings, moments)
  losses, params, drawn = run(parts.with_moments(moments), devices, source)
  np.testing.assert_allclose(losses, expected[0], rtol=1e-4)
  for mine, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(expected[1]), strict=True):
    np.testing.assert_allclose(mine, theirs, atol=1e-4)
  assert np.abs(drawn.astype(int) - expected[2]).max() <= 1
