"""What the benchmarks count, against programs whose traffic is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from benchmarks.collectives import traffic

COLLECTIVES = {
  "all-reduce": (lambda x: jax.lax.psum(x, "i"), P(), 2 * 7 / 8 * 4096),
  "all-gather": (lambda x: jax.lax.all_gather(x, "i", tiled=True), P(), 7 / 8 * 8 * 4096),
  "reduce-scatter": (lambda x: jax.lax.psum_scatter(x, "i", tiled=True), P("i"), 7 / 8 * 4096),
  "collective-permute": (
    lambda x: jax.lax.ppermute(x, "i", [(k, (k + 1) % 8) for k in range(8)]),
    P("i"),
    4096,
  ),
}


@pytest.mark.parametrize("kind", COLLECTIVES)
def test_traffic_of_one_collective(kind):
  function, out, sent = COLLECTIVES[kind]
  mesh = Mesh(np.asarray(jax.devices()), ("i",))
  mapped = jax.jit(jax.shard_map(function, mesh=mesh, in_specs=P("i"), out_specs=out, check_vma=False))
  x = jax.ShapeDtypeStruct((8 * 1024,), jnp.float32)  # 4,096 bytes on each device
  result = traffic(mapped.lower(x).compile().as_text(), 8)
  assert set(result) == {kind} and result[kind].count == 1
  assert result[kind].sent == pytest.approx(sent)


def test_a_loop_sends_as_often_as_it_turns():
  mesh = Mesh(np.asarray(jax.devices()), ("i",))

  def outer(x):
    def turn(x, _):
      return jax.lax.scan(lambda x, _: (jnp.sin(jax.lax.psum(x, "i")), None), x, length=5)

    return jax.lax.scan(lambda x, _: (turn(x, None)[0], None), x, length=3)[0]

  mapped = jax.jit(jax.shard_map(outer, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False))
  result = traffic(mapped.lower(jax.ShapeDtypeStruct((1024,), jnp.float32)).compile().as_text(), 8)
  assert result["all-reduce"].count == 15
  assert result["all-reduce"].sent == pytest.approx(15 * 2 * 7 / 8 * 4096)


def test_traffic_of_several_arrays_groups_and_none():
  text = """
  %a = (f32[16,4]{1,0}, /*index=1*/bf16[8]{0}) all-reduce(%x, %y), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%sum
  %b = f32[10]{0} all-gather-start(%z), replica_groups=[4,2]<=[8], dimensions={0}
  %c = f32[10]{0} all-reduce(%z), replica_groups={{0},{1}}, to_apply=%sum
  %d = f32[10]{0} add(%z, %z)
  """
  result = traffic(text, 8)
  assert result["all-reduce"] == (1, 2 * 3 / 4 * (16 * 4 * 4 + 8 * 2))
  assert result["all-gather"] == (1, 1 / 2 * 40)
  assert set(result) == {"all-reduce", "all-gather"}
