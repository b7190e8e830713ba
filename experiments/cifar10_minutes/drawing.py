"""Samples whose guidance weight is asked for like a class: one compile to try several weights."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jaxtyping import Array, Key

from diffjax.data.source import Field
from diffjax.experiment import Experiment, Maker, no_runs
from diffjax.guidance import Guide, classifier_free, guidance_interval
from diffjax.jobs.drawing import Sampling
from diffjax.machine.parallel import Parallel
from diffjax.tasks.diffusion import diffusion
from diffjax.types import Params

FIELD = "guidance"


def request_guide(sigma_min: float, sigma_max: float) -> Guide:
  """Classifier-free guidance of the weight that a sample asks for, where sigma / alpha lies in (sigma_min, sigma_max].

  Elsewhere the network is called for the conditional half alone: all samples of a batch are at one time.
  """

  def apply(denoiser, scene):
    inside = guidance_interval(scene.schedule, 1, sigma_min, sigma_max)
    weight = lambda t: scene.data[FIELD] * inside(t)
    guided = classifier_free(scene.conditional, scene.cond, scene.null, weight)
    return lambda x, t: jax.lax.cond(inside(t) != 0, guided, denoiser, x, t)

  return Guide(apply, first=True, needs_null=True)


def asking(experiment: Experiment, fields: Mapping[str, Field]) -> Experiment:
  """The experiment with this guide in place of its own, in the interval of config.sample.classifier_free."""
  settings = experiment.config.sample.classifier_free
  guide = functools.partial(request_guide, settings.sigma_min, settings.sigma_max)
  parts = Maker(experiment.config, no_runs).parts(fields) | {"guides": {"asked": guide}}
  return dataclasses.replace(experiment, task=diffusion(**parts))


def drawing(
  experiment: Experiment, devices: Parallel
) -> Callable[[Params, Key[Array, ""], float, np.ndarray], np.ndarray]:
  """A function (params, key, w, index [N]) -> images uint8 [N, H, W, C] of an `asking` experiment, classes in turn."""
  sampling = Sampling(experiment, devices, experiment.config.sample.batch_size)

  def samples(params, key, w, index):
    request = {"index": index.astype(np.int32), FIELD: np.full(len(index), w, np.float32)}
    return sampling.draw(params, key, request | experiment.task.request(index, None))["image"]

  return samples
