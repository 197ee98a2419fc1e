"""Components shared by the methods: areas, backgrounds, occluders, read-off, removal, segmenters, depth."""
