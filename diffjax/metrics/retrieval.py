"""Which text belongs to which image, found among all by a run of the task "clip".

    text_of_image_r1, r5, r10    share of the images whose own caption is among the first 1, 5, 10 of all captions
    image_of_text_r1, ...        share of the captions of which an image is among the first of all images
    chance_r1, ...               of the first where nothing is known
    bag_of_words_r1, ...         of held-out images by ridge regression from pixels to the words of a caption

Captions of the same tokens are one. What is as near as the right one comes before it as often as not: a share is the
expectation over all orders of equals. For samples only the first is asked, by a run that had no part in making
them: `caption_retrieval`.
"""

import numpy as np
from jaxtyping import Float

from diffjax.data.source import Source
from diffjax.machine.parallel import Parallel
from diffjax.metrics.embedding import Embedding, require_text
from diffjax.metrics.metric import Metric, needs
from diffjax.ranges import Count, Run
from diffjax.types import ConfigError

RANKS = (1, 5, 10)
RIDGE = 1.0  # of the mean square of an image about the mean image
FITTED = 2048  # training images of the regression


def hit(before: np.ndarray, wrong: np.ndarray, right: np.ndarray, rank: int) -> Float[np.ndarray, "n"]:
  """The probability that a right one is among the first `rank`.

  Args:
    before: how many wrong ones are nearer than the nearest right one, [n].
    wrong, right: how many of either are as near as that, [n]; in random order.
    rank: how many are looked at.
  """
  miss = np.ones(len(before))
  for k in range(rank):
    chance = np.maximum(wrong - k, 0) / np.maximum(wrong + right - k, 1)
    miss = np.where(k < rank - before, miss * chance, miss)
  return np.where(before < rank, 1 - miss, 0.0)


def recall(scores: Float[np.ndarray, "n k"], right: np.ndarray, rank: int) -> Float[np.ndarray, "n"]:
  """`hit` of scores [n, K], greater is nearer, of which those marked in `right` [n, K] are right."""
  best = np.where(right, scores, -np.inf).max(1, keepdims=True)
  return hit(
    ((scores > best) & ~right).sum(1),
    ((scores == best) & ~right).sum(1),
    ((scores == best) & right).sum(1),
    rank,
  )


def _captions(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Of texts [n, L] the first row of each different one, and which each is."""
  _, first, which = np.unique(tokens, axis=0, return_index=True, return_inverse=True)
  return first, which.reshape(-1)


def of_images(features) -> dict[str, float]:
  """Captions of images, with chance."""
  first, which = _captions(features["tokens"])
  scores, right = features["images"] @ features["texts"][first].T, which[:, None] == np.arange(len(first))
  return {
    **{f"text_of_image_r{rank}": float(recall(scores, right, rank).mean()) for rank in RANKS},
    **{f"chance_r{rank}": min(rank / len(first), 1.0) for rank in RANKS},
  }


def of_texts(features) -> dict[str, float]:
  """Images of captions."""
  first, which = _captions(features["tokens"])
  scores, right = features["texts"][first] @ features["images"].T, np.arange(len(first))[:, None] == which
  return {f"image_of_text_r{rank}": float(recall(scores, right, rank).mean()) for rank in RANKS}


def _features(embedding: Embedding, name: str):
  def features(samples, request):
    tokens = require_text(name, request)
    return {
      "images": embedding.images(samples["image"]),
      "texts": embedding.tokens(tokens),
      "tokens": tokens,
    }

  return features


def _require_two(features) -> None:
  if len(features["tokens"]) < 2:
    raise ConfigError(f"retrieval needs at least 2 samples, and there are {len(features['tokens'])}.")


@needs(2)
def metric(
  train: Source, test: Source, parallel: Parallel, run: Run("encode") = "", reference: Count = 4096
) -> Metric:
  """The metric "retrieval", both ways, beside chance and the bag of words.

  Args:
    train, test: data with text.
    parallel: the devices.
    run: of the task "clip"; by default the one that is judged.
    reference: held-out images that the floor is of, at most.

  Raises:
    ConfigError: other data, or a run that will not do.
  """
  embedding = Embedding(run, train)
  held_out = test.read(np.arange(min(len(test), reference)), ("image", "text"))
  words = bag_of_words(train, held_out)
  features = _features(embedding, "retrieval")

  def score(features):
    _require_two(features)
    return of_images(features) | of_texts(features) | words

  settings = {"run": run.fingerprint, "reference": f"{len(held_out['text'])} images of {test.fingerprint}"}
  floor = score(features(held_out, held_out))
  return Metric(("image",), features, score, floor, settings, higher=tuple(floor))


@needs(2)
def of_samples(
  train: Source, test: Source, parallel: Parallel, run: Run("encode") = "", reference: Count = 4096
) -> Metric:
  """The metric "caption_retrieval" of samples told by text, beside captions that belong to other samples.

  Args:
    train, test: data with text.
    parallel: the devices.
    run: of the task "clip", which had no part in making the samples.
    reference: held-out images that the floor is of, at most.

  Raises:
    ConfigError: other data, or a run that will not do.
  """
  features = _features(Embedding(run, train), "caption_retrieval")

  def score(features):
    _require_two(features)
    first, which = _captions(features["tokens"])
    # Any caption of a sample, as often as it was asked for, in the place of its own.
    scores, often = features["images"] @ features["texts"][first].T, np.bincount(which) / len(which)
    top = (scores == scores.max(1, keepdims=True)) / (scores == scores.max(1, keepdims=True)).sum(
      1, keepdims=True
    )
    return of_images(features) | {"shuffled_r1": float((top @ often).mean())}

  held_out = test.read(np.arange(min(len(test), reference)), ("image", "text"))
  settings = {"run": run.fingerprint, "reference": f"{len(held_out['text'])} images of {test.fingerprint}"}
  floor = score(features(held_out, held_out))
  higher = tuple(floor.keys() - {"shuffled_r1"})
  return Metric(("image",), features, score, floor, settings, run.fingerprint, higher, near=("shuffled_r1",))


def bag_of_words(train: Source, held_out) -> dict[str, float]:
  """What a regression without any learned vectors finds: the captions of held-out images.

  The words of a caption are a vector of ones; ridge regression from the training images' pixels, in its dual form,
  predicts it, and captions are ordered by the cosine with the prediction.
  """
  rows = np.unique(np.linspace(0, len(train) - 1, FITTED).astype(int))
  examples = train.read(rows, ("image", "text"))
  vocabulary = train.fields["text"].classes
  pixels = lambda images: images.reshape(len(images), -1).astype(np.float64) / 255
  x, y = pixels(examples["image"]), _words(examples["text"], vocabulary)
  mean, usual = x.mean(0), y.mean(0)
  x, new = x - mean, pixels(held_out["image"]) - mean
  kernel = x @ x.T
  weights = np.linalg.solve(kernel + RIDGE * np.mean(np.diag(kernel)) * np.eye(len(x)), y - usual)
  first, which = _captions(held_out["text"])
  captions = _words(held_out["text"][first], vocabulary) - usual
  scores = new @ x.T @ weights @ (captions / np.linalg.norm(captions, axis=1, keepdims=True)).T
  right = which[:, None] == np.arange(len(first))
  return {f"bag_of_words_r{rank}": float(recall(scores, right, rank).mean()) for rank in RANKS}


def _words(tokens: np.ndarray, vocabulary: int) -> np.ndarray:
  """Whether a token is in a text, [n, vocabulary]."""
  table = np.zeros((len(tokens), vocabulary + 1))
  table[np.arange(len(tokens))[:, None], tokens] = 1  # where there is none, the last
  return table[:, :-1]
