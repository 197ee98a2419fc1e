"""Training and validation of the embedded inpainting prior."""
