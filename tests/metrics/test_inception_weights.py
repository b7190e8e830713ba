"""Weight files: both of torch's formats written out by hand, refusals, fetching from a local server."""

import collections
import hashlib
import http.server
import io
import os
import pickle
import threading
import zipfile

import damage
import jax
import numpy as np
import pytest

from diffjax.metrics import inception_weights, torch_file
from diffjax.types import ConfigError

# Names and shapes as torchvision's InceptionV3 has them.
SOME = {
  "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
  "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
  "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
  "Mixed_6d.branch7x7dbl_4.conv.weight": (160, 160, 7, 1),
  "Mixed_6d.branch7x7dbl_5.conv.weight": (192, 160, 1, 7),
  "Mixed_7a.branch7x7x3_4.bn.running_var": (192,),
  "Mixed_7c.branch3x3dbl_3b.bn.weight": (384,),
  "Mixed_7c.branch_pool.conv.weight": (192, 2048, 1, 1),
}


class _Global:
  """Pickles as a global name, which the writer need not have."""

  def __init__(self, name):
    self.name = name


class _Writer(pickle._Pickler):  # the pure-Python one, which can be taught to write any name
  """Writes tensors as torch.save does: a call of _rebuild_tensor_v2 on a persistent storage."""

  def __init__(self, file, legacy):
    super().__init__(file, protocol=2)
    self.legacy, self.storages = legacy, {}

  def persistent_id(self, obj):
    if isinstance(obj, np.ndarray):
      key = self.storages.setdefault(id(obj), (f"{len(self.storages)}", obj))[0]
      kind = _Global({"f4": "torch FloatStorage", "i8": "torch LongStorage"}[obj.dtype.str[1:]])
      return ("storage", kind, key, "cpu", obj.size, *((None,) if self.legacy else ()))
    return None

  def save(self, obj, save_persistent_id=True):
    if isinstance(obj, _Global):
      module, name = obj.name.split(" ")
      self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
    elif isinstance(obj, _View):
      self.save(_Global("torch._utils _rebuild_tensor_v2"))
      self.save((obj.storage, *obj.place, False, collections.OrderedDict()))
      self.write(pickle.REDUCE)
    else:
      super().save(obj, save_persistent_id)


class _View:
  def __init__(self, storage, offset, size, stride):
    self.storage, self.place = storage, (offset, size, stride)


