//! The command line.

mod bench;
mod demo;
mod identity;
mod serve;
mod worker;

use clap::{Parser, Subcommand};

use super::config::{Config, ConfigError};
use super::state::StartError;
use super::store::StoreError;
use super::telemetry;

/// Runs background jobs and shows, live, what each one is doing.
#[derive(Parser)]
#[command(name = "windlass", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the dashboard and the API, and run jobs.
    Serve(serve::ServeArgs),
    /// Run jobs only, beside servers and other workers on the same Postgres and Redis.
    Worker(worker::WorkerArgs),
    /// Fill the sample domain with realistic camera events, the same ones for the same seed.
    Demo(demo::DemoArgs),
    /// Invite users, change their roles, keep them out.
    #[command(subcommand)]
    User(identity::UserCommand),
    /// Make, list and revoke API tokens.
    #[command(subcommand)]
    Token(identity::TokenCommand),
    /// Check the audit log.
    #[command(subcommand)]
    Audit(identity::AuditCommand),
    /// Measure how fast this machine runs jobs, on databases of its own.
    Bench(bench::BenchArgs),
    /// Bring the database up to date and end.
    Migrate,
    /// Print the API's OpenAPI document.
    Openapi,
}

/// Why a command ended without success. The exit code is 2 for what the caller has to change, 1 for everything else.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Start(#[from] StartError),
    /// What was asked for can't be done; the text says what can.
    #[error("{0}")]
    Usage(String),
    /// What was done did not end well; the text says how.
    #[error("{0}")]
    Failed(String),
    #[error("{what}: {source}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
}

impl CliError {
    fn code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage(_) => 2,
            Self::Store(_) | Self::Start(_) | Self::Failed(_) | Self::Io { .. } => 1,
        }
    }
}

/// Parses the command line, does what it says, and answers with the process's exit code.
pub fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    match start(cli.command) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("windlass: {error}");
            error.code().into()
        }
    }
}

fn start(command: Command) -> Result<(), CliError> {
    if let Command::Openapi = command {
        let text = super::http::openapi()
            .to_pretty_json()
            .map_err(|e| CliError::Usage(e.to_string()))?;
        println!("{text}");
        return Ok(());
    }
    let config = Config::load()?;
    telemetry::log(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Rendering a page nests deeply, above all in unoptimised builds. Only what is used of it costs memory.
        .thread_stack_size(16 << 20)
        .build()
        .map_err(|source| CliError::Io {
            what: "the runtime can't be started".into(),
            source,
        })?;
    runtime.block_on(async {
        match command {
            Command::Serve(args) => serve::run(args, &config).await,
            Command::Worker(args) => worker::run(args, &config).await,
            Command::Demo(args) => demo::run(args, &config).await,
            Command::User(command) => identity::user(command, &config).await,
            Command::Token(command) => identity::token(command, &config).await,
            Command::Audit(command) => identity::audit(command, &config).await,
            Command::Bench(args) => bench::run(args, &config).await,
            Command::Migrate => {
                super::store::Store::open(&config).await?;
                println!("{} is up to date", config.database_name());
                Ok(())
            }
            Command::Openapi => Ok(()),
        }
    })
}
