"""Gallery of the synthetic anomalies on your images."""
