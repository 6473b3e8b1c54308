"""From samples to shards, batches and seeds: everything that decides bits, settled before any attack runs."""
