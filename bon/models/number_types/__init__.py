"""Number types: what the processor multiplies fast, which type a model gets, and rounding to int8."""
