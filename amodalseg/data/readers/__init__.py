"""One file per data set: files -> ``AmodalRecord`` (paths, run lengths, ids; no pixels)."""

from amodalseg.data.readers.coco_instances import read_coco_files, read_coco_instances
from amodalseg.data.readers.cocoa import read_cocoa
from amodalseg.data.readers.pix2gestalt import read_pix2gestalt

__all__ = ["read_coco_files", "read_coco_instances", "read_cocoa", "read_pix2gestalt"]
