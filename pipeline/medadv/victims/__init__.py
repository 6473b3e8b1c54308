"""Models under attack: one class per task, the same surface for all."""
