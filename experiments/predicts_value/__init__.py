"""Whether what kernlens predicts of a head comes true when the head is trained."""
