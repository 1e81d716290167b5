"""From logits to tokens: parameters, penalties, truncation, log-probabilities."""
