"""How does a model come to withstand? Generations of corpora and of training on them, of which one is chosen: `medadv harden`."""
