"""What happens inside the denoising steps: the sampling loop and guidance."""
