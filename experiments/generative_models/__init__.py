"""What diffusion is compared with: mixture, VAE, GAN, flow, autoregressive models, texture synthesis, on the digits."""
