"""The script of the peer's own process, and the groups of its norms."""

import ast
import json

import pytest

from benchmarks import ours, peer_process


def test_the_script_tells_what_the_peers_step_reads():
  config = ours.cifar10(4, 96)
  script = peer_process.script(config, (4, 32, 32, 3), half=True)
  (value,) = (
    node.args[0].value
    for node in ast.walk(ast.parse(script))
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "loads"
  )
  value = json.loads(value)
  assert value["model"]["unet"]["channels"] == 96
  assert value["train"]["learning_rate"] == config.train.learning_rate
  assert value["schedule"]["linear"]["steps"] == 1000
  assert "half=True" in script and "(4, 32, 32, 3)" in script


@pytest.mark.torch
def test_the_peers_norms_have_the_groups_of_ours():
  from benchmarks import peer
  from diffjax.models import layers

  assert [peer.group_count(n) for n in range(1, 513)] == [layers.group_count(n) for n in range(1, 513)]
