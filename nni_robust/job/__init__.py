"""What one trial does."""
