"""One heavy library a file: vLLM, DeepSpeed, transformers, HTTP. No Ray."""
