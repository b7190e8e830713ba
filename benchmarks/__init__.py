"""How fast the library is beside its peers; README.md has the results and the commands."""
