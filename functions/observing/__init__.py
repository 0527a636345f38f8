"""What is known of requests and of the server: metrics, logs, traces."""
