"""Against whom? Models with their normalisation: where they come from, what they answer, how fast they run."""
