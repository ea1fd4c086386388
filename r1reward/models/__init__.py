"""The policy as a Hugging Face model: families, processor, log-probs, adapters."""
