"""Whether a network that learns from patches of images can make whole ones."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffjax import conditions as conditioning
from diffjax import keys
from diffjax.conditions import Conditions
from diffjax.data.augment import Augmentation
from diffjax.data.source import Field
from diffjax.types import ConfigError, Unsuitable


def check_patches(
  change: Augmentation,
  shape: tuple[int, ...],
  network: nn.Module,
  conditions: Conditions,
  fields: Mapping[str, Field],
) -> None:
  """Raises Unsuitable unless the network has the same parameters for patches as for whole images."""
  draws = keys.Draws(jax.random.key(0), jnp.zeros(1, int), 1)

  def shapes(patch):
    def init(key):
      x0 = jnp.zeros((1, *shape))
      data = {name: jnp.zeros((1, *field.shape), field.dtype) for name, field in fields.items()}
      data["index"] = draws.index
      if patch:
        x0, data["augment"] = change.apply(x0, draws)
      return network.init(key, x0, jnp.zeros(1), conditioning.values(conditions, data))

    return jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(init, jax.random.key(0)))

  try:
    if (whole := shapes(False)) == shapes(True):
      return
    reason = f"it has {len(jax.tree.leaves(whole))} arrays of parameters for these"
  except ConfigError as error:
    reason = str(error).rstrip(".")
  raise Unsuitable(
    "augmentation",
    f"whose patches the network does not take as it takes whole images ({reason}); take one of the same form for "
    "all sizes, such as a U-Net with config.model.unet.attention=()",
  )
