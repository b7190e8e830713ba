"""A trained denoiser as a file for other engines: what is written is what a walk sees."""

import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import config as configs
from diffjax import experiment, keys, schedules
from diffjax.data.source import Field
from diffjax.jobs import export
from diffjax.models import conv
from diffjax.types import ConfigError

FIELDS = {"image": Field((8, 8, 3), "uint8"), "label": Field((), "int32", 10)}
W = 0.7


def some(**network):
  """A small U-Net with weights that are not those it begins with, and guides."""
  config = configs.base()
  config.condition.names, config.condition.label.dropout = ("label",), 0.1
  config.sample.guides = ("classifier_free", "clip")
  config.sample.classifier_free.w = W
  config.model.unet.update({"channels": 16, "blocks": 1, **network})
  parts = experiment.create(config, FIELDS)
  params = jax.jit(parts.task.init)(keys.seed(0))
  bumped = lambda p: p + 0.05 * np.random.default_rng(p.size).standard_normal(p.shape, np.float32)
  run = SimpleNamespace(experiment=parts, folder="runs/some", fields=FIELDS)
  return SimpleNamespace(experiment=parts, params=jax.tree.map(bumped, params), run=run, config=parts.config)


@pytest.fixture(scope="module")
def loaded():
  return some(multipliers=(1,), attention=())


def test_it_is_what_a_walk_sees(loaded):
  call, given = export.denoiser(loaded, 3)
  assert {name: x.shape for name, x in given.items()} == {"xt": (3, 8, 8, 3), "t": (3,), "label": (3,)}
  given["label"] = np.array([7, 0, 3], np.int32)
  denoise = loaded.experiment.task.can["denoise"]
  schedule = schedules.SCHEDULES["linear"]()

  @jax.jit
  def compared(xt, t, label):
    of = lambda label: denoise(loaded.params, {"label": label})(xt, t, schedule).x0
    return call(xt, t, label), of(label), of(jnp.full_like(label, 10))

  result, one, none = compared(*given.values())
  assert np.abs(one - none).max() > 1e-3  # it hears the label
  np.testing.assert_allclose(result, np.clip(one + W * (one - none), -1, 1), atol=2e-5)


def test_other_engines_find_no_operation_of_ours(loaded):
  call, given = export.denoiser(loaded, 2)
  kept = conv.forward
  assert "conv_forward" in str(jax.make_jaxpr(call)(*given.values()))
  with export._plain_convolutions():
    text = str(jax.make_jaxpr(lambda *given: call(*given))(*given.values()))
  assert "conv_forward" not in text and "conv_general_dilated" in text
  assert conv.forward is kept


def test_a_missing_extra_and_what_is_no_denoiser_are_named(loaded, monkeypatch, tmp_path, capsys):
  call, given = export.denoiser(loaded, 1)
  monkeypatch.setitem(sys.modules, "jax2onnx", None)
  with pytest.raises(ConfigError, match=r"pip install -e '\.\[onnx\]'"):
    export.write(call, given, tmp_path / "x.onnx")
  other = SimpleNamespace(task=SimpleNamespace(can={"log_prob": None}), frozen={})
  with pytest.raises(ConfigError, match="runs/some cannot estimate; it can log_prob"):
    export.denoiser(SimpleNamespace(experiment=other, params={}, run=loaded.run), 1)
  assert export.main(["runs/some", str(tmp_path / "x.onnx"), "--batch=0"]) == 2
  assert export.main(["runs/some", str(tmp_path / "nowhere" / "x.onnx")]) == 2
  output = " ".join(capsys.readouterr().err.split())  # a long folder breaks the line elsewhere
  assert "--batch is 0" in output and "lies in no folder" in output


@pytest.mark.onnx
@pytest.mark.skipif(jax.__version_info__ >= (0, 11), reason="jax2onnx 0.13 reaches into jax 0.10")
def test_onnx_runtime_computes_the_same(tmp_path):
  call, given = export.denoiser(some(multipliers=(1, 2), attention=(4,)), 2)
  assert export.write(call, given, tmp_path / "some.onnx") < export.TOLERANCE
