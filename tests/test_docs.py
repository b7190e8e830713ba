"""The pages that people read: their commands, names and code are right, and the ideas of docs/extending.md work.

The diffs of docs/extending.md are applied to a copy of the library, where one process of its own tries what they make.
"""

import ast
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from diffjax import config
from diffjax.choices import CHOICES
from diffjax.jobs import commandline, config_file

ROOT = Path(__file__).parents[1]
PAGES = sorted(
  [
    ROOT / "README.md",
    *(p for room in ("docs", "experiments", "benchmarks") for p in (ROOT / room).rglob("*.md")),
  ]
)
EXTENDING = ROOT / "docs" / "extending.md"
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
KINDS = ("condition", "task", "guide", "schedule", "sampler", "metric")
FOLDERS = "benchmarks|configs|diffjax|docs|experiments|requirements|tests"
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def text_of(page):
  """A page, or what a config says of itself."""
  return page.read_text() if page.suffix == ".md" else ast.get_docstring(ast.parse(page.read_text()))


def commands(text):
  """The words from "python" on of every command that is indented, its lines joined, or stands in backticks."""
  text = re.sub(r"\\\n\s*", "", text)
  lines = re.findall(r"^\s{4,}(\S.*)", text, flags=re.M) + re.findall(r"`([^`\n]+)`", text)
  return [words_of(line) for line in lines if re.search(r"(?<![\w.-])python (main\.py|-[mc] )", line)]


def words_of(line):
  """Its words; the command may follow another's, such as srun's, or stand in one of its words, as in gcloud's."""
  words = shlex.split(line, comments=True)
  words = [inner for word in words for inner in (shlex.split(word) if "python main" in word else [word])]
  return words[[word.split("/")[-1] for word in words].index("python") :]


def cases(words):
  """The words with every config that NAME may stand for, and without what is left open by "..."."""
  words = [word for word in words if not word.endswith("...")]
  (place,) = [word.removeprefix("--config=") for word in words if word.startswith("--config=")] or [""]
  names = [path.stem for path in CONFIGS if "NAME" in place and path.match(place.replace("NAME", "*"))]
  before, after = place.removeprefix("configs/").removesuffix(".py").split("NAME") if names else ("", "")
  values = [name.removeprefix(before).removesuffix(after) for name in names] or ["NAME"]
  return [[word.replace("NAME", value) for word in words] for value in values]


def check_flags(words, source):
  """Every flag that is no field of the config is one that the program knows."""
  for word in words:
    flag = re.match(r"--[a-z][\w-]*", word)
    assert not flag or word.startswith("--config.") or f'"{flag[0]}"' in source, (word, words)


def check_code(code):
  """The modules, the functions and their parameters are there; nothing is called."""
  tree, names = ast.parse(code), {}
  for part in tree.body:
    if isinstance(part, ast.Import | ast.ImportFrom):
      exec(ast.unparse(part), names)
  for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
    options = {option.arg: None for option in call.keywords}
    inspect.signature(eval(ast.unparse(call.func), names)).bind(*call.args, **options)


def configured(words, base=None):
  """The config of a command, as the command line would make it."""
  settings = base or config.base()
  for word in words:
    name, _, value = word.removeprefix("--").partition("=")
    if name == "config":
      settings = config_file.load(value)
  for word in words:
    name, _, value = word.removeprefix("--").partition("=")
    if not name.startswith("config."):
      continue
    *sections, field = name.removeprefix("config.").split(".")
    config.require_field(settings, ".".join((*sections, field)))
    section = settings
    for each in sections:
      section = section[each]
    section[field] = value if section.get_type(field) is str else ast.literal_eval(value)
  return settings


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
  monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
  "page",
  [page for page in (*PAGES, *CONFIGS) if page != EXTENDING],
  ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_command_can_be_given(page):
  for words in commands(text_of(page)):
    if words[1] == "-c":
      check_code(words[2])
      continue
    if words[1] == "-m":
      module = ROOT.joinpath(*words[2].split("."))
      (file,) = [path for path in (module.with_suffix(".py"), module / "__main__.py") if path.is_file()]
      imports = re.findall(r"^from (experiments[\w.]+) import", source := file.read_text(), flags=re.M)
      tools = (ROOT / "experiments" / "tools").glob("*.py") if words[2].startswith("experiments.") else ()
      others = (
        path for name in imports if (path := ROOT.joinpath(*name.split(".")).with_suffix(".py")).is_file()
      )
      check_flags(words[3:], source + "".join(path.read_text() for path in (*tools, *others)))
    else:
      check_flags(words[2:], str([f"--{flag}" for flag in commandline.own()]).replace("'", '"'))
    for each in cases(words[2:]):
      config.check(configured(each))
  for target in re.findall(r"(?:^\s{4,}|`)make ([a-z-]+)", text_of(page), flags=re.M):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.M), target


