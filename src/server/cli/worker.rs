//! `windlass worker`.

use super::CliError;
use super::serve::{asked_to_stop, say};
use crate::server::config::Config;
use crate::server::state;

#[derive(clap::Args)]
pub struct WorkerArgs {
    /// Jobs that run at the same time, instead of WORKER_CONCURRENCY.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: Option<u32>,
}

/// Runs jobs, and serves nothing, until SIGTERM or Ctrl-C: then takes no new one, lets those that run finish within the grace
/// period, hands back the others, and ends.
pub async fn run(args: WorkerArgs, config: &Config) -> Result<(), CliError> {
    if config.redis.is_none() {
        return Err(CliError::Usage(
            "a worker shares its jobs with other processes: set DATABASE_URL to a Postgres and REDIS_URL to a Redis. \
             With neither, windlass serve runs the jobs itself"
                .into(),
        ));
    }
    let config = &Config {
        worker_concurrency: args.slots.unwrap_or(config.worker_concurrency),
        ..config.clone()
    };
    let system = state::start(config, state::registry(config), true).await?;
    let slots = config.worker_concurrency;
    say(format_args!(
        "Windlass {} runs jobs in {slots} slots",
        env!("CARGO_PKG_VERSION")
    ));
    let lost = system.service.lost();
    tokio::select! {
        () = asked_to_stop() => tracing::info!("stopping"),
        () = lost.cancelled() => {}
    }
    if let Some(engine) = system.engine {
        engine.shut_down().await;
    }
    system.service.close().await;
    match lost.is_cancelled() {
        true => Err(CliError::Usage("the database belongs to another process now".into())),
        false => Ok(()),
    }
}
