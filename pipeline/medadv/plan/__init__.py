"""What was decided? Samples, shards, batches and seeds: everything that decides bits, settled before any attack runs."""
