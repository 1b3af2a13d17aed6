"""Pictures of the synthetic anomalies on your images."""
