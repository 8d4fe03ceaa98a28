"""What real networks learn, followed as a run of the model is: of logs of their logits, and while they are trained."""
