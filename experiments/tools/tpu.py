"""A sweep on a Cloud TPU: a shell script of gcloud commands.

It asks for a queued resource, waits until that is active, copies the repository's last commit to every
worker, installs it there, and runs the sweep's runs one after the other, each on all workers at once. The
script may be run again: what exists is kept, a run whose result is there is left alone (whatever the settings
that made it), a broken one goes on. The TPU stays, and costs, until it is deleted; the script ends with the
command for that.

Workers share a workdir: gs://BUCKET/FOLDER is mounted with gcsfuse (installed if missing) on every worker.
JAX finds the other workers of a slice by itself. A bucket with a hierarchical namespace renames a checkpoint's
folder at once; a flat one file by file, so that a worker lost meanwhile leaves half of it.
"""

import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from diffjax.types import ConfigError
from experiments.tools import jobs
from experiments.tools.jobs import Job
from experiments.tools.sweeps import Sweep

CODE = "diffjax-code"  # the repository's folder on a worker
MOUNT = "/mnt/diffjax"  # the bucket's
PYTHON = ".venv/bin/python"
SETUP = (
  "python3 -m pip install -q --user uv"
  "; ~/.local/bin/uv venv -q --allow-existing --python 3.12 .venv"
  "; ~/.local/bin/uv pip install -q --python .venv/bin/python -e . 'jax[tpu]'"
)
KEY = "/usr/share/keyrings/cloud.google.asc"
GCSFUSE = f"""command -v gcsfuse >/dev/null || {{
  curl -fsS https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee {KEY} >/dev/null
  echo "deb [signed-by={KEY}] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  sudo apt-get -qq update
  sudo apt-get -qq install -y gcsfuse
}}"""
# A checkpoint is finished by renaming its folder. gcsfuse refuses that in a flat bucket where the folder holds as
# many files as this limit, which is 0 by default. And where one worker writes what others read, a worker must not
# believe what it saw before, which gcsfuse does on some TPUs for ever.
MOUNTING = (
  "--implicit-dirs --rename-dir-limit=200000 --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0"
)
NEEDED = ("tpu_name", "tpu_zone", "tpu_type", "tpu_runtime", "tpu_workers")


def add_flags(group: Any) -> None:
  """The flags of --on=tpu."""
  group.add_argument("--tpu_name", help="of the TPU and of its queued resource")
  group.add_argument("--tpu_zone", help="such as us-central2-b")
  group.add_argument("--tpu_type", help="the accelerator's type, such as v4-32")
  group.add_argument("--tpu_runtime", help="the runtime's version, such as tpu-ubuntu2204-base")
  group.add_argument("--tpu_workers", type=int, help="hosts of the slice: v4-32 has 4")
  group.add_argument("--tpu_project", help="gcloud's default if left out")
  group.add_argument("--tpu_spot", action="store_true", help="cheaper, and may be taken away")
  group.add_argument("--tpu_setup", default=SETUP, help="what installs the repository on a worker")
  group.add_argument("--repository", default=".", help="this machine's checkout; its last commit is copied")


def launch(sweep: Sweep, configs: Mapping[str, ConfigDict], name: str, args: Any) -> int:
  """Prints the script with --dry_run, otherwise runs it; returns its exit status.

  Raises:
    ConfigError: a flag is missing or cannot be right, or gcloud is missing.
  """
  if missing := [f"--{needed}" for needed in NEEDED if getattr(args, needed) is None]:
    raise ConfigError(f"--on=tpu needs {', '.join(missing)} too; docs/scaling.md has an example.")
  if args.tpu_workers < 1:
    raise ConfigError(f"--tpu_workers is {args.tpu_workers}; a slice has at least one host.")
  if args.tpu_workers > 1 and not re.match("gs://|/", args.workdir):
    raise ConfigError(
      f"--workdir={args.workdir} is another folder on each of {args.tpu_workers} workers, and a run needs "
      "one for all: give gs://BUCKET/FOLDER, or the absolute path of a shared disk."
    )
  if args.workdir.startswith("gs://") and not re.fullmatch(r"gs://[a-z0-9][a-z0-9._-]+(/.*)?", args.workdir):
    raise ConfigError(f"--workdir={args.workdir} names no bucket; give gs://BUCKET/FOLDER.")
  text = script(sweep, configs, name, args)
  if args.dry_run:
    print(text, end="")
    return 0
  if not shutil.which("gcloud"):
    raise ConfigError(
      "--on=tpu needs gcloud, which is not on this machine: install the Google Cloud CLI, or print the "
      "script with --dry_run and run it elsewhere."
    )
  with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:  # for one argument it may be too long
    file.write(text)
    file.flush()
    return subprocess.run(["bash", file.name]).returncode


def script(sweep: Sweep, configs: Mapping[str, ConfigDict], name: str, args: Any) -> str:
  """The whole script."""
  folder = f"{_shared(args.workdir)}/{name}"
  every = jobs.of(sweep, configs, folder, (PYTHON, "main.py"))
  parts = [HEAD, _create(args), _copy(args), *(_run(job, args) for job in every), _tail(args)]
  return "\n".join(parts)


