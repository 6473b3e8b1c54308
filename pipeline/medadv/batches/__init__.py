"""What goes through together? Samples in their planned batches: loaded, attacked, judged."""
