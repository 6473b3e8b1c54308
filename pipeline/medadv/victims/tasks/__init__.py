"""What does a model answer? Classes, masks or boxes: losses, predictions, scores, success."""
