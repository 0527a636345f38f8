"""Dashboards, alerts and what to scrape, ready-made for Prometheus and Grafana.

All of it is pure. Names of metrics are those that servers, the deploy function and the gateway's Envoy really export:
tests scrape them and look. Nothing here is imported by what answers a prediction.
"""
