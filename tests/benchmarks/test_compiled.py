"""The count of kernels: on a program written by hand, and on what the compiler for a GPU makes of the training step."""

import pytest

from benchmarks import compiled, ours

HLO = """
HloModule step, is_scheduled=true

%half (p0: f32[8,4], p1: f32[8,4]) -> f32[4,4] {
  %p0 = f32[8,4]{1,0} parameter(0)
  %p1 = f32[8,4]{1,0} parameter(1)
  %sum = f32[8,4]{1,0} add(%p0, %p1)
  ROOT %slice = f32[4,4]{1,0} slice(%sum), slice={[0:4], [0:4]}
}

%both (p0: f32[8,4]) -> (f32[8,4], f32[4,4]) {
  %p0 = f32[8,4]{1,0} parameter(0)
  %neg = f32[8,4]{1,0} negate(%p0)
  %slice = f32[4,4]{1,0} slice(%p0), slice={[0:4], [0:4]}
  ROOT %tuple = (f32[8,4]{1,0}, f32[4,4]{1,0}) tuple(%neg, %slice)
}

%body (s: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %s = (s32[], f32[8,4]{1,0}) parameter(0)
  %x = f32[8,4]{1,0} get-tuple-element(%s), index=1
  %i = s32[] get-tuple-element(%s), index=0
  %halved = f32[4,4]{1,0} fusion(%x, %x), kind=kLoop, calls=%half, metadata={op_name="jit(f)/loop/half"}
  ROOT %out = (s32[], f32[8,4]{1,0}) tuple(%i, %x)
}

ENTRY %main (a: f32[8,4], b: bf16[2,3]) -> f32[8,4] {
  %a = f32[8,4]{1,0} parameter(0)
  %b = bf16[2,3]{1,0} parameter(1)
  %two = (f32[8,4]{1,0}, f32[4,4]{1,0}) fusion(%a), kind=kInput, calls=%both
  %conv = (bf16[2,3]{1,0}, u8[16]{0}) custom-call(%b), custom_call_target="__cudnn$convForward"
  %start = (s32[], f32[8,4]{1,0}) tuple(%i, %a)
  %loop = (s32[], f32[8,4]{1,0}) while(%start), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  ROOT %r = f32[8,4]{1,0} get-tuple-element(%loop), index=1
}
"""


def test_kernels_are_counted_with_what_they_touch_and_how_often_they_run():
  two, conv, half = compiled.kernels(HLO)
  assert (two.kind, two.bytes, two.times) == ("fusion kInput", 128 + 128 + 64, 1)
  assert (conv.kind, conv.bytes, conv.times) == ("custom-call __cudnn$convForward", 12 + 12 + 16, 1)
  # of each operand half is read: the sum is only wanted there
  assert (half.bytes, half.path, half.times) == (64 + 64 + 64, "jit(f)/loop/half", 5)
  total = compiled.totals([two, conv, half], "h100", 1, int(5e14))
  assert (total["kernels"], total["below 1 MB"]) == (7, 7)
  assert total["GB"] == pytest.approx((320 + 40 + 5 * 192) / 1e9)
  assert total["memory, ms"] == pytest.approx(7 * 1.5e-3) and total["products, ms"] == pytest.approx(1000)


@pytest.mark.card
def test_the_training_step_for_an_h100_does_not_grow():
  """configs/cifar10_ddpm in bfloat16, ten steps a call: benchmarks/README.md's row and 3 % for another compiler."""
  pytest.importorskip("jax_cuda13_plugin")
  program = compiled.training(ours.cifar10(128, dtype="bfloat16"), 32, 10, "h100")
  result = compiled.totals(list(compiled.kernels(program.as_text())), "h100", 10, 0)
  assert result["kernels"] < 1.03 * 1559
  assert result["GB"] < 1.03 * 25.2
  assert program.memory_analysis().temp_size_in_bytes < 1.03 * 3.94e9
