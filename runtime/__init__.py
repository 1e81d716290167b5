"""The engine: requests, scheduler, KV memory, models, weights, sampling."""
