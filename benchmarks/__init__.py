"""How fast the library is beside its peers; README.md has the results and the commands."""

import os

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a GPU's memory is shared with the peer
