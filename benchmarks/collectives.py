"""What devices tell each other, counted from a compiled program.

Bytes are those that one device sends around a ring of n for an array of b bytes (Thakur et al. 2005):

    all-reduce               2 (n - 1) / n b
    all-gather                 (n - 1) / n b, b of what comes out
    reduce-scatter             (n - 1) / n b, b of what goes in
    all-to-all                 (n - 1) / n b
    collective-permute                     b
"""

import re
from collections.abc import Iterator
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
HEADER = re.compile(r"(?:ENTRY )?%?([\w.-]+) \(.*\{\s*$")
BODY = re.compile(r" while\(.*body=%?([\w.-]+)")
TURNS = re.compile(r"known_trip_count\W+n\W+(\d+)")
COUNTED = re.compile(r"replica_groups=\[(\d+),(\d+)\]")


class Traffic(NamedTuple):
  """Of one kind of collective: how many, and the bytes that one device sends in all of them together."""

  count: int
  sent: float


def traffic(text: str, devices: int) -> dict[str, Traffic]:
  """The collectives of a program's HLO text by kind; in a loop as often as it turns, if XLA knows."""
  kinds: dict[str, Traffic] = {}
  for line, times in _lines(re.sub(r"/\*.*?\*/", "", text)):  # long tuples are numbered in comments
    if match := LINE.search(line):
      shapes, kind, rest = match.groups()
      size = _group(rest, devices)
      if size == 1:
        continue
      count, sent = kinds.get(kind, (0, 0.0))
      kinds[kind] = Traffic(count + times, sent + times * SHARES[kind](size) * _bytes(shapes))
  return kinds


def _lines(text: str) -> Iterator[tuple[str, int]]:
  """The lines of all computations, and how often each is run: once if nothing says otherwise."""
  bodies: dict[str, list[str]] = {}
  place = bodies.setdefault("", [])
  for line in text.splitlines():
    if header := HEADER.match(line):
      place = bodies.setdefault(header[1], [])
    else:
      place.append(line)
  caller = {}  # of a loop's body: the computation that the loop is in, and its turns
  for name, lines in bodies.items():
    for line in lines:
      if body := BODY.search(line):
        turns = TURNS.search(line)
        caller[body[1]] = name, int(turns[1]) if turns else 1

  def times(name):
    outer, turns = caller.get(name, (None, 1))
    return turns * (1 if outer is None else times(outer))

  for name, lines in bodies.items():
    yield from ((line, times(name)) for line in lines)


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
  if match := LISTED.search(rest):
    return len(match[1].split(","))
  if match := COUNTED.search(rest):
    return int(match[2])
  return devices
