"""Images per second of training and sampling, ours and diffusers' in PyTorch, in turn on one card.

The peers (torch.compile with max-autotune and with its default) compile in processes of their own while ours does;
while anything is timed all others stand still. A peer that has not compiled in time is left out, and the table says
so. A time is that of many steps given to the device one after the other, from a finished device to a finished one.
"""

import json
import statistics
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks import flops, ours
from benchmarks.accelerator import part, sizes
from benchmarks.accelerator.peers import Peer
from diffjax import experiment, keys, parallel
from diffjax.sampling import Sampling

CHUNK, PEAK = 10, {"H100": 989e12, "H200": 989e12}
MODES = ("default", "max-autotune")


def our_training(config, batch: int, chunk: int):
  """A function that takes `count` steps, and ends when the device has done them."""
  take, state, placed = ours.training(config, ours.images(batch, 32), chunk)

  def run(count):
    nonlocal state
    for _ in range(count // chunk):
      state, metrics = take(state, placed())
    jax.block_until_ready(metrics)

  run(2 * chunk)
  return run


def our_sampling(config, batch: int):
  """A function that draws a batch with the config's sampler and waits for it, as --mode=sample does."""
  config.sample.batch_size = batch
  devices, made = parallel.create(), experiment.create(config, (32, 32, 3), 0)
  params, drawn = devices.init(lambda: made.init(keys.seed(0))), Sampling(made, devices, batch)
  run = lambda: drawn.draw(params, keys.seed(1), np.arange(batch), np.zeros(batch, np.int32))  # noqa: E731
  run()
  return run


def timed(run, *arguments) -> float:
  """Seconds."""
  began = time.perf_counter()
  run(*arguments)
  return time.perf_counter() - began


def in_turn(run, peers: list[Peer], asked: dict, rounds: int, limit: float) -> dict[str, list[float]]:
  """Seconds of ours and of each peer, a number a round; a peer without an answer is left out from then on."""
  found = {"ours": []} | {peer.name: [] for peer in peers}
  for _ in range(rounds):
    for peer in peers:
      peer.pause(True)
    found["ours"].append(timed(run))
    for peer in list(peers):
      peer.pause(False)
      peer.ask(**asked)
      answer = peer.answer(limit)
      peer.pause(True)
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


def _ready(peers: list[Peer], limit: float) -> tuple[list[Peer], dict]:
  """The peers whose first answer is there by then, and what is to be said of the others."""
  until, ready, said = time.monotonic() + limit, [], {}
  for peer in peers:
    answer = peer.answer(until - time.monotonic())
    if "error" in answer:
      said[peer.name] = answer["error"]
    else:
      ready.append(peer)
  return ready, said


def ceiling(out: Path) -> float:
  """FLOP/s of the matrix product that card.py measured; nan where it did not."""
  try:
    return json.loads((out / "card.json").read_text())["product_flop_per_s"]
  except (OSError, KeyError, ValueError):
    return float("nan")


def main() -> None:
  """Measures, the most important first."""
  args = part.arguments("speed", __doc__)
  results = part.Results(args.out, "speed", args.seconds)
  batches, steps, rounds, chunk = ((4, 8), 4, 2, 2) if args.tiny else ((128, 512), 40, 5, CHUNK)
  try:
    import diffusers  # noqa: F401

    kinds = MODES if not args.tiny else ("",)
  except ImportError as error:
    results.add(no_peer=str(error))
    kinds = ()
  config = sizes.unet(batches[0], args.tiny)
  peers = [Peer(config, mode, args.out / f"peer-{mode or 'eager'}.log") for mode in kinds]
  try:
    _measure(args, results, peers, batches, steps, rounds, chunk)
  finally:
    for peer in peers:
      peer.end()


def _measure(
  args, results: part.Results, everyone: list[Peer], batches, steps: int, rounds: int, chunk: int
) -> None:
  small, large = batches
  for peer in everyone:
    peer.ask("train", small, 1)
  part.cached()
  device = jax.devices()[0].device_kind
  peak = next((value for name, value in PEAK.items() if name in device), None)
  best = ceiling(args.out)
  results.add(device=device, ceiling=best, peak=peak)

  def train(name, config, batch, peers, wait):
    count = max(chunk, steps * small // batch // chunk * chunk)
    run, flop = our_training(config, batch, chunk), flops.training_step(config, 32)
    for peer in peers:
      peer.pause(True)
    alone = [timed(run, count) for _ in range(rounds)]
    results.add(**{f"{name}, alone": row({"ours": alone}, count * batch, count * flop, best, peak)})
    for peer in peers:
      peer.pause(False)
    ready, said = _ready(peers, min(wait, results.left - 20)) if peers else ([], {})
    for peer in peers:
      peer.pause(peer not in ready)
    if ready:
      asked = {"do": "train", "batch": batch, "count": count}
      times = in_turn(lambda: run(count), list(ready), asked, rounds, results.left - 15)
      results.add(**{name: row(times, count * batch, count * flop, best, peak) | {"without": said}})
    elif said:
      results.add(**{f"{name}, peers": said})
    return ready

  ready = train(f"unet, batch {small}", sizes.unet(small, args.tiny), small, everyone, 75)
  for peer in everyone:
    if peer not in ready:
      peer.end()
  first = ready[:1]  # its default mode, or what there is
  for peer in ready[1:]:
    peer.end()
  for peer in first:
    peer.pause(False)
    peer.ask("train", large, 1)
  first = train(f"unet, batch {large}", sizes.unet(large, args.tiny), large, first, 45)
  drawn = 4 if args.tiny else 256
  for peer in first:
    peer.pause(False)
    peer.ask("sample", drawn, 50)
  config = sizes.unet(small, args.tiny)
  config.sample.sampler, config.sample.grid, config.sample.steps = "ddim", "leading", 50
  run, flop = our_sampling(config, drawn), 50 * flops.sampling_step(config, 32, drawn)
  ready, said = _ready(first, min(40, results.left - 25)) if first else ([], {})
  asked = {"do": "sample", "batch": drawn, "count": 50}
  times = in_turn(run, list(ready), asked, min(rounds, 3), results.left - 15)
  results.add(ddim_50=row(times, drawn, flop, best, peak) | {"batch": drawn, "without": said})
  for peer in first:
    peer.end()
  if results.left > 25 or args.tiny:
    train(f"dit-s/2, batch {small}", sizes.dit(small, args.tiny), small, [], 0)


if __name__ == "__main__":
  main()
