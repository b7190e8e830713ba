"""Damaged copies of files, for tests of what reads a stranger's."""

import copy
import json
import random

ODD = (None, True, -1, 0, 1e308, 2**70, "", "x", "\x00", [], {}, [[]], {"a": 1}, float("nan"))


def bodies(whole: bytes, count: int, seed: int = 0):
  """`count` copies with bytes changed, cut off, left out, doubled or added."""
  rng = random.Random(seed)
  for k in range(count):
    body = bytearray(whole)
    a, b = sorted(rng.randrange(len(body) + 1) for _ in range(2))
    match k % 5:
      case 0:
        for _ in range(rng.choice((1, 3, 20))):
          body[rng.randrange(len(body))] = rng.randrange(256)
      case 1:
        del body[a:]
      case 2:
        del body[a : min(b, a + 9)]
      case 3:
        body[a:a] = body[a : min(b, a + 99)]
      case 4:
        body[a:a] = rng.randbytes(7)
    yield bytes(body)


def trees(tree, count: int, seed: int = 0):
  """`count` copies of JSON with a value in it replaced, removed or renamed."""
  rng = random.Random(seed)
  for _ in range(count):
    changed = copy.deepcopy(tree)
    node, key = changed, None
    while isinstance(node, dict | list) and node and (key is None or rng.random() < 0.8):
      above, key = node, rng.choice([*node] if isinstance(node, dict) else [*range(len(node))])
      node = above[key]
    kind = rng.randrange(4)
    if kind == 0 and isinstance(above, dict):
      above[key + "x"] = above.pop(key)
    elif kind == 1:
      del above[key]
    else:
      above[key] = rng.choice(ODD)
    yield json.dumps(changed).encode()