@pytest.mark.parametrize("page", (*PAGES, *CONFIGS), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_field_has_its_former_name(page):
  former = "|".join(re.escape(name) for name in config.RENAMED)
  assert not re.findall(rf"(?<![\w.])(?:config\.)?(?:{former})(?![\w.]*\w)", text_of(page))
  for path in re.findall(r"--config\.([a-z_0-9.]+)=", text_of(page)) if page != EXTENDING else ():
    config.require_field(config.base(), path)


def test_every_dict_stands_in_the_file_that_the_readme_names():
  table = re.findall(
    r"\| ([A-Z_, ]+?)(?: \(.*?\))? \| (`diffjax/.*?) (?=\|)", (ROOT / "README.md").read_text()
  )
  found = {name: re.findall("`(.+?)`", files) for names, files in table for name in names.split(", ")}
  assert {"SCHEDULES", "SAMPLERS", "PIXELS", "AVERAGES", "NAMES"} <= found.keys()
  for name, (first, *others) in found.items():
    files = [
      ROOT / first,
      *(ROOT / each if "/" in each else (ROOT / first).with_name(each) for each in others),
    ]
    assert any(re.search(rf"^{name}\b.*=", file.read_text(), flags=re.M) for file in files), name


@every_page
def test_every_file_that_is_named_is_there(page):
  text = page.read_text()
  named = re.findall(rf"(?<![\w/])((?:{FOLDERS})/[a-z_0-9/]*(?:\.(?:py|md|lock|csv|png))?)(?![\w*<])", text)
  parts = {} if page != EXTENDING else set(re.findall(r"^\+\+\+ b/(\S+)", text, flags=re.M))
  linked = [page.parent / link for link in re.findall(r"\]\(([^)#:]+)\)", text)]
  for path in (*(ROOT / name for name in named if name not in parts), *linked):
    assert path.exists() or path.with_suffix(".py").exists(), path


def test_the_readme_names_every_dict_of_entries():
  message = (ROOT / "README.md").read_text()
  modules = [vars(module) for name, module in list(sys.modules.items()) if name.startswith("diffjax.")]
  dicts = [choice.entries for choice in CHOICES]
  of = {name: value for module in modules for name, value in module.items() if name.isupper()}
  named = {name for name, value in of.items() if any(value is entries for entries in dicts)}
  assert {"SCHEDULES", "TASKS", "AVERAGES"} < named
  assert [name for name in sorted(named - {"FINALS"}) if not re.search(rf"\b{name}\b", message)] == []


def code_of(page):
  """The blocks of Python in a page."""
  return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.S)


def test_the_config_of_the_readme_is_the_one_that_is_trained():
  (code,) = code_of(ROOT / "README.md")
  assert (ROOT / "configs" / "digits.py").read_text().rstrip().endswith(code.rstrip())


def test_the_sweep_of_the_readme_is_one():
  from experiments.tools import sweeps  # not in the copy that this file is read from

  (code,) = re.findall(
    r"^    SWEEP = product\(\n(?:     .*\n)+    \)\n", (ROOT / "README.md").read_text(), flags=re.M
  )
  results = {"product": sweeps.product}
  exec(textwrap.dedent(code), results)
  sweep = results["SWEEP"]
  assert [run.name for run in sweep.runs][::5] == ["eps-linear", "v-cosine"] and len(sweep.runs) == 6
  for run in sweep.runs:
    changes = [f"--config.{path}={value}" for path, value in (sweep.shared | run.overrides).items()]
    config.check(configured([f"--config={sweep.base}", *changes]))


