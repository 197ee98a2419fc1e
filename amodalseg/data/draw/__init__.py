"""Drawn data: the procedural world, composites of whole objects, training scenes, pictures for the inpainting prior."""
