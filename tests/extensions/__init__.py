"""Entries from outside the package, registered by import: a schedule, a sampler, a network, and a config of them."""
