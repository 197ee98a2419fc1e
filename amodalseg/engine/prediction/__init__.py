"""From photos and masks in files to completed ones."""
