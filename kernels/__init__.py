"""Functions on tensors. They know nothing of requests, streams or programs."""
