"""Where reports go: console, local record, MLflow, alerts."""
