"""`BestOfNSampler` and transformers' generation configs."""
