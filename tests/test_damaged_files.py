"""Files that strangers bring, damaged in every way: each is read as what was declared, or refused in one paragraph.

Pictures are in data/test_images.py, and files of torch.save in metrics/test_inception_weights.py.
"""

import io
import json
import tarfile

import damage
import numpy as np
import pytest
from PIL import Image

from diffjax import config as configs
from diffjax.config import leaves, resolved
from diffjax.data import SOURCES
from diffjax.data.source import ArraySource
from diffjax.data.text import TOKENIZERS
from diffjax.interop import safetensors
from diffjax.jobs import workdir
from diffjax.metrics import reference
from diffjax.types import ConfigError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 4, 5, 3), np.uint8)


def arrays(folder):
  """The source of npz files."""
  np.savez(folder / "set.npz", images=IMAGES, labels=np.arange(6), embeddings=np.ones((6, 2), np.float32))

  def read():
    result = SOURCES["arrays"](split="train", path=str(folder / "set.npz"), test_fraction=0)
    image, label = result.arrays["image"], result.arrays.get("label", np.zeros(1, np.int32))
    assert image.dtype == np.uint8 and image.ndim == 4 and image.shape[3] in (1, 3) and image.size
    assert (
      label.dtype == np.int32 and label.min() >= 0 and np.isfinite(result.arrays.get("embedding", 0)).all()
    )

  return folder / "set.npz", read


def statistics(folder):
  """Reference statistics."""
  settings = reference.Settings("0123", "train", "pytorch", "4567", images="4x5x3")
  statistics = reference.Reference(np.zeros(3), np.eye(3), settings)
  reference.save(folder / "s.npz", statistics)

  def read():
    result = reference.load(folder / "s.npz", dim=3)
    assert result.mean.shape == (3,) and np.isfinite(result.covariance).all()
    assert result.rank_deficient in (None, True, False)

  return folder / "s.npz", read


def captions(folder):
  """Captioned pictures in a tar file."""
  png = io.BytesIO()
  Image.fromarray(IMAGES[0]).save(png, "PNG")
  (folder / "set").mkdir()
  with tarfile.open(folder / "set" / "a.tar", "w") as tar:
    for name, content in (("1.png", png.getvalue()), ("1.txt", b"one"), ("2.png", png.getvalue())):
      member = tarfile.TarInfo(name)
      member.size = len(content)
      tar.addfile(member, io.BytesIO(content))
    member = tarfile.TarInfo("2.json")
    content = json.dumps({"caption": "two"}).encode()
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))

  def read():
    result = SOURCES["captions"](
      split="train",
      tokenizer=TOKENIZERS["words"],
      path=str(folder / "set"),
      size=4,
      test_fraction=0,
      cache_dir=str(folder / "cache"),
    )
    assert result.arrays["image"].shape[1:] == (4, 4, 3) and len(result.arrays["text"]) == len(result)

  return folder / "set" / "a.tar", read


def tensors(folder):
  """A file of safetensors."""
  header = json.dumps(
    {
      "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
      "b": {"dtype": "I64", "shape": [], "data_offsets": [24, 32]},
    }
  ).encode()
  (folder / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(32))

  def read():
    for value in safetensors.read(folder / "a.safetensors").values():
      assert value.size * value.itemsize <= 32

  return folder / "a.safetensors", read


def index(folder):
  """The index of safetensors in several files."""
  tensors(folder)
  place = folder / "all.safetensors.index.json"
  place.write_text(json.dumps({"metadata": {}, "weight_map": {"a": "a.safetensors", "b": "a.safetensors"}}))
  return place, lambda: [*safetensors.read(place).values()]


def saved(folder):
  """A workdir's config.json."""
  config = configs.base()
  labels = {"label": np.zeros(6, np.int32)}
  source = ArraySource({"image": IMAGES} | labels, "0123", {"label": 2}, names={"label": ("cat", "dog")})
  workdir.save(folder, workdir.about(resolved(config)), source, {"runs/vae": "4567"})
  kinds = {path: type(value) for path, value in leaves(configs.base())}

  def read():
    for path, value in leaves(workdir.load(folder)):
      assert isinstance(value, kinds[path]) or value is None or kinds[path] in (float, type(None)), path
    if known := workdir.data_of(folder):
      fields, count, fingerprint = known
      assert type(count) is int and type(fingerprint) is str
      for field in fields.values():
        assert all(type(n) is int for n in (*field.shape, field.classes, *field.counts)) and hash(field)
    workdir.require_uses(folder, {"runs/vae": "4567"})
    workdir.require_data(folder, source, changed=True)

  return folder / "config.json", read


READERS = {kind.__name__: kind for kind in (arrays, statistics, captions, tensors, index, saved)}
JSON = ("index", "saved")
every_reader = pytest.mark.parametrize("name", READERS)


def outcomes(folder, name, count, seed):
  """How many of `count` damaged files were read, and how many refused."""
  place, read = READERS[name](folder)
  read()
  whole, result = place.read_bytes(), {"read": 0, "refused": 0}
  changed = [*damage.bodies(whole, count, seed)]
  if name in JSON:
    changed += damage.trees(json.loads(whole), 2 * count, seed)
  for body in changed:
    place.write_bytes(body)
    try:
      read()
    except ConfigError as error:
      text = str(error)
      assert 20 < len(text) < 1000 and (place.name in text or str(folder) in text) and "Traceback" not in text
      result["refused"] += 1
    else:
      result["read"] += 1
  return result


@every_reader
def test_a_damaged_file_is_read_as_declared_or_refused(name, tmp_path, capfd):
  result = outcomes(tmp_path, name, 40, seed=0)
  assert result["refused"] >= 10


@pytest.mark.slow
@every_reader
@pytest.mark.parametrize("seed", range(1, 6))
def test_a_thousand_damaged_files_are(name, seed, tmp_path, capfd):
  outcomes(tmp_path, name, 200, seed)
