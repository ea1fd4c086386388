"""Reinforcement learning of generative multimodal reward models (R1-Reward, arXiv 2505.02835)."""

__version__ = "0.2.0"
