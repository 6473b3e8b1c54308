"""What was asked? The run spec as typed, frozen settings."""
