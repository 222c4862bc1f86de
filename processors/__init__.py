"""What is computed from events: objects, regions, weights, features, RMM, shards and histograms."""
