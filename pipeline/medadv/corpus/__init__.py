"""What is kept? A corpus's folder and the records in it: receipts, manifest, quarantine, Croissant."""
