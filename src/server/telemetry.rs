//! What the process says of itself: log lines on standard error, metrics on request.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use super::config::Config;
use super::secrets::Redactor;

/// Standard error, without what looks like a secret. A line comes in one piece.
struct Redacted(Redactor);

impl Write for Redacted {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        io::stderr().write_all(self.0.text(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Starts logging. Later calls in the same process change nothing.
pub fn log(config: &Config) {
    // The settings were checked when they were read.
    let filter = EnvFilter::try_new(&config.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = ["sqlx=warn", "sea_orm=warn", "leptos_axum=warn"]
        .into_iter()
        .filter_map(|d| d.parse().ok())
        .fold(filter, EnvFilter::add_directive);
    let colours = std::io::stderr().is_terminal();
    let redactor = config.log_redact.clone();
    let lines = fmt()
        .with_env_filter(filter)
        .with_writer(move || Redacted(redactor.clone()))
        .with_ansi(colours);
    let started = if config.log_json {
        lines.json().try_init()
    } else {
        lines.with_target(false).compact().try_init()
    };
    if let Err(error) = started {
        tracing::debug!(%error, "logging had been started before");
    }
}

/// Starts the collection of metrics and its upkeep: what histograms have seen is summed up every few seconds, whether
/// anybody asks for it or not. Call it within the runtime.
pub fn keep_metrics() {
    let handle = metrics();
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_secs(5));
        loop {
            tick.tick().await;
            handle.run_upkeep();
        }
    });
}

/// Starts the collection of metrics, once a process; the handle renders them for Prometheus.
pub fn metrics() -> PrometheusHandle {
    static HANDLE: std::sync::OnceLock<PrometheusHandle> = std::sync::OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::debug!("metrics had been collected elsewhere before");
            }
            handle
        })
        .clone()
}
