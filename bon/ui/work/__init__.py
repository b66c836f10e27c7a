"""What computes for the page: model loading, runs, their priority over batches, and estimates of their time."""
