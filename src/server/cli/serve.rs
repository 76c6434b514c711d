//! `windlass serve`.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::CliError;
use crate::server::config::Config;
use crate::server::http::{self, AppState, Listening, Site};
use crate::server::{state, telemetry};

#[derive(clap::Args)]
pub struct ServeArgs {
    /// Serve only; run no jobs.
    #[arg(long)]
    no_worker: bool,
}

/// Serves until SIGTERM or Ctrl-C: then takes no new work, lets running jobs finish within the grace period, and ends.
pub async fn run(args: ServeArgs, config: &Config) -> Result<(), CliError> {
    telemetry::keep_metrics();
    let system = state::start(config, state::registry(config), !args.no_worker).await?;
    let site = Site::of(config).map_err(|error| CliError::Usage(format!("OIDC_ISSUER is set: {error}")))?;
    let site = Arc::new(site);
    if let Some((email, password)) = &config.admin {
        let made = system.service.found(email, password.reveal().to_string()).await?;
        if made {
            tracing::info!(email, "the first admin was made as the settings say");
        }
    }
    if let Some(reason) = http::refuse_listen(config.listen, system.service.has_users().await?, &site) {
        return Err(CliError::Usage(reason));
    }
    let closing = CancellationToken::new();
    let listener = TcpListener::bind(config.listen).await.map_err(|source| CliError::Io {
        what: format!("LISTEN is \"{}\", and that address can't be taken", config.listen),
        source,
    })?;
    let address = listener.local_addr().map_err(|source| CliError::Io {
        what: "the address can't be read".into(),
        source,
    })?;
    let app = http::router(AppState {
        service: system.service.clone(),
        leptos: http::leptos_options(address),
        site,
        closing: closing.clone(),
    });
    announce(address, config);
    if let Some(link) = system.service.first_link().await? {
        let base = match config.public_url.as_str() {
            "" => format!("http://{address}"),
            url => url.to_string(),
        };
        say(format_args!(
            "There is no user yet. Open this link within an hour to become the first admin:\n  {base}{}",
            link.path
        ));
    }
    let (stop, lost) = (closing.clone(), system.service.lost());
    let taken_over = lost.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = asked_to_stop() => tracing::info!("stopping"),
            () = taken_over.cancelled() => {}
        }
        stop.cancel();
    });
    http::serve(listener, app, Listening::of(config), closing).await;
    if let Some(engine) = system.engine {
        engine.shut_down().await;
    }
    system.service.close().await;
    if lost.is_cancelled() {
        return Err(CliError::Usage("the database belongs to another process now".into()));
    }
    tracing::info!("stopped");
    Ok(())
}

fn announce(address: SocketAddr, config: &Config) {
    say(format_args!(
        "Windlass {} is ready: http://{address}/jobs",
        env!("CARGO_PKG_VERSION")
    ));
    tracing::info!(%address, database = %config.database_name(), redis = config.redis.is_some(), slots = config.worker_concurrency, "serving");
}

/// Prints a line. Whoever reads along may stop reading: that is no reason to stop serving.
pub(super) fn say(line: std::fmt::Arguments<'_>) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        tracing::warn!(%error, "standard output can't be written to");
    }
}

pub(super) async fn asked_to_stop() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("signals can't be listened to; only SIGKILL will end this process");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
