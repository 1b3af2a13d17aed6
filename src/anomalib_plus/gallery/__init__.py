"""Synthetic anomalies on your images: drawn side by side, or written to files in MVTec layout."""
