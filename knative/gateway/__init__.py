"""One entry for many model services: an Envoy configuration and what runs it on a cluster.

All of it is pure but `apply`. Nothing here is imported by what answers a prediction.
"""
