"""Training: one plain loop over tensors."""
