"""What surrounds a method: areas, backgrounds, occluders, read-off, removal, segmenters, depth."""
