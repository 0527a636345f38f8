"""OpenTelemetry traces: what a request went through, sent to a collector. Imported only with `--traces`."""
