"""Who makes it? Runs, parts of runs, workers, shards; the lock, the signals and the cluster around them."""
