"""The order of the house: what may import what, read from the source itself."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "diffjax"
GROUND = ("types", "ranges", "keys")
MATH = (
  *("curves", "scales", "schedules", "gaussian", "predictions", "denoisers", "guidance", "times"),
  *("weights", "levels", "objectives", "samplers", "dequantisation", "likelihood", "jpeg", "degradations"),
)
# Imports point only up this list. A new module is placed here deliberately, at the level of what it uses.
ORDER = (
  *GROUND,
  *MATH,
  "models",
  "machine",
  "data",
  "spaces",
  "conditions",
  "metrics",
  "tasks",
  "sections",
  "choices",
  "config",
  "experiment",
  "interop",
  "jobs",
)
PURE = (*GROUND, *MATH, "models")
# Besides the order: rooms that never reach others, by whatever way.
WALLS = {
  "machine": {*MATH, "models"},
  "models": set(MATH),
  "metrics": {*MATH, "models"},
  "data": {*MATH, "models"},
}
# All that pure functions of arrays need; nothing here opens a file or knows the machine.
PURE_MAY_USE = {
  *("collections", "dataclasses", "functools", "inspect", "itertools", "math", "typing", "zlib"),
  *("jax", "flax", "numpy", "optax", "diffrax", "jaxtyping"),
}
IMPURE_BUILTINS = {"open", "print", "input", "exec", "eval", "__import__"}
DEVICES = {
  *("devices", "local_devices", "device_count", "local_device_count", "process_index", "process_count"),
  *("pmap", "pmean", "psum", "shard_map", "make_mesh", "Mesh", "NamedSharding", "PartitionSpec"),
}
MODULES = sorted(ROOT.rglob("*.py"))
every_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))


def room(path):
  """The name of a file's place in the list: its own, or its folder's."""
  return path.relative_to(ROOT).parts[0].removesuffix(".py")


@functools.cache
def parsed(path):
  return ast.parse(path.read_text(), str(path))


def imports(path):
  """(line, dotted name) of every import in a file, those inside functions too."""
  for node in ast.walk(parsed(path)):
    if isinstance(node, ast.Import):
      yield from ((node.lineno, alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}:{node.lineno} imports by a relative name"
      yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def dotted(node):
  """a.b.c of an attribute, or None."""
  if isinstance(node, ast.Name):
    return node.id
  if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
    return f"{base}.{node.attr}"
  return None


def file_of(name):
  """The file that a dotted name of this library is or lies in."""
  parts = name.split(".")[1:]
  for length in range(len(parts), -1, -1):
    place = ROOT.joinpath(*parts[:length])
    for file in (place.with_suffix(".py"), place / "__init__.py"):
      if file.is_file():
        return file
  raise AssertionError(f"{name} is nowhere")


def private(name):
  return any(part.startswith("_") and not part.startswith("__") for part in name.split("."))


def test_every_module_has_its_place_in_the_list():
  assert len(set(ORDER)) == len(ORDER) and set(PURE) < set(ORDER)
  rooms = {room(path) for path in MODULES} - {"__init__"}
  assert "schedules" in rooms and "samplers" in rooms  # the walk finds files and folders
  assert rooms <= set(ORDER), f"no place yet: {sorted(rooms - set(ORDER))}"


def test_the_page_lists_the_rooms_in_their_order():
  listed = (ROOT.parent / "docs" / "concepts.md").read_text().split("## Rooms")[1]
  named = {name + "/" * (ROOT / name).is_dir() for name in ORDER}
  words = re.findall(r"[a-z]+/?", listed.split("    ", 1)[1])
  assert [word.rstrip("/") for word in words if word in named] == [*ORDER]


@every_module
def test_imports_point_only_up_the_list(path):
  for line, name in imports(path):
    if name.split(".")[0] != "diffjax":
      continue
    if path == ROOT / "__init__.py":  # `load` alone, when it is called
      assert name == "diffjax.jobs.sampling"
      continue
    used = ORDER.index(room(file_of(name)))
    assert used <= ORDER.index(room(path)), f"{path}:{line} imports {name}, which stands below it"


@every_module
def test_no_import_passes_a_wall(path):
  seen, ahead = set(), [path]
  while ahead:
    for _, name in imports(ahead.pop()):
      if name.split(".")[0] == "diffjax" and (file := file_of(name)) not in seen:
        seen.add(file)
        ahead.append(file)
  through = {room(file) for file in seen} & WALLS.get(room(path), set())
  assert not through, f"{path} reaches {sorted(through)}, which {room(path)} must not know"


def test_no_two_modules_import_each_other():
  uses = {p: {file_of(name) for _, name in imports(p) if name.split(".")[0] == "diffjax"} for p in MODULES}
  assert sum(map(len, uses.values())) > 50
  while free := {path for path, used in uses.items() if not used}:
    uses = {path: used - free for path, used in uses.items() if path not in free}
  assert not uses, f"in or behind a circle: {sorted(str(p.relative_to(ROOT)) for p in uses)}"


@every_module
def test_nothing_private_of_others_is_used(path):
  for line, name in imports(path):
    assert not private(name), f"{path}:{line} imports {name}"
  mine = {name.split(".")[-1] for _, name in imports(path)} | {
    alias.asname
    for node in ast.walk(parsed(path))
    if isinstance(node, ast.Import | ast.ImportFrom)
    for alias in node.names
  }
  for node in ast.walk(parsed(path)):
    if isinstance(node, ast.Attribute) and (name := dotted(node)) and name.split(".")[0] in mine:
      public = name == "os._exit"  # documented, in spite of its name
      assert public or not private(name), f"{path}:{node.lineno} uses {name}"


@every_module
def test_the_pure_core_reads_and_writes_nothing(path):
  if room(path) not in PURE:
    return
  for line, name in imports(path):
    top = name.split(".")[0]
    fine = room(file_of(name)) in PURE if top == "diffjax" else top in PURE_MAY_USE
    assert fine, f"{path}:{line} imports {name}"
  for node in ast.walk(parsed(path)):
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
      assert node.func.id not in IMPURE_BUILTINS, f"{path}:{node.lineno} calls {node.func.id}"


@every_module
def test_only_parallel_knows_devices(path):
  if path.relative_to(ROOT) == Path("machine/parallel.py"):
    return
  for line, name in imports(path):
    assert not (name.startswith("jax.") and name.split(".")[-1] in DEVICES), f"{path}:{line} imports {name}"
  for node in ast.walk(parsed(path)):
    if isinstance(node, ast.Attribute) and (name := dotted(node)) and name.startswith("jax."):
      assert name.split(".")[-1] not in DEVICES, f"{path}:{node.lineno} uses {name}"


@pytest.mark.parametrize("path", sorted((ROOT.parent / "configs").glob("*.py")), ids=lambda p: p.name)
def test_a_config_uses_only_the_config_and_other_configs(path):
  for line, name in imports(path):
    assert name == "diffjax.config" or name.startswith("configs."), f"{path}:{line} imports {name}"


def test_a_run_on_digits_imports_nothing_slow_that_it_does_not_need():
  slow = ("diffrax", "scipy", "sklearn", "matplotlib", "tensorflow_datasets", "wandb")
  program = f"""
import sys
from configs import digits
from diffjax import experiment
from diffjax.jobs import training
config = digits.get_config()
source = experiment.source(config, "train")
experiment.create(config, source.fields)
print([name for name in {slow} if name in sys.modules])
"""
  command = [sys.executable, "-c", program]
  child = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, check=True)
  assert child.stdout.strip() == "[]"
