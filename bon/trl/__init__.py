"""`BestOfNSampler` and transformers' generation configs."""

from bon.trl.sampler import BestOfNSampler

__all__ = ["BestOfNSampler"]
