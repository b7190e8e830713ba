"""The pictures of a run: samples with their requests, the first training batch, the nearest training images."""

from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import UInt8

from diffjax import keys
from diffjax.data import order
from diffjax.data.source import Field, Source
from diffjax.jobs.drawing import image_of
from diffjax.jobs.runs import Run
from diffjax.machine import pictures
from diffjax.metrics.memorization import looked_at, places

GRID, CAPTIONED = 256, 100  # samples in a grid, and in one with captions
NEAREST = 16  # samples that are shown above their nearest training images
FED = 40

Sheet = UInt8[np.ndarray, "height width c"]


def captions(request: Mapping[str, np.ndarray], fields: Mapping[str, Field]) -> list[str] | None:
  """What examples hold besides pictures, in words: their text, or else their class; None where there is neither."""
  texts = {name: fields[name] for name in request if name in fields}
  for name, field in texts.items():
    if field.tokenizer:
      return [field.tokenizer.text(tokens) for tokens in request[name]]
  for name, field in texts.items():
    if field.classes and not field.shape:
      return [field.names[k] if field.names else str(k) for k in request[name].tolist()]
  return None


def sheet(
  images: UInt8[np.ndarray, "n *t h w c"], request: Mapping[str, np.ndarray], fields: Mapping[str, Field]
) -> Sheet:
  """A grid of the first images, or of the strips of the first videos, with their requests as captions."""
  request = {name: values[: min(len(images), CAPTIONED)] for name, values in request.items()}
  words = captions(request, fields)
  return pictures.grid(images[:GRID]) if words is None else pictures.captioned(images[: len(words)], words)


def walk(
  strip: tuple[np.ndarray, np.ndarray, list[str]],
  request: Mapping[str, np.ndarray],
  fields: Mapping[str, Field],
) -> Sheet:
  """What Sampling.strip gives of the first samples, with their requests as captions."""
  request = {name: values[: strip[0].shape[1]] for name, values in request.items()}
  return pictures.walk(*strip, captions(request, fields))


def fed(run: Run) -> Sheet | None:
  """The first examples of the first batch as the network gets them, augmented; None where they are no pictures."""
  config, task = run.config, run.experiment.task
  count = run.parallel.padded(min(FED, config.train.batch_size))
  place = np.arange(count) % config.train.batch_size
  rows = order.indices(config.seed, 0, config.train.batch_size, len(run.data))[place]
  data = run.data.read(rows, tuple(dict.fromkeys((*task.fields, *run.source.fields))))
  images = image_of(data)
  if task.fed:
    key = jax.random.fold_in(keys.seed(config.seed), 0)

    def see(frozen, batch):
      return task.fed(frozen, batch, keys.Draws(key, batch["index"], config.train.batch_size))

    batch = {name: data[name] for name in task.fields} | {"index": place.astype(np.int32)}
    images = image_of(run.parallel.fetch(run.parallel.batched(see)(run.experiment.frozen, batch)))
  return None if images is None else sheet(images[:FED], data, run.fields)


def nearest(images: UInt8[np.ndarray, "n *t h w c"], source: Source) -> Sheet | None:
  """Samples, and below each the training image with the least squared distance in pixels.

  Args:
    images: samples; the first NEAREST are shown.
    source: the training data; its first field of such pictures counts, and see memorization.looked_at.
  """
  shape = images.shape[1:]
  names = [name for name, f in source.fields.items() if f.dtype == "uint8" and f.shape == shape]
  if not names:
    return None
  images = images[:NEAREST]
  train = source.read(np.arange(looked_at(source, shape)), names[:1])[names[0]]
  neighbours = train[places(images, train)]
  gap = np.full((*images.shape[:-3], 1, *images.shape[-2:]), pictures.BACKGROUND, np.uint8)
  return pictures.grid(np.concatenate([images, gap, neighbours], axis=-3), columns=min(8, len(images)))
