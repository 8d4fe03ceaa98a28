"""Real networks followed in the manner of a run of the model, from logs of their logits or while they are trained."""
