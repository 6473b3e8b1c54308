"""Attacks side by side on one model: as stored, after everyday processing, on a second model, and between random starts."""
