"""Manifest, environment and verification."""
