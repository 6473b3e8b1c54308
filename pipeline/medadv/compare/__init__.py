"""Who compares? Attacks side by side under blur, JPEG, resampling and another victim."""
