"""How does an image move? One sign-gradient engine on the lattice; it knows no task."""
