"""Samples of a run as conditions of another run: the stages of a cascade, a prior and its decoder.

They lie beside the run's own samples, CHUNK in a file with a picture, so that a chain that was killed goes on where it
was, and what one later stage has asked for another need not draw.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import keys
from diffjax.data import cache
from diffjax.data.source import Field, Source
from diffjax.experiment import Experiment
from diffjax.jobs import results
from diffjax.jobs.drawing import Samples, Sampling, image_of
from diffjax.machine import pictures
from diffjax.machine.parallel import Parallel
from diffjax.types import Params

CHUNK = 1024
SHOWN = 256
AGAIN = 1 << 26  # further on, the samples' numbers begin anew


@dataclasses.dataclass(frozen=True)
class Stage:
  """A trained run whose samples are conditions of another run.

  Attributes:
    experiment: its objects, config.sample.seed that of the chain.
    fields: of its data.
    step, weights: of its checkpoint, and what they are called.
    folder: its workdir.
    parallel: the devices.
  """

  experiment: Experiment
  fields: Mapping[str, Field]
  step: int
  weights: str
  folder: Path
  parallel: Parallel

  def request(self, index: np.ndarray, source: Source | None, prompts: Sequence[str]) -> Samples:
    """What its samples of these numbers ask for: of the texts `prompts` in turn, where there are any."""
    request = {"index": index.astype(np.int32)} | self.experiment.task.request(index, source)
    for name, field in self.fields.items():
      if prompts and field.tokenizer and name in request:
        request[name] = field.tokenizer(list(prompts), "prompts")[index % len(prompts)]
    return request

  def sample(
    self,
    params: Params,
    index: np.ndarray,
    source: Source | None,
    prompts: Sequence[str] = (),
    again: int = 0,
  ) -> tuple[Samples, Samples]:
    """Samples `index` and their request, by field, each [n, ...].

    With `again` they ask for the same, and are drawn as those of the numbers AGAIN again further on.
    """
    request, parts, drawing = self.request(index, source, prompts), [], None
    request["index"] = request["index"] + np.int32(again * AGAIN)
    names = self.shapes(params)
    for start in range(0, len(index), CHUNK):
      part = {name: values[start : start + CHUNK] for name, values in request.items()}
      name = results.name_of_samples(self.experiment, self.step, self.weights, params, part)
      place = self.folder / "samples" / f"{name}.npz"
      samples = cache.load_fields(place, len(part["index"]))
      if not self.parallel.agree(samples is not None):
        drawing = drawing or Sampling(self.experiment, self.parallel, min(len(index), CHUNK), source)
        samples = drawing.draw(params, keys.seed(self.experiment.config.sample.seed), part)
        if self.parallel.process_index == 0:
          self._keep(place, samples, part)
      parts.append({name: samples[name] for name in names})
    return {name: np.concatenate([part[name] for part in parts]) for name in names}, request

  def _keep(self, place: Path, samples: Samples, request: Samples) -> None:
    """Writes them as --mode=sample does, but for the strip."""
    with cache.keeping(place):
      place.parent.mkdir(parents=True, exist_ok=True)
      images = image_of(samples)
      if images is not None:
        pictures.save_png(place.with_name(f"{place.stem}_grid.png"), pictures.grid(images[:SHOWN]))
      rest = {name: values for name, values in request.items() if name not in (*samples, "index")}
      cache.save_fields(place, samples | rest)

  def shapes(self, params: Params) -> dict[str, tuple[int, ...]]:
    """The shape of every field of a sample; nothing is computed."""
    drawing = self.experiment.task.draw

    def draw(params, frozen, data):
      own = keys.of_examples(keys.seed(0), data["index"])
      carry = drawing.begin(params, frozen, drawing.plan, data, own)
      _, _, x0 = drawing.advance(params, frozen, drawing.plan, data, own, carry, 0, drawing.stops)
      return drawing.show(frozen, x0)

    data = {name: jnp.zeros((1, *field.shape), field.dtype) for name, field in self.fields.items()}
    sample = jax.eval_shape(draw, params, self.experiment.frozen, data | {"index": jnp.zeros(1, jnp.int32)})
    return {name: value.shape[1:] for name, value in sample.items()}
