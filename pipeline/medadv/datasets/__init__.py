"""Dataset layouts: where samples lie and what their labels say, before any pixel is read."""
