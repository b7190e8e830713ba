"""Eight fake CPU devices for every test, shapes checked in the pure core, and caches of the session's own.

What one test has compiled the others find, in other workers and in the processes that tests start as well.
"""

import atexit
import gc
import os
import shutil
import tempfile
from importlib.metadata import version

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # in workers it is
  os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="diffjax-compiled-")
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # most are small, and many
  atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # or every operation notes its lines of Python
os.environ["NPROC"] = "32"  # fewer threads than twice the fake devices can deadlock in a collective
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of what tests compile runs once or twice, and takes longer to optimise than to run.
FLAGS = ["--xla_force_host_platform_device_count=8", "--xla_backend_optimization_level=0"]
FLAGS += ["--xla_cpu_parallel_codegen_split_count=1"]  # the other core has tests of its own
if version("jax") < "0.11":  # where the CPU's other emitters, quicker to compile, are still there
  FLAGS += ["--xla_cpu_use_fusion_emitters=false"]
os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *FLAGS))

# By default the millions of small objects that tracing makes are looked through again and again.
gc.set_threshold(100_000, 50, 50)

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

hypothesis.settings.register_profile("diffjax", deadline=None, max_examples=30, derandomize=True)
hypothesis.settings.load_profile("diffjax")

CHECKED = (
  "keys",
  "curves",
  "scales",
  "schedules",
  "gaussian",
  "predictions",
  "denoisers",
  "guidance",
  "times",
  "weights",
  "objectives",
  "samplers",
  "dequantisation",
  "likelihood",
)
# The longest files, in the order in which workers take them, so that what is left for the end is short.
FIRST = (
  *("test_processes.py", "test_configs.py", "test_main.py", "test_every_task.py", "test_errors.py"),
  *(
    "test_every_schedule.py",
    "test_every_metric.py",
    "test_samplers.py",
    "test_objectives.py",
    "test_likelihood.py",
  ),
  *("test_trained.py", "test_importance.py", "test_every_model.py", "test_schedules.py", "test_imported.py"),
  *("test_classifier.py", "test_docs.py", "test_pool.py", "test_weights.py", "test_text_runs.py"),
  *("test_agreement.py", "test_train_step.py", "test_gathering.py", "test_moving_digits_metric.py"),
)

install_import_hook([f"diffjax.{name}" for name in CHECKED], "beartype.beartype")


def pytest_collection_modifyitems(items):
  """The longest files first, so that the workers end at about the same time."""
  items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


@pytest.fixture(autouse=True, scope="session")
def optimised_classifier():
  """The classifiers of metrics train for hundreds of steps and see thousands of images: there optimising saves time."""
  from diffjax.metrics import classifier

  options = {"xla_backend_optimization_level": 1}
  with pytest.MonkeyPatch.context() as patch:
    for name in ("_train", "_apply"):
      plain = getattr(classifier, name).__wrapped__
      patch.setattr(classifier, name, jax.jit(plain, static_argnums=0, compiler_options=options))
    yield


@pytest.fixture(autouse=True, scope="session")
def data_cache(tmp_path_factory):
  """Images that tests decode do not stay in the user's cache."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("DIFFJAX_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