HEAD = """\
#!/usr/bin/env bash
# shellcheck disable=SC2016  # what stands in single quotes is for the workers
set -euo pipefail
failed=()
pids=()
together() {  # waits for what runs on the workers; fails if it failed on one
  local status=0 pid
  for pid in ${pids[@]+"${pids[@]}"}; do wait "$pid" || status=$?; done
  pids=()
  return "$status"
}
trap 'kill ${pids[@]+"${pids[@]}"} 2>/dev/null || true' EXIT
"""


def _shared(workdir: str) -> str:
  """A workdir's path on a worker."""
  if not _bucket(workdir):
    return workdir.rstrip("/")
  return f"{MOUNT}/{workdir.removeprefix('gs://').partition('/')[2]}".rstrip("/")


def _bucket(workdir: str) -> str:
  """The bucket of a workdir, or ""."""
  return workdir.removeprefix("gs://").partition("/")[0] if workdir.startswith("gs://") else ""


def _where(args: Any) -> list[str]:
  project = [f"--project={args.tpu_project}"] if args.tpu_project else []
  return [f"--zone={args.tpu_zone}", *project, "--quiet"]


def _create(args: Any) -> str:
  resources = ["gcloud", "compute", "tpus", "queued-resources"]
  describe = shlex.join([*resources, "describe", args.tpu_name, *_where(args)])
  create = shlex.join(
    [
      *resources,
      "create",
      args.tpu_name,
      f"--node-id={args.tpu_name}",
      *_where(args),
      f"--accelerator-type={args.tpu_type}",
      f"--runtime-version={args.tpu_runtime}",
      *(["--spot"] if args.tpu_spot else []),
    ]
  )
  return f"""\
{describe} >/dev/null 2>&1 || {create}
while true; do
  state=$({describe} '--format=value(state.state)')
  echo "queued resource: $state"
  case "$state" in
    ACTIVE) break ;;
    FAILED | SUSPENDING | SUSPENDED | DELETING) exit 1 ;;
  esac
  sleep 30
done
"""


def _on(args: Any, worker: int, command: str) -> str:
  """A command on one worker."""
  ssh = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", args.tpu_name, *_where(args)]
  return shlex.join([*ssh, f"--worker={worker}", f"--command={command}"])


def _everywhere(args: Any, command: str) -> list[str]:
  """A command on every worker at once."""
  return [f"{_on(args, worker, command)} & pids+=($!)" for worker in range(args.tpu_workers)]


def _copy(args: Any) -> str:
  scp = ["gcloud", "compute", "tpus", "tpu-vm", "scp", *_where(args)]
  target = shlex.quote(f"{args.tpu_name}:{CODE}.bundle")
  copies = [
    f'{shlex.join([*scp, f"--worker={k}"])} "$bundle" {target} & pids+=($!)' for k in range(args.tpu_workers)
  ]
  install = (
    f"set -eo pipefail; [ -d {CODE} ] || git clone -qn {CODE}.bundle {CODE}; cd {CODE}; "
    f"git fetch -q ../{CODE}.bundle HEAD; git checkout -q --force FETCH_HEAD; {args.tpu_setup}"
  )
  if bucket := _bucket(args.workdir):
    mount = f"sudo mkdir -p {MOUNT}; sudo chown $(id -u) {MOUNT}; gcsfuse {MOUNTING} {bucket} {MOUNT}"
    install += f"\n{GCSFUSE}\nmountpoint -q {MOUNT} || {{ {mount}; }}"
  return "\n".join(
    [
      "bundle=$(mktemp -d)/code.bundle",
      f'git -C {shlex.quote(args.repository)} bundle create -q "$bundle" HEAD',
      *copies,
      "together",
      *_everywhere(args, install),
      "together",
      "",
    ]
  )


def _run(job: Job, args: Any) -> str:
  """A run on all workers, unless the first one finds it finished."""
  result = f"checkpoints/{job.config.train.steps}"
  if "eval" in job.commands:
    result = f"eval/{job.config.train.steps}/metrics.json"
  commands = [shlex.join(command) for command in job.commands.values()]
  if job.after:
    lend = ["ln", "-sfn", *(f"../{job.after}/{name}" for name in ("checkpoints", "config.json")), job.folder]
    commands = [shlex.join(["mkdir", "-p", job.folder]), shlex.join(lend), *commands]
  there = shlex.join(["[", "-e", f"{job.folder}/{result}", "]"])
  return "\n".join(
    [
      f"if {_on(args, 0, f'cd {CODE} && {there}')} </dev/null; then",
      f"echo {shlex.quote(f'{job.name}: finished before')}",
      "else",
      f"echo {shlex.quote(f'{job.name}: running')}",
      *_everywhere(args, " && ".join([f"cd {CODE}", *jobs.exports(args.env), *commands])),
      f"together || failed+=({shlex.quote(job.name)})",
      "fi",
      "",
    ]
  )


def _tail(args: Any) -> str:
  delete = shlex.join(
    ["gcloud", "compute", "tpus", "queued-resources", "delete", args.tpu_name, *_where(args), "--force"]
  )
  return f"""\
echo 'the TPU stays until this is run:'
echo {shlex.quote(delete)}
if [ "${{#failed[@]}}" -gt 0 ]; then
  echo "failed: ${{failed[*]}}" >&2
  exit 1
fi
"""
