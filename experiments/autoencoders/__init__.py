"""Autoencoders of the digits, and how good diffusion on their latents is: table.md, scatter.png and samples.png."""
