"""Where answered predictions leave the process: sampled, bounded, and never in the way of an answer."""
