"""TensorFlow Serving's REST API, and pictures as they are."""
