"""Folders of published models, used in place as runs are: what diffusers and transformers save.

FOLDER/config.json   its kind, "_class_name" (diffusers) or "architectures" (transformers), and its fields
FOLDER/*.safetensors

AutoencoderKL    can encode and decode, and knows where its latents lie     (vae of a Stable Diffusion folder)
CLIPTextModel    can encode text; its tokenizer lies in the folder or in ../tokenizer         (text_encoder)
CLIPModel        can encode images and text, as a run of the task "clip" can
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import config as configs
from diffjax import experiment
from diffjax.data import text
from diffjax.data.source import Field
from diffjax.data.text import Tokenizer
from diffjax.interop import configs as networks
from diffjax.interop import safetensors
from diffjax.interop.names import NAMES
from diffjax.interop.params import to_params
from diffjax.models.clip import unit
from diffjax.types import ConfigError, Params

FILES = tuple(
  f"{stem}{half}.safetensors{index}"
  for half in ("", ".fp16")
  for stem in ("diffusion_pytorch_model", "model")
  for index in ("", ".index.json")
)
# Of the channels of pixels in [0, 1], OpenAI's.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Published(NamedTuple):
  """What a folder holds.

  Attributes:
    can: what may be asked of it, by name; every function takes the parameters first.
    params: its parameters.
  """

  can: Mapping[str, Callable]
  params: Params


def kind(folder: Path) -> str:
  """The class that a folder's config.json names; "" where there is no such file, or it names none."""
  try:
    config = read_json(folder / "config.json")
  except ConfigError:
    return ""
  return config.get("_class_name") or next(iter(config.get("architectures") or ()), "")


def read_json(path: Path) -> dict[str, Any]:
  """A table; ConfigError where it cannot be read."""
  try:
    table = json.loads(path.read_text("utf-8"))
  except (OSError, ValueError, RecursionError) as error:
    raise ConfigError(f"{path} cannot be read ({error}).") from None
  if not isinstance(table, dict):
    raise ConfigError(f"{path} is no table of names.")
  return table


def tensors(folder: Path) -> Mapping[str, np.ndarray]:
  """Those of the weights file; of several the one in full precision."""
  for name in FILES:
    if (folder / name).is_file():
      return safetensors.read(folder / name)
  raise ConfigError(f"{folder} holds no weights; they would be one of {', '.join(FILES)}.")


def imported(folder: Path, net, names: str, *like: Any) -> Params:
  """The parameters of a network from a folder's weights.

  Args:
    folder: the folder.
    net: the network.
    names: what its tensors are called, one of NAMES.
    *like: arguments of the network.
  """
  shapes = jax.eval_shape(net.init, jax.random.key(0), *like)["params"]
  return to_params(tensors(folder), shapes, NAMES[names], str(folder))


def published(folder: Path) -> Published:
  """What a folder holds.

  Raises:
    ConfigError: it is of no kind that can be used so, or not what it says.
  """
  if (of := kind(folder)) not in READERS:
    raise ConfigError(f"{folder} holds a {of}; what can be used so is {', '.join(READERS)}.")
  return READERS[of](folder, read_json(folder / "config.json"))


def autoencoder_kl(folder: Path, config: Mapping[str, Any]) -> Published:
  """A diffusers AutoencoderKL; its latents are (z - shift_factor) scaling_factor."""
  net = networks.autoencoder_kl(config)
  image = (side_of(config), side_of(config), net.out_channels)
  c = configs.base()
  c.task.name, c.sample.guides = "autoencoder", ()
  set_fields(c.model.kl, net)
  task = experiment.create(c, {"image": Field(image, "uint8")}).task
  model = imported(folder, net, "autoencoder_kl", jnp.zeros((1, *image)))
  statistics = config.get("shift_factor") or 0, 1 / config.get("scaling_factor", 0.18215)
  return Published({**task.can, "statistics": lambda params: statistics}, {"model": model})


def side_of(config: Mapping[str, Any]) -> int:
  """The side of the images that an autoencoder was trained on."""
  return config.get("sample_size", 512)


def clip_text(folder: Path, config: Mapping[str, Any]) -> Published:
  """A transformers CLIPTextModel."""
  net = networks.clip_text(config)
  tokenizer = tokenizer_of(folder, net.length)

  def encode_text(params, tokens):
    encoding = net.apply({"params": params["model"]}, tokens)
    return {"tokens": encoding.tokens, "pooled": unit(encoding.pooled)}

  model = imported(folder, net, "clip_text", jnp.zeros((1, net.length), jnp.int32))
  return Published({"encode_text": encode_text, "tokenizer": lambda params: tokenizer}, {"model": model})


def clip(folder: Path, config: Mapping[str, Any]) -> Published:
  """A transformers CLIPModel; its pixels are scaled as preprocessor_config.json says, by default OpenAI's way."""
  net = networks.clip(config)
  tokenizer, side = tokenizer_of(folder, net.text.length), config["vision_config"].get("image_size", 224)
  about = folder / "preprocessor_config.json"
  scaling = read_json(about) if about.is_file() else {}
  mean, std = (
    np.asarray(scaling.get(name, usual), np.float32)
    for name, usual in (("image_mean", MEAN), ("image_std", STD))
  )

  def encode(params, images):
    return net.apply({"params": params["model"]}, (images / 255 - mean) / std, None).images

  def encode_text(params, tokens):
    encoding = net.apply({"params": params["model"]}, tokens, method="read")
    return {"tokens": encoding.tokens, "pooled": unit(encoding.pooled)}

  like = jnp.zeros((1, side, side, 3)), jnp.zeros((1, net.text.length), jnp.int32)
  can = {"encode": encode, "encode_text": encode_text, "tokenizer": lambda params: tokenizer}
  return Published(can, {"model": imported(folder, net, "clip", *like)})


def tokenizer_of(folder: Path, length: int) -> Tokenizer:
  """The tokenizer of a text encoder; what it fills texts up with is looked at, as the published models do."""
  for place in (folder, folder.parent / "tokenizer"):
    if (place / "merges.txt").is_file():
      tokenizer = text.clip((), str(place), length)
    elif (place / "tokenizer.json").is_file():
      tokenizer = text.file((), str(place / "tokenizer.json"), length)
    else:
      continue
    pad = read_json(place / "tokenizer_config.json").get("pad_token", text.CLIP_END)
    pad = pad["content"] if isinstance(pad, dict) else pad
    return dataclasses.replace(tokenizer, fill=tokenizer.number(pad))
  raise ConfigError(
    f"{folder} holds no tokenizer, and neither does {folder.parent / 'tokenizer'}; it is vocab.json with merges.txt, "
    "or tokenizer.json."
  )


READERS: dict[str, Callable[[Path, Mapping[str, Any]], Published]] = {
  "AutoencoderKL": autoencoder_kl,
  "CLIPTextModel": clip_text,
  "CLIPModel": clip,
}


def set_fields(options: Any, net: Any) -> None:
  """Sets the options of a config's entry to what a network has."""
  for name in options:
    options[name] = getattr(net, name)
