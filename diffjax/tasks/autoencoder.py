"""The task "autoencoder": a variational autoencoder of images (Kingma & Welling 2014), as latent diffusion needs one.

    loss = sum over the config's terms of weight x term(x0, reconstruction, moments)                  (1)
    z = mean + exp(logvar / 2) eps,  reconstruction = decode(z)

With one sample of z it is minus the evidence lower bound, where the terms are a negative log-likelihood and the KL. A
small weight of the KL, 1e-6 in Rombach et al. 2022, keeps the latents near the unit Gaussian and no more, so the run
also learns where they lie: mean and deviation of each latent channel over the data, which no gradient passes,

    statistics = argmin |mean - E z|^2 + |square - E z^2|^2                                           (2)
"""

from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffjax import keys
from diffjax.data.augment import Augmentation
from diffjax.data.source import Field
from diffjax.models.autoencoder import draw
from diffjax.spaces import Space, of_pixels
from diffjax.tasks.reconstruction import Term
from diffjax.tasks.task import Drawing, Loss, Task
from diffjax.types import Unsuitable

FASTER = 10.0  # factor on the learning rate of the statistics, which are few and far from their start


def autoencoder(
  space: Callable[..., Space],
  augmentation: Callable[..., Augmentation],
  autoencoder: Callable[..., nn.Module],
  terms: Mapping[str, Callable[..., Term]],
  dtype: str,
  fields: Mapping[str, Field],
) -> Task:
  """The task, of makers of its parts and the fields of the data.

  It draws z from the Gaussian of the statistics and decodes it, which shows how far the latents are from it.

  Raises:
    ConfigError: parts that do not go together.
  """
  space, change = space(fields=fields), augmentation()
  if change.labels:
    raise Unsuitable("augmentation", "which tells a network what was done; choose 'flip' or 'none'")
  if len(space.shape) != 3 or not space.bounded:
    raise Unsuitable(
      "space", f"which is of shape {space.shape}; an autoencoder is of images, choose 'pixels'"
    )
  network = autoencoder(out_channels=space.shape[-1], dtype=dtype)
  terms = [make() for make in terms.values()]
  if not terms:
    raise Unsuitable("terms", "which is empty; name some, ('l2', 'kl') say")

  def apply(params, *arguments, method=None):
    return network.apply({"params": params["model"]}, *arguments, method=method)

  def encode(params, x0):
    return apply(params, x0, method="encode")

  def decode(params, z):
    return apply(params, z, method="decode")

  def statistics(params):
    """Mean and standard deviation [Z] of the latents over the data, by equation (2)."""
    mean, square = params["statistics"]["mean"], params["statistics"]["square"]
    return mean, jnp.sqrt(jnp.maximum(square - mean**2, 1e-6))

  def init(key):
    params = network.init(key, jnp.zeros((1, *space.shape)))["params"]
    channels = jax.eval_shape(lambda: encode({"model": params}, jnp.zeros((1, *space.shape)))).mean.shape[-1]
    return {"model": params, "statistics": {"mean": jnp.zeros(channels), "square": jnp.ones(channels)}}

  def measured(x0, reconstruction, moments):
    return {term.name: term.of(x0, reconstruction, moments) for term in terms}

  def loss(params, frozen, data, draws, memory):
    x0, _ = change.apply(space.encode(data, draws), draws)
    moments = encode(params, x0)
    eps = keys.normal(draws.keys("latent"), moments.mean.shape[1:], moments.mean.dtype)
    z = draw(moments, eps)
    values = measured(x0, decode(params, z), moments)
    total = sum(term.weight * values[term.name] for term in terms)
    held = jax.lax.stop_gradient(z).mean((1, 2)), jax.lax.stop_gradient(z**2).mean((1, 2))
    gaps = (params["statistics"][name] - value for name, value in zip(("mean", "square"), held, strict=True))
    follow = sum(jnp.square(gap).sum(-1) for gap in gaps)
    return Loss(total + follow - jax.lax.stop_gradient(follow), logs=values)

  def held_out(params, frozen, data, case):
    x0 = space.encode(data, None)
    moments = encode(params, x0)
    return measured(x0, decode(params, moments.mean), moments)

  def latents_of(params, images):
    moments = encode(params, of_pixels(images))
    return {"mean": moments.mean, "std": jnp.exp(moments.logvar / 2)}

  return Task(
    init=init,
    loss=loss,
    held_out=held_out,
    fields=space.fields,
    draw=_drawing(space, encode, decode, statistics),
    can={"encode": latents_of, "decode": decode, "statistics": statistics},
    rates={"statistics": FASTER},
  )


def _drawing(space: Space, encode, decode, statistics) -> Drawing:
  """Latents from the Gaussian of the statistics, decoded."""

  def begin(params, frozen, plan, data, sample_keys):
    return jnp.zeros(len(data["index"]))

  def advance(params, frozen, plan, data, sample_keys, carry, start, stop):
    shape = jax.eval_shape(lambda: encode(params, jnp.zeros((1, *space.shape)))).mean.shape[1:]
    mean, deviation = statistics(params)
    z = mean + deviation * keys.normal(keys.purpose(sample_keys, "prior"), shape)
    images = decode(params, z)
    return carry, images, images

  return Drawing(plan=(), stops=1, begin=begin, advance=advance, show=space.decode, evaluations=1)
