"""Images per second of training and sampling, ours and diffusers' in PyTorch, in turn on one card.

One row is compiled at a time, the most wanted first: ours and the peer beside each other, and then both are timed in
turn; more at once only wait for the card, which both try their kernels on. torch.compile's default mode is the peer
everywhere, max-autotune comes last. What has not compiled when the time is up is left out, and the table says so. A
time is that of many steps given to the device one after the other, from a finished device to a finished one.
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from benchmarks import flops, ours
from benchmarks.accelerator import part, sizes
from benchmarks.accelerator.peers import Peer
from diffjax import experiment, keys
from diffjax.jobs.drawing import Sampling
from diffjax.machine import parallel

CHUNK, PEAK = 10, {"H100": 989e12, "H200": 989e12}
SPARE = 15  # seconds that are kept when a peer is waited for
LEAST = 75  # seconds without which no row is begun
DEFAULT, SEARCHED = "default", "max-autotune"  # modes of torch.compile


def our_training(config, batch: int, chunk: int, count: int) -> Callable[[], None]:
  """A function that takes `count` steps, and ends when the device has done them."""
  take, state, placed = ours.training(config, ours.images(batch, 32), chunk)

  def run():
    nonlocal state
    for _ in range(count // chunk):
      state, metrics = take(state, {}, placed())
    jax.block_until_ready(metrics)

  return run


def our_sampling(config, batch: int) -> Callable[[], None]:
  """A function that draws a batch with the config's sampler and waits for it, as --mode=sample does."""
  config.sample.batch_size = batch
  devices, parts = parallel.create(), experiment.create(config, ours.fields(32))
  params, sampling = devices.init(lambda: parts.task.init(keys.seed(0))), Sampling(parts, devices, batch)
  return lambda: sampling.draw(params, keys.seed(1), {"index": np.arange(batch, dtype=np.int32)})


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of the table.

  Attributes:
    make: () -> what does the work once and waits for the device.
    images: that it makes or is trained on.
    flop: its operations.
    task: the same of a peer (peer_turns.py); None where there is none.
  """

  make: Callable[[], Callable[[], None]]
  images: int
  flop: int
  task: Mapping | None = None


def rows(tiny: bool) -> dict[str, Row]:
  """The table's rows by name, the most wanted first."""
  small, large, samples, chunk, most = (4, 8, 4, 2, 4) if tiny else (128, 512, 256, CHUNK, 40)

  def train(make, batch, peer=True):
    config, count = make(batch, tiny), max(chunk, most * small // batch // chunk * chunk)
    task = {"do": "train", "batch": batch, "count": count} if peer else None
    flop = count * flops.training_step(config, 32)
    return Row(functools.partial(our_training, config, batch, chunk, count), count * batch, flop, task)

  sampled = sizes.unet(small, tiny)
  sampled.sample.sampler, sampled.sample.grid, sampled.sample.steps = "ddim", "leading", 50
  walk = {"do": "sample", "batch": samples, "count": 50}
  flop = 50 * flops.sampling_step(sampled, 32, samples)
  return {
    f"unet, batch {small}": train(sizes.unet, small),
    f"ddim-50, batch {samples}": Row(functools.partial(our_sampling, sampled, samples), samples, flop, walk),
    f"unet, batch {large}": train(sizes.unet, large),
    f"dit-s/2, batch {small}": train(sizes.dit, small, peer=False),
  }


def timed(run) -> float:
  """Seconds."""
  began = time.perf_counter()
  run()
  return time.perf_counter() - began


def in_turn(run, peers: list[Peer], task: Mapping, rounds: int, limit: float) -> dict[str, list[float]]:
  """Seconds of ours and of each peer, a number a round; a peer without an answer is left out from then on."""
  times = {"ours": []} | {peer.name: [] for peer in peers}
  for _ in range(rounds):
    times["ours"].append(timed(run))
    for peer in list(peers):
      peer.ask(**task)
      answer = peer.answer(limit)
      if "error" in answer:
        times[peer.name] = answer["error"]
        peers.remove(peer)
      else:
        times[peer.name].append(answer["seconds"])
  return times


def row(times: dict, images: int, flop: float, ceiling: float, peak: float | None) -> dict:
  """A row's figures: images/s, the share of the ceiling and of the peak, and ratios of ours to the peers."""
  own = statistics.median(times["ours"])
  cells = {"images_per_s": images / own, "flop_per_image": flop / images, "seconds": times}
  cells |= {"mfu_of_measured": flop / own / ceiling, "mfu_of_989": peak and flop / own / peak}
  for name, theirs in times.items():
    if name != "ours" and isinstance(theirs, list) and theirs:
      pairs = zip(times["ours"], theirs, strict=False)
      cells[f"faster than {name}"] = statistics.median(b / a for a, b in pairs)
      cells[f"images_per_s {name}"] = images / statistics.median(theirs)
  return cells


def ceiling(out: Path) -> float:
  """FLOP/s of the matrix product that card.py measured; nan where it did not."""
  try:
    return json.loads((out / "card.json").read_text())["product_flop_per_s"]
  except (OSError, KeyError, ValueError):
    return float("nan")


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows as they come.

  Attributes:
    results: where they go.
    best: the measured ceiling, FLOP/s.
    peak: the datasheet's, where it is known.
    rounds: of every row.
  """

  results: part.Results
  best: float
  peak: float | None
  rounds: int

  def measure(self, name: str, line: Row, run: Callable[[], None], peers: list[Peer]) -> list[Peer]:
    """Compiles ours beside the peers, then times all in turn; peers that fail are ended.

    "NAME, first" has ours timed while the peers may still compile.

    Args:
      name: of the row.
      line: the row.
      run: what `line.make` made.
      peers: are asked to compile before ours is.

    Returns:
      The peers that answered.
    """
    began = time.perf_counter()
    for peer in peers:
      peer.ask(**line.task)
    compiling, ready, without = {"ours": timed(run)}, [], {}
    alone = {"ours": [timed(run) for _ in range(self.rounds)]}  # kept, whatever becomes of the peers
    self.results.add(**{f"{name}, first": row(alone, line.images, line.flop, self.best, self.peak)})
    for peer in peers:
      answer = peer.answer(self.results.left - SPARE)
      compiling[peer.name] = time.perf_counter() - began
      if "error" in answer:
        without[peer.name] = answer["error"]
        peer.end()
      else:
        ready.append(peer)
    times = in_turn(run, list(ready), line.task, self.rounds, self.results.left - SPARE) if peers else alone
    cells = row(times, line.images, line.flop, self.best, self.peak)
    self.results.add(**{name: cells | {"first_seconds": compiling, "without": without}})
    return ready


def main() -> None:
  """Measures, the most important first."""
  args = part.arguments("speed", __doc__)
  results = part.Results(args.out, "speed", args.seconds)
  part.cached()
  device = jax.devices()[0].device_kind
  peak = next((value for name, value in PEAK.items() if name in device), None)
  table = Table(results, ceiling(args.out), peak, 2 if args.tiny else 5)
  results.add(device=device, ceiling=table.best, peak=peak)
  there, peers = importlib.util.find_spec("diffusers"), []

  def peer(mode):
    if there:
      peers.append(Peer(sizes.unet(1, args.tiny), mode, args.out / f"peer-{mode or 'eager'}.log"))
    return peers[-1:]

  if not there:
    results.add(no_peer="diffusers is not installed")
  try:
    _measure(args, table, peer)
  finally:
    for each in peers:
      each.end()


def _measure(args: argparse.Namespace, table: Table, peer: Callable[[str], list[Peer]]) -> None:
  lines, peers, first = rows(args.tiny), peer("" if args.tiny else DEFAULT), None
  for name, line in lines.items():
    if args.tiny or table.results.left > LEAST:
      run = line.make()
      first = first or (name, line, run)
      if line.task is None:
        table.measure(name, line, run, [])
      else:
        peers = table.measure(name, line, run, peers)
  for each in peers:
    each.end()
  if not args.tiny and table.results.left > LEAST:
    name, line, run = first
    table.measure(f"{name}, {SEARCHED}", line, run, peer(SEARCHED))


if __name__ == "__main__":
  main()
