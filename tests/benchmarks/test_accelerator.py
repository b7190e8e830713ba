"""The accelerator's command: packing is exact, parts end in time, and what is left out is said."""

import json
import sys
import time
import types

import numpy as np
import pytest

from benchmarks.accelerator import __main__ as accelerator
from benchmarks.accelerator import lossless, pack, part, speed, unpack

RNG = np.random.default_rng(0)


def smooth(count, size=8):
  """Images of waves, with a little noise."""
  y, x = np.mgrid[:size, :size] / size
  phase = RNG.uniform(0, 6, (count, 1, 1, 3))
  waves = 127 + 90 * np.sin(phase + 2 * x[..., None] + 3 * y[..., None])
  return np.clip(waves + RNG.normal(0, 2, waves.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
  "images",
  [
    smooth(200),
    RNG.integers(0, 256, (60, 6, 4, 3), np.uint8),
    RNG.choice(np.array([0, 255], np.uint8), (60, 6, 4, 3)),
    np.zeros((40, 5, 5, 3), np.uint8),
  ],
  ids=["smooth", "noise", "black and white", "black"],
)
def test_images_come_back_byte_for_byte_those_not_fitted_too(images):
  weights = lossless.fit(images[:30])
  cuts = lossless.levels(images[:30], weights)
  streams = lossless.pack(images, weights, cuts)
  result = lossless.unpack(streams, len(images), images.shape[1:3], weights, cuts)
  np.testing.assert_array_equal(result, images)


def test_smooth_images_take_one_bit_more_than_their_noise():
  images = smooth(2000)
  weights = lossless.fit(images)
  streams = lossless.pack(images, weights, lossless.levels(images[:200], weights))
  bits = 8 * sum(map(len, streams)) / images.size
  noise = 0.5 * np.log2(2 * np.pi * np.e * 2**2)  # of a normal with standard deviation 2, in steps of 1
  assert noise - 0.1 < bits < noise + 1  # the neighbours that predict are noisy too


def test_a_packed_set_of_many_chunks_is_checked():
  images, labels = smooth(50), np.arange(50) % 10
  packed = pack.images(images, labels)
  result = unpack.images(packed)
  np.testing.assert_array_equal(result["images"], images)
  np.testing.assert_array_equal(result["labels"], labels)
  with pytest.raises(ValueError, match="SHA-256"):
    unpack.images(packed | {"sha256": np.array("0" * 64)})


def test_tensors_come_back_bit_for_bit():
  special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -3.4e38, 1.5], np.float32)
  tensors = {
    "b": RNG.normal(size=(3, 4, 2, 2)).astype(np.float32),
    "a": special,
    "c": np.float32(2.5).reshape(()),
  }
  result = unpack.tensors(pack.tensors(tensors))
  assert result.keys() == tensors.keys()
  for name, tensor in tensors.items():
    assert result[name].shape == tensor.shape and result[name].tobytes() == tensor.tobytes()


