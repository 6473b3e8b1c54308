"""How good is an answer? Metrics of boxes, masks and classes, and how sure they are."""
