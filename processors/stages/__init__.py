"""The stages that compute: select, compare and score, each over chunks and each with its books."""
