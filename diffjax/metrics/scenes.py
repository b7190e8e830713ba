"""Whether samples of scenes show what their captions mean, decided exactly: data/scene_grammar.py knows the meaning.

    true          everything that the caption says is there, and nothing else; of `seen` and `novel` captions, and
                  of each kind
    digits        the digits that it names are there, wherever
    layout        as many digits as it names are where it says, whichever
    shuffled      the same as `true` for the caption of any sample: what a model gets that does not listen
    frechet_512   Fréchet distance of the digits of so many samples, in whatever cell, and those of real held-out
                  scenes, in the features of the classifier that reads them

A cell is empty where its mean ink is below a threshold, else a classifier that knows the training digits names its
digit. What is said of real held-out scenes is the reader's own error.
"""

import numpy as np

from diffjax.data.digits import digits
from diffjax.data.scene_grammar import EMPTY, KINDS, Meanings, is_novel, meanings, truth
from diffjax.data.scenes import as_cells
from diffjax.data.source import Source
from diffjax.machine.parallel import Parallel
from diffjax.metrics.classifier import train_classifier
from diffjax.metrics.embedding import require_text
from diffjax.metrics.frechet import frechet_distance
from diffjax.metrics.metric import Metric
from diffjax.metrics.moments import Moments
from diffjax.ranges import Count, Share
from diffjax.types import ConfigError

TOGETHER = 256  # scenes that meet all captions at a time


def metric(
  train: Source, test: Source, parallel: Parallel, ink: Share = 0.08, reference: Count = 1024
) -> Metric:
  """The metric.

  Args:
    train, test: scenes.
    parallel: the devices.
    ink: mean of a cell's pixels, of 1, below which it is empty; digits have 0.17 or more.
    reference: held-out scenes that the floor is of, at most.

  Raises:
    ConfigError: other data.
  """
  field = train.fields.get("text")
  if field is None or field.tokenizer is None:
    raise ConfigError("it needs the source 'scenes', and the data carry no text; leave it out.")
  scans = digits("train").arrays
  reader = train_classifier(scans["image"], scans["label"], 10)

  def features(samples, request):
    texts = require_text("scenes", request)
    cells = as_cells(samples["image"])
    each = cells.reshape(-1, *cells.shape[2:])
    looks, numbers = (x.reshape(*cells.shape[:2], *x.shape[1:]) for x in reader.features_and_classes(each))
    there = cells.mean((2, 3, 4)) / 255 >= ink
    meaning = meanings([field.tokenizer.text(tokens) for tokens in texts])
    return {"cells": np.where(there, numbers, EMPTY), "looks": looks, **meaning._asdict()}

  def of(source, count):
    rows = source.read(np.arange(min(len(source), count)), ("image", "text"))
    return features(rows, rows)

  def digits_of(features):
    return features["looks"][features["cells"] != EMPTY]

  held_out = of(test, reference)
  real = Moments.of(digits_of(held_out))

  def distance(features):
    name, looks = f"frechet_{len(features['cells'])}", digits_of(features)
    return {name: frechet_distance(Moments.of(looks), real)} if len(looks) > 1 else {}

  settings = {"ink": ink, "reference": f"{len(held_out['cells'])} scenes of {test.fingerprint}"}
  floor = score(held_out)
  return Metric(
    ("image",),
    features,
    lambda features: score(features) | distance(features),
    floor,
    settings,
    higher=tuple(floor.keys() - {"shuffled"}),
    near=("shuffled",),
    floor_at=lambda count: distance(of(train, count)),
  )


def score(features) -> dict[str, float]:
  """Shares, of cells [n, 4] and the meanings of the captions.

  Raises:
    ConfigError: there are no samples.
  """
  if not len(features["cells"]):
    raise ConfigError("a share needs at least 1 sample, and there are 0.")
  meaning = Meanings(*(features[name] for name in ("kind", "first", "second", "cell")))
  parts, new = truth(features["cells"], meaning), is_novel(meaning)
  of = {"seen": ~new, "novel": new}
  of |= {name: (meaning.kind == KINDS.index(name)) & ~new for name in ("single", "placed", "pair")}
  of["relation"] = np.isin(meaning.kind, [KINDS.index("beside"), KINDS.index("above")]) & ~new
  values = {"true": float(parts.all.mean())}
  values |= {f"true_{name}": float(parts.all[rows].mean()) for name, rows in of.items() if rows.any()}
  values |= {"digits": float(parts.digits.mean()), "layout": float(parts.layout.mean())}
  starts, every = range(0, len(new), TOGETHER), Meanings(*(part[None] for part in meaning))
  hits = [truth(features["cells"][start : start + TOGETHER, None], every).all.sum() for start in starts]
  return values | {"shuffled": float(sum(hits) / len(new) ** 2)}
