"""How do stored units become the network's input? Differentiable normalisation and sliding windows."""
