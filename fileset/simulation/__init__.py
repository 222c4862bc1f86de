"""The demo sample's simulation: Pythia 8, fastjet, a parametrised detector, the release's own file format."""
