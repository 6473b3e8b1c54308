"""How does a model come to withstand? Generations of corpora and of training on them, and the one of them that is chosen: `medadv harden`."""
