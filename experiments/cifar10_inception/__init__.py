"""FID, KID, precision and recall of real images against real images: what the metrics say of a perfect model."""