def test_the_code_of_the_concepts_runs():
  (code,) = code_of(ROOT / "docs" / "concepts.md")
  results = {}
  exec(code, results)
  x = np.asarray(results["x"])
  assert x.shape == (512, 1)
  # DDPM's table and the larger variance end at 0.25075; four standard errors of 512 samples.
  assert abs(x.mean() - 0.7) < 4 * 0.5 / 512**0.5 and abs(x.var() - 0.25075) < 4 * 0.25 * (2 / 512) ** 0.5


# What the process in the copy does; what it finds is printed as JSON.
TRIAL = """
import json, sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import diffjax
from diffjax import conditions, config, experiment, keys, schedules
from diffjax.data.source import ArraySource
from diffjax.denoisers import gaussian_denoiser
from diffjax.guidance import GUIDES, Scene
from diffjax.jobs import evaluation, sampling, training
from diffjax.machine import parallel
from diffjax.metrics import METRICS
from diffjax.samplers import SAMPLERS
from diffjax.samplers.base import Carry
from diffjax.schedules import SCHEDULES
from diffjax.types import ConfigError
from tests.test_docs import commands, configured

here, page = Path.cwd(), Path(sys.argv[1]).read_text()
assert Path(diffjax.__file__).is_relative_to(here)
plain = lambda tree: jax.tree.map(lambda x: np.asarray(x).tolist(), tree)
found = {}


def small(c):
  c.model.name, c.model.dit.channels, c.model.dit.blocks, c.model.dit.heads = "dit", 16, 1, 1
  c.train.steps, c.train.batch_size, c.train.warmup, c.compile_cache = 2, 8, 0, False
  c.log.samples, c.log.held_out, c.sample.count, c.sample.steps = 4, 4, 4, 3
  return c


fields = experiment.source(config.base(), "train").fields
for words in (words for words in commands(page) if words[1] == "main.py"):
  c = configured(words[2:], config.base() if "--config=" in str(words) else configured(["--config=configs/digits.py"]))
  if "runs/bright" in str(words):
    c.condition.names = ("label", "brightness")
  if "runs/dae" in str(words):
    c.task.name = "dae"
  made = experiment.create(small(c), fields)
  drawing, data = made.task.draw, {"index": np.arange(2), **made.task.request(np.arange(2), None)}
  params, own = jax.eval_shape(made.task.init, keys.seed(0)), keys.of_examples(keys.seed(0), jnp.arange(2))
  carry = jax.eval_shape(drawing.begin, params, {}, drawing.plan, data, own)
  drawn = jax.eval_shape(drawing.advance, params, {}, drawing.plan, data, own, carry, 0, 1)
  assert drawn[2].shape == (2, 8, 8, 1)
  found.setdefault("commands", []).append(" ".join(words))

# A condition: its value, null and request, and that it reaches the network, its own example alone.
c = small(configured(["--config=configs/digits.py"]))
c.condition.names = ("label", "brightness")
task = experiment.create(c, fields).task
images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)
brightness = conditions.CONDITIONS["brightness"](fields)
value = brightness.value({"image": jnp.asarray(images)}, None)
rng, schedule, t = np.random.default_rng(1), SCHEDULES["cosine"](), np.full(3, 0.5, np.float32)
normal = lambda shape: rng.standard_normal(shape).astype(np.float32)  # the last layers would begin at 0
params, x = jax.tree.map(lambda p: normal(p.shape) / 4, jax.eval_shape(task.init, keys.seed(0))), normal((3, 8, 8, 1))


@jax.jit
def change(value):
  told = lambda b: {"label": jnp.zeros(3, int), "brightness": b}
  denoise = lambda b: task.can["denoise"](params, told(b))(x, t, schedule).x0
  return jnp.max(jnp.abs(denoise(value) - denoise(value.at[1, 0].add(0.3))), axis=(1, 2, 3))


found["condition"] = {
  "means": (images / 255).mean((1, 2, 3)).tolist(),
  "value": plain(value),
  "null": plain(brightness.null(value)),
  "request": plain(task.request(np.arange(3), None)["brightness"]),
  "changes": plain(change(value)),
  "free": config.free(c)("condition.brightness.request"),
}

# A task: its loss where the network still answers 0, then a whole run, sampled and judged.
c = small(configured(["--config=configs/digits.py"]))
c.task.name, c.task.dae.sigma, c.eval.metrics, c.eval.seeds, c.eval.count = "dae", 0.7, ("nearest",), 1, 4
task = experiment.create(c, fields).task
draws = keys.Draws(keys.seed(0), jnp.arange(3), 3)
loss = jax.jit(lambda key: task.loss(task.init(key), {}, {"image": images}, draws, ()).each)(keys.seed(0))
training.train(c, here / "run")
sampling.sample(c, here / "run")
evaluation.evaluate(c, here / "run")
found["task"] = {"loss": plain(loss), "at_zero": ((images / 127.5 - 1) ** 2).mean((1, 2, 3)).tolist()}

# A guide: on exact denoisers of a Gaussian for every class.
schedule, t, x = SCHEDULES["continuous_cosine"](), jnp.asarray([0.3, 0.6]), jnp.asarray([[0.5, -1.0], [0.2, 2.0]])
conditional = lambda cond: gaussian_denoiser(schedule, cond["label"][:, None] / 10, 0.25)
cond = {"label": jnp.asarray([1, 7])}
scene = Scene(schedule, conditional, cond, None, {}, {}, None)
guided = GUIDES["negative"](fields, request="4", w=0.5).apply(conditional(cond), scene)
alpha, sigma = schedule.alpha_sigma(t)
found["guide"] = plain({"x": x, "x0": guided(x, t).x0, "alpha": alpha, "sigma": sigma})
c = small(configured(["--config=configs/digits.py"]))
c.sample.guides, c.sample.negative.request = ("negative",), "44"
try:
  experiment.create(c, fields)
except ConfigError as error:
  found["no class"] = str(error)

# A schedule: ends, slopes and its inverse.
schedule, t = SCHEDULES["lingering"](bend=0.8), jnp.linspace(0, 1, 11)
schedules.check(schedule)
found["schedule"] = plain({"t": t, "t_of": schedule.t_of(schedule.logsnr(t)), "logsnr": schedule.logsnr(t)})
found["schedule"]["slopes"] = [float(schedule.slope(t)) for t in (0.0, 0.5)]

# A sampler: data at one place, where the estimate is exact.
schedule, own = SCHEDULES["continuous_cosine"](), keys.of_examples(keys.seed(0), jnp.arange(1000))
exact = gaussian_denoiser(schedule, 0.7, 0.0)
step = lambda scale: SAMPLERS["consistency"](scale).step(exact, schedule, Carry(jnp.ones((1000, 16))), 0.8, 0.3, own).x
found["sampler"] = plain({"ends": schedule.alpha_sigma(0.3), "quiet": jnp.ptp(step(0.0)), "mean": step(0.0)[0, 0]})
found["sampler"] |= plain({"noise": {"mean": step(1.0).mean(), "std": step(1.0).std()}})

# A metric: copies, and a copy that is brighter by 51 of 255.
grey = lambda *levels: ArraySource({"image": np.stack([np.full((2, 2, 1), g, np.uint8) for g in levels])}, "")
nearest = METRICS["nearest"](grey(0, 200), grey(10, 51), parallel.create())
judged = [nearest.judge(grey(*levels).arrays, {}) for levels in ((0, 200), (51,), (149,), (0, 51))]
found["metric"] = {"judged": [each["distance"] for each in judged], "floor": nearest.floor["distance"]}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
  """What a process found in a copy of the library to which all diffs were applied, and the copy."""
  copy = tmp_path_factory.mktemp("extended")
  kept_out = shutil.ignore_patterns("__pycache__", "*.png", "*.gif", "*.npz")
  for name in ("diffjax", "configs", "experiments"):
    shutil.copytree(ROOT / name, copy / name, ignore=kept_out)
  (copy / "tests").mkdir()
  shutil.copy(__file__, copy / "tests")
  diffs = re.findall(r"^```diff\n(.*?)^```", EXTENDING.read_text(), flags=re.M | re.S)
  assert len(diffs) == len(KINDS)
  outside = os.environ | {"GIT_CEILING_DIRECTORIES": str(copy.parent)}

  def applies(diff, *options):
    answer = subprocess.run(
      ["git", "apply", *options], input=diff, cwd=copy, env=outside, capture_output=True, text=True
    )
    assert answer.returncode == 0, (
      f"docs/extending.md: bring the lines around its diff up to date: {answer.stderr}"
    )

  for diff in diffs:
    applies(diff, "--check")  # by itself, before any other
  for diff in diffs:
    applies(diff)
  flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ["XLA_FLAGS"])
  environment = os.environ | {"XLA_FLAGS": flags.strip()}
  environment.pop("NPROC", None)
  command = [sys.executable, "-c", TRIAL, str(EXTENDING)]
  answer = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=600)
  assert answer.returncode == 0, answer.stderr
  return json.loads(answer.stdout.splitlines()[-1]), copy


def test_every_kind_of_idea_has_a_diff_that_applies_and_commands_that_can_be_given(tried):
  result, _ = tried
  wanted = [words for words in commands(EXTENDING.read_text()) if words[1] == "main.py"]
  assert len(result["commands"]) == len(wanted) >= len(KINDS)
  assert [kind for kind in KINDS if kind not in result] == []


def test_the_condition_is_what_an_image_has_and_reaches_its_own_sample(tried):
  outputs = tried[0]["condition"]
  np.testing.assert_allclose(outputs["value"], np.stack([outputs["means"], np.ones(3)], axis=1), rtol=1e-6)
  assert not np.any(outputs["null"]) and outputs["free"]
  np.testing.assert_allclose(outputs["request"], [0.3] * 3)
  assert outputs["changes"][1] > 1e-4 and max(outputs["changes"][::2]) < 1e-6


def test_the_task_is_trained_sampled_and_judged(tried):
  result, copy = tried
  np.testing.assert_allclose(result["task"]["loss"], result["task"]["at_zero"], rtol=1e-5)
  saved = json.loads((copy / "run" / "config.json").read_text())["config"]
  assert saved["task"] == {"name": "dae", "dae": {"sigma": 0.7}}
  assert not {"schedule", "objective", "condition"} & set(saved) and "sampler" not in saved["sample"]
  (samples,) = (copy / "run" / "samples").glob("*.npz")
  with np.load(samples) as fields:
    assert fields["image"].shape == (4, 8, 8, 1) and len(np.unique(fields["image"], axis=0)) == 4
  judged = json.loads((copy / "run" / "eval" / "2" / "metrics.json").read_text())
  assert judged["evaluations"] == 3 and 0 < judged["metrics"]["nearest"]["values"]["distance"]["value"] < 1


def test_the_guide_leads_away_from_a_class(tried):
  outputs = {name: np.asarray(value, np.float64) for name, value in tried[0]["guide"].items()}
  alpha, sigma = outputs["alpha"][:, None], outputs["sigma"][:, None]

  def posterior(mean):  # of N(mean, 1/4), given x_t
    return mean + alpha / 4 / (alpha**2 / 4 + sigma**2) * (outputs["x"] - alpha * mean)

  wanted = 1.5 * posterior(np.array([[0.1], [0.7]])) - 0.5 * posterior(0.4)
  np.testing.assert_allclose(outputs["x0"], wanted, rtol=1e-5)
  assert tried[0]["no class"].startswith(
    "config.sample.negative.request is 44; the data's classes are 0 to 9"
  )


def test_the_schedule_lingers_in_the_middle_and_has_its_inverse(tried):
  outputs = tried[0]["schedule"]
  np.testing.assert_allclose(outputs["t_of"], outputs["t"], atol=1e-5)
  np.testing.assert_allclose([outputs["logsnr"][k] for k in (0, 5, 10)], [15, 0, -15], atol=1e-4)
  np.testing.assert_allclose(outputs["slopes"], [-30 * 1.8, -30 * 0.2], rtol=1e-4)


def test_the_sampler_keeps_the_estimate_alone(tried):
  outputs = tried[0]["sampler"]
  alpha, sigma = outputs["ends"]
  np.testing.assert_allclose([outputs["quiet"], outputs["mean"]], [0, 0.7 * alpha], rtol=1e-5, atol=1e-6)
  count = 16_000
  assert abs(outputs["noise"]["mean"] - 0.7 * alpha) < 4 * sigma / count**0.5
  assert abs(outputs["noise"]["std"] - sigma) < 4 * sigma / (2 * count) ** 0.5


def test_the_metric_knows_copies(tried):
  outputs = tried[0]["metric"]
  np.testing.assert_allclose(outputs["judged"], [0, 0.2, 0.2, 0.1], atol=1e-6)
  np.testing.assert_allclose(outputs["floor"], (10 + 51) / 2 / 255, rtol=1e-6)
