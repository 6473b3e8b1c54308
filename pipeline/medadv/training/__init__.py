"""Who uses it? Training code: stored samples with augmentation that can be repeated, and attacks on networks of one's own."""