def test_pieces_are_joined_once_all_are_there(tmp_path):
  whole, pieces = tmp_path / "inception.packed", tmp_path / "pieces"
  with whole.open("wb") as file:
    np.savez(file, **pack.tensors({"a": RNG.normal(size=999).astype(np.float32)}))
  size = whole.stat().st_size
  pack.cut(whole, 1200)
  made = sorted(tmp_path.glob("inception.packed*"), key=lambda path: int(path.suffix[1:]))
  assert len(made) == -(-size // 1200) > 2 and all(path.stat().st_size <= 1200 for path in made)
  pieces.mkdir()
  for piece in made:
    assert unpack.joined(pieces, "inception") is None
    piece.rename(pieces / piece.name)
  assert unpack.tensors(unpack.joined(pieces, "inception"))["a"].shape == (999,)


def test_pieces_of_another_size_are_not_left_beside_new_ones(tmp_path, monkeypatch, capsys):
  np.savez(tmp_path / "tensors.npz", a=RNG.normal(size=999).astype(np.float32))
  for size in (500, 2000):
    command = f"pack {tmp_path}/out --inception={tmp_path}/tensors.npz --pieces={size}".split()
    monkeypatch.setattr("sys.argv", command)
    pack.main()
  assert unpack.tensors(unpack.joined(tmp_path / "out", "inception"))["a"].shape == (999,)
  monkeypatch.setattr("sys.argv", [*command[:-1], "--pieces=inf"])
  with pytest.raises(SystemExit):
    pack.main()
  assert "--pieces=inf is no number of bytes" in capsys.readouterr().err


def test_a_part_that_hangs_or_fails_takes_nothing_from_the_others(tmp_path, monkeypatch, capsys):
  scripts = {
    "card": "import time; print('here', flush=True); time.sleep(60)",
    "correct": "raise SystemExit('wrong')",
    "speed": "print('fine')",
  }
  monkeypatch.setattr(accelerator, "PARTS", {"card": 1, "correct": 20, "speed": 20})
  monkeypatch.setattr(accelerator, "command", lambda name, *rest: [sys.executable, "-c", scripts[name]])
  began = time.monotonic()
  status = accelerator.main(["--seconds=30", f"--out={tmp_path}", "--parts=card,correct,speed"])
  assert status == 1 and time.monotonic() - began < 20
  summary = json.loads((tmp_path / "summary.json").read_text())
  assert {name: part["status"] for name, part in summary.items()} == {
    "card": "cut short",
    "correct": 1,
    "speed": 0,
  }
  assert (tmp_path / "card.log").read_text() == "here\n" and "wrong" in capsys.readouterr().out
  assert accelerator.main(["--seconds=0", f"--out={tmp_path}", "--parts=speed"]) == 1
  with pytest.raises(SystemExit):
    accelerator.main([f"--out={tmp_path}", "--parts=cards"])


def test_what_is_not_finite_is_null_in_results(tmp_path, capsys):
  part.Results(tmp_path, "speed").add(loss=float("nan"))
  assert json.loads((tmp_path / "speed.json").read_text(), parse_constant=pytest.fail) == {"loss": None}
  assert '{"loss": null}' in capsys.readouterr().out


def fake_peer(name, answers):
  """A peer that has these answers ready."""
  left, ended = list(answers), []
  return types.SimpleNamespace(
    name=name,
    ask=lambda **request: None,
    answer=lambda limit: left.pop(0),
    end=lambda: ended.append(True),
    ended=ended,
  )


def test_peers_are_timed_in_turn_and_one_that_fails_is_left_out():
  good = fake_peer("good", [{"seconds": 3.0}] * 3)
  bad = fake_peer("bad", [{"seconds": 1.0}, {"error": "out of memory"}])
  times = speed.in_turn(lambda: None, [good, bad], {"do": "train", "batch": 1, "count": 1}, 3, 1.0)
  assert times["good"] == [3.0] * 3 and times["bad"] == "out of memory" and len(times["ours"]) == 3
  times["ours"] = [2.0, 1.0, 1.5]
  row = speed.row(times, images=300, flop=6e12, ceiling=8e12, peak=None)
  assert row["images_per_s"] == 200 and row["flop_per_image"] == 2e10 and row["mfu_of_measured"] == 0.5
  assert row["faster than good"] == 2.0 and row["images_per_s good"] == 100
  assert "faster than bad" not in row and row["mfu_of_989"] is None


def test_ours_is_kept_before_a_peer_compiles_and_a_peer_that_does_not_is_named(tmp_path):
  def late(limit):
    kept = json.loads((tmp_path / "speed.json").read_text())
    assert kept["step, first"]["images_per_s"] > 0  # nothing is lost if this were the end
    return {"error": "no answer in time"}

  good, bad = fake_peer("good", [{"seconds": 3.0}] * 3), fake_peer("bad", [])
  bad.answer = late
  table = speed.Table(part.Results(tmp_path, "speed", 60), best=8e12, peak=None, rounds=2)
  line = speed.Row(lambda: None, 300, 6e12, {"do": "train", "batch": 1, "count": 1})
  assert table.measure("step", line, lambda: None, [good, bad]) == [good]
  result = table.results.entries["step"]
  assert result["without"] == {"bad": "no answer in time"} and bad.ended and not good.ended
  assert result["images_per_s good"] == 100 and result["first_seconds"].keys() == {"ours", "good", "bad"}
