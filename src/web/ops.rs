//! Metrics and health for machines: /metrics, /livez, /readyz.
