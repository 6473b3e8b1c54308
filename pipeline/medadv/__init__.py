"""Adversarial medical datasets that stay adversarial after they are stored."""
