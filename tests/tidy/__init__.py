"""What machines can check of how the repository is kept: purity, drift, layout, documents. Knows no behaviour."""
