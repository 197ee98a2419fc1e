"""The denoising steps: sampling loop, guidance and attention control."""
