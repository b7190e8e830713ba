"""Prompts of samples, as a config gives them."""

from pathlib import Path

from diffjax.types import ConfigError


def prompts_of(request: str) -> list[str]:
  """The prompts of samples: the texts between |, or the lines of a file FILE.txt."""
  if not request.endswith(".txt"):
    return [" ".join(text.split()) for text in request.split("|")]
  try:
    lines = Path(request).expanduser().read_text("utf-8-sig").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise ConfigError(f"request is {request!r}, a file that cannot be read ({error}).") from None
  if not any(line.strip() for line in lines):
    raise ConfigError(f"request is {request!r}, a file without texts.")
  return [" ".join(line.split()) for line in lines if line.strip()]