def _whole(array):
  array = np.asarray(array)
  strides = tuple(s // array.itemsize for s in array.strides)
  return _View(np.ascontiguousarray(array).reshape(-1), 0, array.shape, strides)


def _dump(tree, legacy=False):
  file = io.BytesIO()
  writer = _Writer(file, legacy)
  writer.dump(tree)
  return file.getvalue(), [pair for pair in writer.storages.values()]


def _write_zip(path, tree, **members):
  data, storages = _dump(tree)
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("archive/data.pkl", data)
    archive.writestr("archive/version", "3\n")
    for key, array in storages:
      archive.writestr(f"archive/data/{key}", array.tobytes())
    for name, value in members.items():
      archive.writestr(f"archive/{name}", value)
  return path


def _write_legacy(path, tree):
  data, storages = _dump(tree, legacy=True)
  system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
  with path.open("wb") as file:
    for value in (0x1950A86A20F9469CFC6C, 1001, system):
      pickle.dump(value, file, protocol=2)
    file.write(data)
    pickle.dump([key for key, _ in storages], file, protocol=2)
    for _, array in storages:
      file.write(array.size.to_bytes(8, "little") + array.tobytes())
  return path


def _tree():
  rng = np.random.default_rng(0)
  arrays = {"a.weight": rng.normal(size=(4, 3, 2, 2)), "a.bias": rng.normal(size=4), "one": np.float32(3)}
  arrays = {name: np.asarray(value, np.float32) for name, value in arrays.items()}
  arrays["count"] = np.asarray(17, np.int64)
  tree = collections.OrderedDict((name, _whole(value)) for name, value in arrays.items())
  storage = np.arange(12, dtype=np.float32)
  tree["view"] = _View(storage, 2, (3, 2), (1, 4))
  arrays["view"] = np.array([[2, 6], [3, 7], [4, 8]], np.float32)
  tree["shared"] = _View(storage, 0, (12,), (1,))
  arrays["shared"] = storage
  tree.__dict__["_metadata"] = collections.OrderedDict({"": {"version": 1}})  # as state_dict has
  return tree, arrays


@pytest.mark.parametrize("write", [_write_zip, _write_legacy])
def test_tensors_come_back_from_both_formats(tmp_path, write):
  tree, arrays = _tree()
  got = torch_file.read(write(tmp_path / "w.pth", tree))
  assert got.keys() == arrays.keys()
  for name, array in arrays.items():
    assert got[name].dtype == array.dtype
    np.testing.assert_array_equal(got[name], array)


class _Evil:
  def __init__(self, flag):
    self.flag = flag

  def __reduce__(self):
    return os.mkdir, (self.flag,)


@pytest.mark.parametrize("write", [_write_zip, _write_legacy])
def test_a_call_in_the_pickle_is_refused_and_not_made(tmp_path, write):
  flag = tmp_path / "executed"
  path = write(tmp_path / "evil.pth", {"a": _whole(np.ones(2, np.float32)), "b": _Evil(str(flag))})
  with pytest.raises(ConfigError, match=r"mkdir.*nothing in it was executed"):
    torch_file.read(path)
  assert not flag.exists()


def test_a_bare_pickle_is_refused_and_not_run(tmp_path):
  flag = tmp_path / "executed"
  (tmp_path / "bare.pth").write_bytes(pickle.dumps(_Evil(str(flag))))
  with pytest.raises(ConfigError, match="nothing in it was executed"):
    torch_file.read(tmp_path / "bare.pth")
  assert not flag.exists()


@pytest.mark.parametrize(
  "name", ["builtins eval", "torch._utils _rebuild_device_tensor_from_numpy", "torch load", "os system"]
)
def test_other_names_are_refused(tmp_path, name):
  path = _write_zip(tmp_path / "w.pth", {"a": _Global(name)})
  with pytest.raises(ConfigError, match=name.replace(" ", r"\.")):
    torch_file.read(path)


@pytest.mark.parametrize("write", [_write_zip, _write_legacy])
@pytest.mark.parametrize(
  "place", [(0, (13,), (1,)), (8, (5,), (1,)), (-1, (2,), (1,)), (0, (2, 2), (11, 1)), (5, (3,), (-1,)),
            (0, (2,), (1, 1)), (0, (1 << 62,), (0,)), (0, (2.0,), (1,))],
)  # fmt: skip
def test_a_view_outside_its_storage_is_refused(tmp_path, write, place):
  path = write(tmp_path / "w.pth", {"a": _View(np.zeros(12, np.float32), *place)})
  with pytest.raises(ConfigError):
    torch_file.read(path)


@pytest.mark.parametrize("write", [_write_zip, _write_legacy])
@pytest.mark.parametrize("value", [[1, 2], {"a": 3}, {"a": {"b": 1}}, "text"])
def test_what_is_no_dictionary_of_tensors_is_refused(tmp_path, write, value):
  with pytest.raises(ConfigError, match="something else than a dictionary of tensors"):
    torch_file.read(write(tmp_path / "w.pth", value))


@pytest.mark.parametrize("write", [_write_zip, _write_legacy])
def test_files_cut_short(tmp_path, write):
  path = write(tmp_path / "w.pth", _tree()[0])
  whole = path.read_bytes()
  for length in range(0, len(whole) - 1, max(1, len(whole) // 50)):
    path.write_bytes(whole[:length])
    with pytest.raises(ConfigError):
      torch_file.read(path)


@pytest.mark.parametrize("write", [_write_zip, _write_legacy])
def test_a_damaged_file_is_read_whole_or_refused(tmp_path, write):
  wanted = torch_file.read(write(tmp_path / "w.pth", _tree()[0]))
  whole = (tmp_path / "w.pth").read_bytes()
  refused = 0
  for body in damage.bodies(whole, 150):
    (tmp_path / "w.pth").write_bytes(body)
    try:
      result = torch_file.read(tmp_path / "w.pth")
    except ConfigError as error:
      assert str(tmp_path / "w.pth") in str(error) and len(str(error)) < 600
      refused += 1
    else:
      assert all(isinstance(value, np.ndarray) for value in result.values())
      assert sum(value.nbytes for value in result.values()) <= 4 * sum(v.nbytes for v in wanted.values())
  assert refused > 50


def test_foreign_byte_order_and_missing_storage(tmp_path):
  tree = _tree()[0]
  with pytest.raises(ConfigError, match="big-endian"):
    torch_file.read(_write_zip(tmp_path / "w.pth", tree, byteorder="big"))
  path = tmp_path / "x.pth"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("archive/data.pkl", _dump(tree)[0])
  with pytest.raises(ConfigError, match="archive/data/"):
    torch_file.read(path)


@pytest.fixture(scope="module")
def tensors():
  """Random tensors under all the names."""
  rng = np.random.default_rng(0)
  results = {}
  for name, (_, shape) in inception_weights._layout(class_layer=True).items():
    ones = name.endswith("bn.weight")
    results[name] = np.ones(shape, np.float32) if ones else rng.normal(size=shape).astype(np.float32)
  return results


def test_names_and_shapes_are_torchvisions(tensors):
  assert len(tensors) == 94 * 5 + 1
  for name, shape in SOME.items():
    assert tensors[name].shape == shape
  assert tensors["fc.weight"].shape == (1008, 2048)


def test_every_tensor_finds_its_place(tensors):
  variables = inception_weights.to_variables(tensors)
  block = variables["params"]["Mixed_6d"]["branch7x7dbl_5"]
  kernel = tensors["Mixed_6d.branch7x7dbl_5.conv.weight"]
  assert block["conv"]["kernel"].shape == (1, 7, 160, 192)
  assert block["conv"]["kernel"][0, 3, 11, 5] == kernel[5, 11, 0, 3]
  np.testing.assert_array_equal(block["bn"]["bias"], tensors["Mixed_6d.branch7x7dbl_5.bn.bias"])
  moments = variables["batch_stats"]["Mixed_6d"]["branch7x7dbl_5"]["bn"]
  np.testing.assert_array_equal(moments["mean"], tensors["Mixed_6d.branch7x7dbl_5.bn.running_mean"])
  np.testing.assert_array_equal(moments["var"], tensors["Mixed_6d.branch7x7dbl_5.bn.running_var"])
  np.testing.assert_array_equal(variables["params"]["fc"]["kernel"], tensors["fc.weight"].T)
  without = inception_weights.to_variables({k: v for k, v in tensors.items() if not k.startswith("fc")})
  assert "fc" not in without["params"]
  assert sum(leaf.size for leaf in jax.tree.leaves(without)) == 21_802_784


def _changed(tensors, name, value):
  changed = dict(tensors)
  if value is None:
    del changed[name]
  else:
    changed[name] = value
  return changed


@pytest.mark.parametrize(
  "name, value, message",
  [
    ("Mixed_7b.branch1x1.conv.weight", None, r"lacks 1 tensors, such as Mixed_7b\.branch1x1\.conv\.weight"),
    ("AuxLogits.fc.weight", np.ones(3, np.float32), r"unknown 1 tensors, such as AuxLogits\.fc\.weight"),
    ("Mixed_5b.branch1x1.conv.weight", np.ones((64, 1, 1, 192), np.float32), r"float32 \[64, 192, 1, 1\]"),
    ("Mixed_5b.branch1x1.bn.bias", np.ones(64), r"is float64 \[64\]"),
    ("Mixed_5b.branch1x1.bn.weight", np.full(64, 1.1, np.float32), "not 1 everywhere"),
  ],
)
def test_another_network_raises(tensors, name, value, message):
  with pytest.raises(ConfigError, match=message):
    inception_weights.to_variables(_changed(tensors, name, value), "w.npz")


def test_batch_counts_and_the_unused_bias_are_let_pass(tensors):
  extra = {"Mixed_5b.branch1x1.bn.num_batches_tracked": np.int64(3), "fc.bias": np.ones(1008, np.float32)}
  inception_weights.to_variables(tensors | extra)


def test_the_digest_is_of_names_and_bytes(tensors):
  sha = hashlib.sha256()
  for name in sorted(name for name in tensors if not name.startswith("fc.")):
    sha.update(name.encode() + tensors[name].tobytes())
  assert inception_weights.digest(tensors) == sha.hexdigest()
  bias = tensors["Mixed_7c.branch1x1.bn.bias"]
  assert (
    inception_weights.digest(_changed(tensors, "Mixed_7c.branch1x1.bn.bias", bias + 1)) != sha.hexdigest()
  )


@pytest.fixture
def home(tmp_path, monkeypatch):
  """An empty cache folder and no environment."""
  monkeypatch.setenv("DIFFJAX_CACHE", str(tmp_path / "cache"))
  monkeypatch.delenv(inception_weights.ENVIRONMENT, raising=False)
  (tmp_path / "cache").mkdir()
  return tmp_path


def test_where_weights_are_looked_for(home, tensors, monkeypatch):
  def fetched(url, path, sha256):
    assert url.startswith(
      "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception"
    )
    assert url.endswith(sha256[:8] + ".pth")  # the release's name carries the first digits of its hash
    return path

  monkeypatch.setattr(inception_weights, "fetch", fetched)
  assert inception_weights.locate() == (home / "cache" / inception_weights.NAME, False)
  (home / "cache" / inception_weights.NAME).touch()
  assert inception_weights.locate() == (home / "cache" / inception_weights.NAME, False)
  (home / "named.npz").touch()
  monkeypatch.setenv(inception_weights.ENVIRONMENT, str(home / "named.npz"))
  assert inception_weights.locate() == (home / "named.npz", True)
  (home / "given.npz").touch()
  assert inception_weights.locate(home / "given.npz") == (home / "given.npz", True)
  with pytest.raises(ConfigError, match="absent.npz, which is not there"):
    inception_weights.locate(home / "absent.npz")
  monkeypatch.setenv(inception_weights.ENVIRONMENT, "absent.pth")
  with pytest.raises(ConfigError, match="DIFFJAX_INCEPTION is absent.pth"):
    inception_weights.locate()


def test_npz_and_pth_give_the_same(home, tensors, monkeypatch):
  np.savez(home / "w.npz", **tensors)
  tree = collections.OrderedDict((name, _whole(value)) for name, value in tensors.items())
  _write_zip(home / "w.pth", tree)
  one, other = inception_weights.load(home / "w.npz"), inception_weights.load(home / "w.pth")
  assert one.digest == other.digest and not one.published
  jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)
  monkeypatch.setattr(inception_weights, "PUBLISHED", one.digest)
  assert one.published


def test_cached_weights_that_are_not_the_published_ones_raise(home, tensors):
  np.savez(home / "cache" / inception_weights.NPZ, **tensors)
  with pytest.raises(ConfigError, match="not FID's published ones"):
    inception_weights.load()


def test_npz_with_objects_or_no_npz(tmp_path):
  np.savez(tmp_path / "w.npz", a=np.array([{}], object))
  with pytest.raises(ConfigError, match="not an npz file of plain arrays"):
    inception_weights.read(tmp_path / "w.npz")
  (tmp_path / "x.npz").write_bytes(b"PK\3\4 nothing")
  with pytest.raises(ConfigError, match="not an npz file"):
    inception_weights.read(tmp_path / "x.npz")


@pytest.fixture
def server():
  """Serves /file, /short (fewer bytes than announced) and 404 for the rest."""
  body = np.random.default_rng(0).bytes(3 * inception_weights.CHUNK + 5)

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      known = self.path in ("/file", "/short")
      self.send_response(200 if known else 404)
      self.send_header("Content-Length", str(len(body) if known else 0))
      self.end_headers()
      if known:
        self.wfile.write(body if self.path == "/file" else body[: inception_weights.CHUNK])

    def log_message(self, *_):
      pass

  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}", body
    listening.shutdown()


def test_fetching(tmp_path, server, capsys):
  url, body = server
  path = inception_weights.fetch(f"{url}/file", tmp_path / "new" / "w.pth", hashlib.sha256(body).hexdigest())
  assert path.read_bytes() == body
  assert list(path.parent.iterdir()) == [path]
  lines = capsys.readouterr().err.splitlines()
  assert lines[-1] == "fetching file: 3.1 of 3.1 MB" and len(lines) > 2


@pytest.mark.parametrize(
  "name, message", [("file", "SHA-256"), ("short", "SHA-256|fetched"), ("none", "404.*DIFFJAX_INCEPTION")]
)
def test_a_bad_download_leaves_nothing(tmp_path, server, name, message):
  url, body = server
  sha = hashlib.sha256(body + b"?").hexdigest() if name == "file" else hashlib.sha256(body).hexdigest()
  with pytest.raises(ConfigError, match=message):
    inception_weights.fetch(f"{url}/{name}", tmp_path / "w.pth", sha)
  assert not list(tmp_path.iterdir())


def test_no_server(tmp_path):
  with pytest.raises(ConfigError, match="could not be fetched from http://127.0.0.1:9/"):
    inception_weights.fetch("http://127.0.0.1:9/w.pth", tmp_path / "w.pth", "0")
