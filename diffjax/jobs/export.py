"""A trained denoiser as an ONNX file, for other engines.

    pip install -e '.[onnx]'          # Python 3.11: jax2onnx knows jax 0.10, and no later one beside our orbax
    python -m diffjax.jobs.export runs/digits digits.onnx --batch=16

    inputs    xt [B, ...] and t [B], both float32, and what samples ask for by field (label int32 [B])
    output    x0 [B, ...], the denoiser's estimate under the guides of the run's config

x0 and xt are as the run's space has them, and t is a time of its schedule: a sampler outside needs these alone. The
file is of one batch size. What it computes on ONNX Runtime is compared with JAX when it is written.
"""

import argparse
import contextlib
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import keys
from diffjax.jobs.sampling import Loaded, load, requests
from diffjax.machine import disk
from diffjax.models import conv
from diffjax.tasks.task import require
from diffjax.types import ConfigError, RunError

TOLERANCE = 1e-4  # of the largest number of x0


@contextlib.contextmanager
def _plain_convolutions() -> Iterator[None]:
  """A block in which convolutions are traced as XLA's own operation, which other compilers know, and not as ours."""
  original = conv.forward
  conv.forward = lambda x, kernel, stride: conv.FORMULATIONS["lax"].forward(x, kernel, stride)
  try:
    yield
  finally:
    conv.forward = original


def denoiser(checkpoint: Loaded, batch: int) -> tuple[Callable[..., jax.Array], dict[str, np.ndarray]]:
  """A function of the inputs by position -> x0, and inputs for it, by name.

  Raises:
    ConfigError: the run's task has no denoiser.
  """
  task, params, frozen = checkpoint.experiment.task, checkpoint.params, checkpoint.experiment.frozen
  require(task.can, "estimate", str(checkpoint.run.folder))
  request = requests(checkpoint.run, np.arange(batch), checkpoint.config.sample.split)
  index, names = request.pop("index"), tuple(request)
  data, sample_keys = {"index": index, **request}, keys.of_examples(keys.seed(0), index)
  begin = lambda: task.draw.begin(params, frozen, task.draw.plan, data, sample_keys)
  draws = np.random.default_rng(0)
  inputs = {
    "xt": draws.standard_normal(jax.eval_shape(begin).x.shape, np.float32),
    "t": draws.uniform(0.1, 0.9, batch).astype(np.float32),
  }

  def call(xt, t, *fields):
    return task.can["estimate"](
      params, frozen, {"index": index, **dict(zip(names, fields, strict=True))}, xt, t
    )

  return call, inputs | request


def write(call: Callable, inputs: Mapping[str, np.ndarray], path: Path) -> float:
  """Writes the file.

  Returns:
    The largest difference between what ONNX Runtime and JAX make of `inputs`, as a share of the largest number.

  Raises:
    ConfigError: the extra is not installed.
  """
  try:
    import jax2onnx
    import onnx
    import onnxruntime
  except ImportError as error:
    raise ConfigError(
      f"ONNX needs {error.name}; pip install -e '.[onnx]' brings it, for jax 0.10 on Python 3.11 alone."
    ) from None
  shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs.values()]
  with _plain_convolutions():
    model = jax2onnx.to_onnx(call, shapes, input_names=list(inputs), output_names=["x0"])
  onnx.save(model, path)
  (output,) = onnxruntime.InferenceSession(path).run(None, dict(inputs))
  truth = np.asarray(jax.jit(call)(*map(jnp.asarray, inputs.values())))
  return float(np.abs(output - truth).max() / np.abs(truth).max())


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit status."""
  parser = argparse.ArgumentParser("python -m diffjax.jobs.export", description=__doc__, allow_abbrev=False)
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  parser.add_argument("run", help='"runs/digits" or "runs/digits@1000:raw"')
  parser.add_argument("out", type=Path, help="the file")
  parser.add_argument("--batch", type=int, default=1)
  args = parser.parse_args(argv)
  try:
    if args.batch < 1:
      raise ConfigError(f"--batch is {args.batch}; it must be at least 1.")
    if not args.out.absolute().parent.is_dir():
      raise ConfigError(f"{args.out} lies in no folder that is there; make it, or name another.")
    call, inputs = denoiser(load(args.run), args.batch)
    off = write(call, inputs, args.out)
    signature = ", ".join(f"{name} {x.dtype} {list(x.shape)}" for name, x in inputs.items())
    print(f"{args.out}: {signature} -> x0; ONNX Runtime is off by {off:.1e}")
    if not off < TOLERANCE:
      raise RunError(
        f"{args.out} computes something else than the run: off by {off:.1e} of the largest number."
      )
    return 0
  except (ConfigError, RunError, OSError) as error:
    message = disk.paragraph(error) if isinstance(error, OSError) else error
    print(f"\n{textwrap.fill(f'error: {message}', 110, break_long_words=False)}", file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1


if __name__ == "__main__":
  sys.exit(main())
