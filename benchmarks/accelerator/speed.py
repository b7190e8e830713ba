"""Images per second of training and sampling, ours and diffusers' in PyTorch, in turn on one card.

One thing is compiled at a time, the most wanted first: ours, which is then timed alone, then the peer, and both are
timed in turn. torch.compile's default mode is the peer everywhere, max-autotune comes last. What has not compiled when
the time is up is left out, and the table says so. A time is that of many steps given to the device one after the
other, from a finished device to a finished one.
"""

import dataclasses
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
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
LEAST = 75  # seconds without which nothing more is compiled


def our_training(config, batch: int, chunk: int) -> Callable[[int], None]:
  """A function that takes `count` steps, and ends when the device has done them."""
  take, state, placed = ours.training(config, ours.images(batch, 32), chunk)

  def run(count):
    nonlocal state
    for _ in range(count // chunk):
      state, metrics = take(state, {}, placed())
    jax.block_until_ready(metrics)

  return run


def our_sampling(config, batch: int) -> Callable[[], None]:
  """A function that draws a batch with the config's sampler and waits for it, as --mode=sample does."""
  config.sample.batch_size = batch
  devices, made = parallel.create(), experiment.create(config, ours.fields(32))
  params, drawn = devices.init(lambda: made.task.init(keys.seed(0))), Sampling(made, devices, batch)
  return lambda: drawn.draw(params, keys.seed(1), {"index": np.arange(batch, dtype=np.int32)})


def timed(run, *arguments) -> float:
  """Seconds."""
  began = time.perf_counter()
  run(*arguments)
  return time.perf_counter() - began


def in_turn(run, peers: list[Peer], asked: dict, rounds: int, limit: float) -> dict[str, list[float]]:
  """Seconds of ours and of each peer, a number a round; a peer without an answer is left out from then on."""
  found = {"ours": []} | {peer.name: [] for peer in peers}
  for _ in range(rounds):
    found["ours"].append(timed(run))
    for peer in list(peers):
      peer.ask(**asked)
      answer = peer.answer(limit)
      if "error" in answer:
        found[peer.name] = answer["error"]
        peers.remove(peer)
      else:
        found[peer.name].append(answer["seconds"])
  return found


def row(times: dict, images: int, flop: float, ceiling: float, peak: float | None) -> dict:
  """A row of the table: images/s, the share of the ceiling and of the peak, and ratios of ours to the peers."""
  own = statistics.median(times["ours"])
  found = {"images_per_s": images / own, "flop_per_image": flop / images, "seconds": times}
  found |= {"mfu_of_measured": flop / own / ceiling, "mfu_of_989": peak and flop / own / peak}
  for name, theirs in times.items():
    if name != "ours" and isinstance(theirs, list) and theirs:
      pairs = zip(times["ours"], theirs, strict=False)
      found[f"faster than {name}"] = statistics.median(b / a for a, b in pairs)
      found[f"images_per_s {name}"] = images / statistics.median(theirs)
  return found


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

  def measure(
    self, name: str, run: Callable[[], None], peers: list[Peer], asked: dict, images: int, flop: int
  ) -> list[Peer]:
    """Times ours alone and then with the peers in turn; peers that fail are ended.

    Args:
      name: of the row.
      run: ours.
      peers: are asked to compile, one after the other.
      asked: the same of a peer (peer_turns.py).
      images: that a run makes or is trained on.
      flop: of a run.

    Returns:
      The peers that answered.
    """
    compiling = {"ours": timed(run)}
    alone = {"ours": [timed(run) for _ in range(self.rounds)]}
    found = row(alone, images, flop, self.best, self.peak) | {"first_seconds": compiling}
    self.results.add(**{f"{name}, alone": found})
    ready, without = [], {}
    for peer in peers:
      began = time.perf_counter()
      peer.ask(**asked)
      answer = peer.answer(self.results.left - SPARE)
      compiling[peer.name] = time.perf_counter() - began
      if "error" in answer:
        without[peer.name] = answer["error"]
        peer.end()
      else:
        ready.append(peer)
    if peers:
      limit = self.results.left - SPARE
      times = in_turn(run, list(ready), asked, self.rounds, limit) if ready else alone
      found = row(times, images, flop, self.best, self.peak)
      self.results.add(**{name: found | {"first_seconds": compiling, "without": without}})
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


def _measure(args, table: Table, peer: Callable[[str], list[Peer]]) -> None:
  small, large, drawn, chunk = (4, 8, 4, 2) if args.tiny else (128, 512, 256, CHUNK)
  steps = 4 if args.tiny else 40

  def enough():
    return args.tiny or table.results.left > LEAST

  def train(name, config, batch, peers, step=None):
    count = max(chunk, steps * small // batch // chunk * chunk)
    step = step or our_training(config, batch, chunk)
    asked = {"do": "train", "batch": batch, "count": count}
    flop = count * flops.training_step(config, 32)
    return step, table.measure(name, lambda: step(count), peers, asked, count * batch, flop)

  first = f"unet, batch {small}"
  step, known = train(first, sizes.unet(small, args.tiny), small, peer("" if args.tiny else "default"))
  if enough():
    config = sizes.unet(small, args.tiny)
    config.sample.sampler, config.sample.grid, config.sample.steps = "ddim", "leading", 50
    run, flop = our_sampling(config, drawn), 50 * flops.sampling_step(config, 32, drawn)
    asked = {"do": "sample", "batch": drawn, "count": 50}
    known = table.measure(f"ddim-50, batch {drawn}", run, known, asked, drawn, flop)
  if enough():
    _, known = train(f"unet, batch {large}", sizes.unet(large, args.tiny), large, known)
  for each in known:
    each.end()
  if enough() and not args.tiny:
    train(f"{first}, max-autotune", sizes.unet(small, False), small, peer("max-autotune"), step)
  if enough():
    train(f"dit-s/2, batch {small}", sizes.dit(small, args.tiny), small, [])


if __name__ == "__main__":
  main()
