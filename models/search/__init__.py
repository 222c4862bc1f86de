"""The search for better settings of training: KerasTuner's Hyperband over shards, its trials anywhere."""
