"""Run specs: typed, strict, parsed once at the edge."""
