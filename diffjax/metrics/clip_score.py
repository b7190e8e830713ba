"""How near samples are to their captions (Hessel et al. 2021, without their factor 2.5).

score      mean over the samples of 100 max(cos(image, text), 0)
shuffled   the same with the texts of all samples in turn: what a model gets that does not listen
"""

import numpy as np

from diffjax.data.source import Source
from diffjax.machine.parallel import Parallel
from diffjax.metrics.embedding import Embedding, require_text
from diffjax.metrics.metric import Metric
from diffjax.ranges import Count, Run
from diffjax.types import ConfigError


def metric(
  train: Source, test: Source, parallel: Parallel, run: Run("encode") = "", reference: Count = 4096
) -> Metric:
  """The metric.

  Args:
    train, test: data with text.
    parallel: the devices.
    run: of the task "clip"; by default the one that is judged.
    reference: held-out images that the floor is of, at most.

  Raises:
    ConfigError: other data, or a run that will not do.
  """
  embedding = Embedding(run, train)

  def features(samples, request):
    texts = embedding.tokens(require_text("clip_score", request))
    return {"images": embedding.images(samples["image"]), "texts": texts}

  def score(features):
    if not len(features["images"]):
      raise ConfigError("a mean needs at least 1 sample, and there are 0.")
    cosines = 100 * np.maximum(features["images"] @ features["texts"].T, 0)
    return {"score": float(np.diagonal(cosines).mean()), "shuffled": float(cosines.mean())}

  held_out = test.read(np.arange(min(len(test), reference)), ("image", "text"))
  settings = {"run": run.fingerprint, "reference": f"{len(held_out['text'])} images of {test.fingerprint}"}
  floor = score(features(held_out, held_out))
  return Metric(("image",), features, score, floor, settings, higher=("score",), near=("shuffled",))
