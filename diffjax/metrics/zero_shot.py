"""Classes told by their names alone: the class whose captions are nearest to an image (Radford et al. 2021, 3.1).

    accuracy   share of the images whose nearest class is the one that they are of, or that samples asked for

A class is the mean of the unit vectors of all templates with its name, made a unit vector again (their 3.1.4).
"""

import numpy as np

from diffjax.data.captioned import wordings
from diffjax.data.source import Source
from diffjax.machine.parallel import Parallel
from diffjax.metrics.embedding import Embedding
from diffjax.metrics.metric import Metric
from diffjax.ranges import Count, Run
from diffjax.types import ConfigError


def metric(
  train: Source,
  test: Source,
  parallel: Parallel,
  run: Run("encode") = "",
  templates: tuple[str, ...] = ("a {}",),
  reference: Count = 4096,
) -> Metric:
  """The metric.

  Args:
    train, test: labelled data whose classes have names.
    parallel: the devices.
    run: of the task "clip"; by default the one that is judged.
    templates: captions with {} where the name stands.
    reference: held-out images that the floor is of, at most.

  Raises:
    ConfigError: other data, or a run that will not do.
  """
  label = train.fields.get("label")
  if label is None or not label.names:
    raise ConfigError("it needs labels whose classes have names, and the data carry none; leave it out.")
  embedding = Embedding(run, train)
  texts = embedding.texts(wordings(label.names, templates))
  classes = texts.reshape(len(templates), len(label.names), -1).mean(0)

  def features(samples, request):
    if "label" not in request:
      raise ConfigError(
        "config.eval.metrics names 'zero_shot', but the samples asked for no class; leave it out."
      )
    nearest = (embedding.images(samples["image"]) @ unit(classes).T).argmax(1)
    return {"hit": nearest == request["label"]}

  def score(features):
    if not len(features["hit"]):
      raise ConfigError("a share needs at least 1 sample, and there are 0.")
    return {"accuracy": float(features["hit"].mean())}

  held_out = test.read(np.arange(min(len(test), reference)), ("image", "label"))
  settings = {"run": run.fingerprint, "templates": list(templates)}
  floor = score(features(held_out, held_out))
  return Metric(("image",), features, score, floor, settings, higher=("accuracy",))


def unit(x: np.ndarray) -> np.ndarray:
  """[n, D] divided by its lengths."""
  return x / np.linalg.norm(x, axis=1, keepdims=True)
