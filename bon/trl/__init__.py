"""`BestOfNSampler`, the successor of TRL's class, and how it reads transformers' generation configs."""

from bon.trl.sampler import BestOfNSampler

__all__ = ["BestOfNSampler"]
