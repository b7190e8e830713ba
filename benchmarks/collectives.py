"""What devices tell each other, counted from a compiled program.

Bytes are those that one device sends around a ring of n for an array of b bytes (Thakur et al. 2005):

    all-reduce               2 (n - 1) / n b
    all-gather                 (n - 1) / n b, b of what comes out
    reduce-scatter             (n - 1) / n b, b of what goes in
    all-to-all                 (n - 1) / n b
    collective-permute                     b
"""

import re
from typing import NamedTuple

SIZES = {
  "pred": 1,
  "s8": 1,
  "u8": 1,
  "bf16": 2,
  "f16": 2,
  "s32": 4,
  "u32": 4,
  "f32": 4,
  "s64": 8,
  "u64": 8,
  "f64": 8,
}
SHARES = {
  "all-reduce": lambda n: 2 * (n - 1) / n,
  "all-gather": lambda n: (n - 1) / n,
  "reduce-scatter": lambda n: n - 1,  # of what comes out, which is b / n
  "all-to-all": lambda n: (n - 1) / n,
  "collective-permute": lambda n: 1,
}
LINE = re.compile(rf"= (\(?[^=]*?\)?) ({'|'.join(SHARES)})(?:-start)?\((.*)")
ARRAY = re.compile(rf"({'|'.join(SIZES)})\[([\d,]*)\]")
LISTED = re.compile(r"replica_groups=\{\{([\d,]+)\}")
COUNTED = re.compile(r"replica_groups=\[(\d+),(\d+)\]")


class Traffic(NamedTuple):
  """Of one kind of collective: how many, and the bytes that one device sends in all of them together."""

  count: int
  sent: float


def traffic(text: str, devices: int) -> dict[str, Traffic]:
  """The collectives of a program's HLO text by kind; those inside a loop count once."""
  found: dict[str, Traffic] = {}
  for line in re.sub(r"/\*.*?\*/", "", text).splitlines():  # long tuples are numbered in comments
    if match := LINE.search(line):
      shapes, kind, rest = match.groups()
      size = _group(rest, devices)
      if size == 1:
        continue
      count, sent = found.get(kind, (0, 0.0))
      found[kind] = Traffic(count + 1, sent + SHARES[kind](size) * _bytes(shapes))
  return found


def _bytes(shapes: str) -> int:
  total = 0
  for kind, dims in ARRAY.findall(shapes):
    numbers = 1
    for dim in filter(None, dims.split(",")):
      numbers *= int(dim)
    total += SIZES[kind] * numbers
  return total


def _group(rest: str, devices: int) -> int:
  """Devices that take part in one group."""
  if found := LISTED.search(rest):
    return len(found[1].split(","))
  if found := COUNTED.search(rest):
    return int(found[2])
  return devices
