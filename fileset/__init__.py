"""Which events: catalogues of samples, where their files are, whether they are whole, and the demo sample."""
