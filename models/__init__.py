"""What is learnt from shards: the data stream, scaling, autoencoders, training, scoring and evaluation."""
