"""Networks and weights that others have published, as ours."""
