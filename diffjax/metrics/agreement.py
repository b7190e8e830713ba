"""How a small classifier sees class-conditional samples of a labelled set.

    agreement   share of the samples that the classifier reads as the class that was asked for
    frechet     Fréchet distance between the samples and the held-out images in its 64 features; of fewer samples than
                training images their number is in its name, frechet_40
    memory_*    how near they are to the training images (memorization.py)

The classifier is trained on the training split. Beside each value stands what real images get: its accuracy
on the held-out split, and the distance between the two splits, of as many training images as there are samples. Where
there are no more samples, or no more held-out images, than features, `frechet_rank_deficient` is 1.
"""

import numpy as np

from diffjax.data.order import permutation
from diffjax.data.source import Source
from diffjax.machine.parallel import Parallel
from diffjax.metrics.classifier import train_classifier
from diffjax.metrics.frechet import frechet_distance
from diffjax.metrics.memorization import FIGURES, memorization
from diffjax.metrics.metric import Metric, needs
from diffjax.metrics.moments import Moments
from diffjax.types import ConfigError

LARGEST = 100_000


def _all(source: Source) -> tuple[np.ndarray, np.ndarray]:
  rows = source.read(np.arange(len(source)), ("image", "label"))
  return rows["image"], rows["label"]


@needs(2)
def metric(train: Source, test: Source, parallel: Parallel) -> Metric:
  """The metric "classifier", which is small enough for one device.

  Raises:
    ConfigError: the set carries no labels, is too large for a classifier trained in seconds, or has a split
      that is too small for a Fréchet distance.
  """
  classes = train.fields["label"].classes if "label" in train.fields else 0
  if not classes:
    raise ConfigError("it needs labels, and the data carry none; leave it out.")
  if "image" not in train.fields:
    raise ConfigError(f"it is for images, and the data are {', '.join(train.fields)}; leave it out.")
  if len(train) > LARGEST:
    raise ConfigError(
      f"it is for sets of at most {LARGEST} images, and this one has {len(train)}; leave it out."
    )
  for split, source in (("train", train), ("test", test)):
    if len(source) < 2:
      raise ConfigError(
        f"its Fréchet distance needs at least 2 images in each split, and the {split} split has {len(source)}; "
        "leave it out."
      )
  images, labels = _all(train)
  held_out, held_out_labels = _all(test)
  judge = train_classifier(images, labels, classes)
  reference, memory = Moments.of(judge.features(held_out)), memorization(train, test)

  def features(samples, request):
    seen, classes = judge.features_and_classes(samples["image"])
    arrays, labels = {"features": seen} | memory.features(samples["image"]), request.get("label")
    return arrays if labels is None else arrays | {"agrees": classes == labels}

  def score(features):
    if len(features["features"]) < 2:
      raise ConfigError(
        f"a Fréchet distance needs at least 2 samples, and there are {len(features['features'])}."
      )
    moments = Moments.of(features["features"])
    values = {frechet_name(len(features["features"])): frechet_distance(moments, reference)}
    if moments.rank_deficient or reference.rank_deficient:
      values["frechet_rank_deficient"] = 1.0
    values |= memory.score(features)
    return values | ({"agreement": float(np.mean(features["agrees"]))} if "agrees" in features else {})

  def frechet_name(count):
    return "frechet" if count >= len(train) else f"frechet_{count}"

  def floor_at(count):
    some = permutation(0, 0, len(train))[:count]
    return (
      {frechet_name(count): frechet_distance(Moments.of(judge.features(images[some])), reference)}
      if count > 1
      else {}
    )

  floor = {
    "agreement": judge.accuracy(held_out, held_out_labels),
  } | memory.floor
  settings = {
    "features": "classifier",
    "reference": f"test split, {test.fingerprint}",
    "trained_on": train.fingerprint,
    "memory": memory.reference,
  }
  return Metric(
    ("image",), features, score, floor, settings, higher=("agreement",), near=FIGURES, floor_at=floor_at
  )
