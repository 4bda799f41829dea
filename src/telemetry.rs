//! Logs and metrics of both processes: set up once, before anything else runs.

use std::io::IsTerminal;

use metrics_exporter_prometheus::Matcher;
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::ChronoUtc;

/// What is logged and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `jamcast=debug,info`.
    pub level: String,
    /// `text` for people, `json` for machines, `auto` for text on a terminal and JSON elsewhere.
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Auto,
    Text,
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Auto }
    }
}

/// Libraries that log every handshake or datagram; their warnings are about single peers, ours name the participant.
const QUIET: &str = "rtc=error,rtc_dtls=error,rtc_ice=error,rtc_srtp=error,rtc_sctp=error,rtc_interceptor=error,webrtc=error,hyper=warn,sqlx=warn,h2=warn";

/// Starts logging to standard error.
///
/// # Errors
/// A filter that cannot be read; the message names the part.
pub fn start_logs(config: &Config) -> Result<(), InvalidFilter> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", config.level))
        .map_err(|reason| InvalidFilter { level: config.level.clone(), reason: reason.to_string() })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_timer(ChronoUtc::new("%Y-%m-%dT%H:%M:%S%.3fZ".to_owned()));
    let text = match config.format {
        Format::Text => true,
        Format::Json => false,
        Format::Auto => std::io::stderr().is_terminal(),
    };
    // A second start, as in tests that run several gateways in one process, keeps the first subscriber.
    let _already_started = if text {
        subscriber.with_ansi(std::io::stderr().is_terminal()).try_init()
    } else {
        subscriber.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    };
    Ok(())
}

#[derive(Debug, thiserror::Error)]
#[error("log.level `{level}` is not a log filter: {reason}")]
pub struct InvalidFilter {
    level: String,
    reason: String,
}

/// Seconds that requests and starts take: from a cached read to a mixer that starts cold.
const DURATIONS: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Installs the process's metrics recorder; `None` if there is one already.
pub fn start_metrics() -> Option<PrometheusHandle> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), DURATIONS)
        .expect("the list of buckets is not empty")
        .install_recorder()
        .ok()
}
