"""The profile: own times of nested operations, and the place of every operation of a real step."""

from types import SimpleNamespace

import pytest

from benchmarks import ours, profile


def event(name, start, length, operation=True):
  stats = [("hlo_op", name)] if operation else []
  return SimpleNamespace(name=name, start_ns=start, duration_ns=length, stats=stats)


def test_an_operation_is_not_charged_for_what_runs_inside_of_it():
  events = [
    event("dot", 4, 2),
    event("loop", 0, 10),
    event("end: dot", 6, 1, operation=False),
    event("add", 6, 3),
    event("inside", 7, 1),
    event("dot", 20, 5),
  ]
  result = profile.own_times(events)
  assert result == pytest.approx({"loop": 5e-9, "dot": 7e-9, "add": 2e-9, "inside": 1e-9})


@pytest.mark.parametrize(
  "path, expected",
  [
    ("jit(whole)/jvp(UNet)/down_1_0_block/conv_0/cond/dot_general", ("3x3", "down_1", "forward")),
    ("jit(whole)/transpose(jvp(UNet))/up_2_1_block/norm_1/jit(silu)/mul", ("norm", "up_2", "backward")),
    ("jit(whole)/jvp(UNet)/middle_attention/qkv/dot_general", ("1x1", "middle", "forward")),
    ("jit(whole)/jvp(UNet)/middle_attention/norm/div", ("norm", "middle", "forward")),
    ("jit(whole)/jvp(UNet)/up_0_2_block/shortcut/dot_general", ("1x1", "up_0", "forward")),
    ("jit(whole)/jvp(UNet)/up_1_sample/cond/dot_general", ("3x3", "up_1_sample", "forward")),
    ("jit(whole)/jvp(UNet)/up_0_0_block/dropout/while/body/or", ("dropout", "up_0", "forward")),
    ("jit(whole)/jvp(UNet)/up_0_0_block/add", ("sums", "up_0", "forward")),
    ("jit(whole)/jvp(UNet)/concatenate", ("sums", "sums", "forward")),
    ("jit(<lambda>)/UNet/down_1_0_block/conv_0/cond/dot_general", ("3x3", "down_1", "forward")),
    ("jit(whole)/integer_pow", ("outside", "outside", "-")),
  ],
)
def test_an_operation_belongs_to_the_layer_that_asked_for_it(path, expected):
  *result, way = profile.place(path)
  assert way == expected[-1]
  assert [name.startswith(begin) for name, begin in zip(result, expected, strict=False)] == [True, True]


def test_every_layer_of_the_network_is_named_in_what_xla_makes_of_a_step():
  config = ours.cifar10(8, channels=8, size=16)
  config.model.unet.multipliers, config.model.unet.blocks = (1, 1), 1
  take, state, placed = ours.training(config, ours.images(8, 16))
  compiled = take.lower(state, {}, placed()).compile()
  places = [profile.place(path) for path in profile.paths_of(compiled.as_text()).values()]
  kinds = {(kind, way) for kind, _, way in places}
  for kind in profile.KINDS:
    assert {(kind, "forward"), (kind, "backward")} <= kinds, kind
  assert {"conv_in", "down_0", "middle", "up_0", "conv_out", "embedding"} <= {part for _, part, _ in places}


def test_rows_are_by_layer_part_or_operation():
  paths = {
    "dot.1": "a/UNet/down_0_0_block/conv_0/dot",
    "dot_add_fusion.2": "a/UNet/down_0_0_block/norm_0/add",
  }
  seconds = {"dot.1": 0.06, "dot_add_fusion.2": 0.02, "copy": 0.02}
  shares = lambda by: {row["what"]: row["share, %"] for row in profile.table(seconds, paths, by, steps=2)}
  assert shares("operation") == pytest.approx({"dot": 60, "dot_add_fusion": 20, "copy": 20})
  assert shares("part") == pytest.approx({"down_0": 80, profile.REST: 20})
  first, *_ = profile.table(seconds, paths, "layer", steps=2)
  assert first["what"] == "3x3 convolutions" and first["forward, ms"] == pytest.approx(30)
