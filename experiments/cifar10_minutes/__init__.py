"""The lowest FID on CIFAR-10 within minutes of one accelerator; see README.md."""
