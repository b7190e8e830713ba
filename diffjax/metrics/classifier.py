"""A small fixed classifier of small images, for judging class-conditional samples.

It answers two questions: does a sample show the class that was asked for (`accuracy`), and are the samples
spread like the data (a Fréchet distance of its 64 features). The features are softplus of a linear layer:
smooth, and never dead, so that their covariance has full rank and a small change of the images is a small
change of the distance. Such distances compare runs on one data set. They are not FID, whose features are
Inception's.

The network is trained for a fixed number of steps with every random number drawn from one seed, as one
compiled scan: the same images give the same numbers, in this process and in the next one on the same kind
of machine. Its convolutions are matrix products over 3 x 3 patches, because inside a scan XLA's own
convolutions run more than ten times slower on a CPU.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float32, Int, Key, UInt8

from diffjax import keys
from diffjax.types import ConfigError, Params

FEATURES = 64
STEPS = 500
BATCH = 64
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 1e-4
SHIFT = 1  # training images are moved by up to this many pixels
EVALUATION_BATCH = 256


class PatchConv(nn.Module):
  """A 3 x 3 convolution with zero padding, as one matrix product over the patches.

  Attributes:
    features: channels that come out.
    stride: 1 or 2; the output is [B, ceil(H / stride), ceil(W / stride), features].
  """

  features: int
  stride: int = 1

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 features"]:
    h, w = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    s = self.stride
    patches = [x[:, i : i + h : s, j : j + w : s] for i in range(3) for j in range(3)]
    return nn.Dense(self.features)(jnp.concatenate(patches, axis=-1))


class Network(nn.Module):
  """Three convolutions, the mean over 2 x 2 cells, 64 features, logits."""

  num_classes: int

  @nn.compact
  def __call__(
    self, images: UInt8[Array, "b h w c"]
  ) -> tuple[Float32[Array, "b 64"], Float32[Array, "b classes"]]:
    x = images.astype(jnp.float32) / 127.5 - 1
    x = nn.silu(PatchConv(32)(x))
    x = nn.silu(PatchConv(64, stride=2)(x))
    x = nn.silu(PatchConv(64)(x))
    half = tuple((size + 1) // 2 for size in x.shape[1:3])
    x = nn.avg_pool(x, half, half, padding="SAME", count_include_pad=False)
    features = nn.softplus(nn.Dense(FEATURES)(x.reshape(len(x), -1)))
    return features, nn.Dense(self.num_classes)(features)


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
  """A trained classifier.

  Attributes:
    network: the network.
    params: its parameters.
    image_shape: (H, W, C) of the images that it knows.
  """

  network: Network
  params: Params
  image_shape: tuple[int, int, int]

  def features(self, images: np.ndarray) -> Float32[np.ndarray, "n 64"]:
    """The penultimate features of uint8 images [n, H, W, C]; raises ConfigError at other images."""
    return self._run(images)[0]

  def predict(self, images: np.ndarray) -> Int[np.ndarray, "n"]:
    """The most likely class of uint8 images [n, H, W, C]; raises ConfigError at other images."""
    return self._run(images)[1].argmax(axis=1)

  def features_and_classes(
    self, images: np.ndarray
  ) -> tuple[Float32[np.ndarray, "n 64"], Int[np.ndarray, "n"]]:
    """Both, for the work of one."""
    features, logits = self._run(images)
    return features, logits.argmax(axis=1)

  def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
    """The fraction of the images [n, H, W, C] whose most likely class is the label ([n])."""
    labels = _checked_labels(images, labels, self.network.num_classes)
    return float(np.mean(self.predict(images) == labels))

  def _run(self, images: np.ndarray):
    """Features and logits, in batches of one size so that one compile serves."""
    images = _checked_images(images, self.image_shape)
    missing = -len(images) % EVALUATION_BATCH
    padded = np.concatenate([images, np.zeros((missing, *self.image_shape), np.uint8)])
    features = np.zeros((len(padded), FEATURES), np.float32)
    logits = np.zeros((len(padded), self.network.num_classes), np.float32)
    for start in range(0, len(padded), EVALUATION_BATCH):
      rows = slice(start, start + EVALUATION_BATCH)
      features[rows], logits[rows] = _apply(self.network, self.params, padded[rows])
    return features[: len(images)], logits[: len(images)]


def train_classifier(images: np.ndarray, labels: np.ndarray, num_classes: int, seed: int = 0) -> Classifier:
  """The classifier of these images.

  Args:
    images: uint8 [N, H, W, C], the training split.
    labels: integers [N] below `num_classes`.
    num_classes: number of classes.
    seed: of the initial parameters, the order of the images and their shifts.

  Raises:
    ConfigError: there are no images, they are not uint8 [N, H, W, C], or the labels do not fit.
  """
  images = _checked_images(images, np.shape(images)[1:])
  labels = _checked_labels(images, labels, num_classes)
  if len(images) == 0:
    raise ConfigError("a classifier cannot be trained on 0 images")
  network = Network(num_classes)
  order, shifts = _plan(len(images), seed)
  params = _train(network, keys.seed(seed), images, labels.astype(np.int32), order, shifts)
  return Classifier(network, params, images.shape[1:])


def _plan(count: int, seed: int):
  """Which images make which batch [STEPS, BATCH], in shuffled epochs, and their shifts [.., 2]."""
  rng = np.random.Generator(np.random.Philox(seed))
  epochs = -(-STEPS * BATCH // count)
  order = np.concatenate([rng.permutation(count) for _ in range(epochs)])[: STEPS * BATCH]
  shifts = rng.integers(0, 2 * SHIFT + 1, (STEPS, BATCH, 2))
  return order.reshape(STEPS, BATCH).astype(np.int32), shifts.astype(np.int32)


@functools.partial(jax.jit, static_argnums=0)
def _train(
  network: Network,
  key: Key[Array, ""],
  images: UInt8[Array, "n h w c"],
  labels: Int[Array, "n"],
  order: Int[Array, "steps b"],
  shifts: Int[Array, "steps b 2"],
) -> Params:
  """AdamW on the cross-entropy with a cosine decay to 0, one scan over the steps."""
  optimizer = optax.adamw(optax.cosine_decay_schedule(LEARNING_RATE, len(order)), weight_decay=WEIGHT_DECAY)

  def loss(params, batch, classes):
    logits = network.apply({"params": params}, batch)[1]
    return optax.softmax_cross_entropy_with_integer_labels(logits, classes).mean()

  def step(carry, plan):
    params, opt_state = carry
    index, shift = plan
    gradients = jax.grad(loss)(params, _shifted(images[index], shift), labels[index])
    updates, opt_state = optimizer.update(gradients, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), None

  params = network.init(key, images[:1])["params"]
  (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), (order, shifts))
  return params


def _shifted(images: UInt8[Array, "b h w c"], shifts: Int[Array, "b 2"]) -> UInt8[Array, "b h w c"]:
  """Each image moved by its shift - SHIFT pixels down and right; the border's pixels are repeated."""
  padded = jnp.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge")

  def crop(image, shift):
    return jax.lax.dynamic_slice(image, (*(2 * SHIFT - shift), 0), images.shape[1:])

  return jax.vmap(crop)(padded, shifts)


@functools.partial(jax.jit, static_argnums=0)
def _apply(network: Network, params: Params, images: UInt8[Array, "b h w c"]):
  """Features and logits of one batch."""
  return network.apply({"params": params}, images)


def _checked_images(images: np.ndarray, image_shape: tuple[int, ...]) -> np.ndarray:
  images = np.asarray(images)
  if images.dtype != np.uint8 or images.shape[1:] != image_shape or images.ndim != 4:
    shape = ", ".join(map(str, image_shape)) if len(image_shape) == 3 else "H, W, C"
    raise ConfigError(
      f"the classifier's images are {images.dtype} {list(images.shape)}; they must be uint8 [N, {shape}]"
    )
  return images


def _checked_labels(images: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
  labels = np.asarray(labels)
  if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
    raise ConfigError(
      f"the labels are {labels.dtype} {list(labels.shape)}; they must be integers [{len(images)}]"
    )
  if labels.size and not (0 <= labels.min() and labels.max() < num_classes):
    raise ConfigError(
      f"the labels run from {labels.min()} to {labels.max()}; "
      f"with {num_classes} classes they must lie in 0..{num_classes - 1}"
    )
  return labels
