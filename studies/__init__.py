"""The studies behind docs/learning.md, docs/pipeline.md and docs/stability.md."""
