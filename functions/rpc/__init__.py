"""gRPC: calls over ASGI, and TensorFlow Serving's services."""
