"""How fast can it run here? What is there for one kind of processor; scoring never takes it."""
