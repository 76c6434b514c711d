//! `windlass user`, `windlass token` and `windlass audit`: for whoever has this machine's command line.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use uuid::Uuid;

use super::CliError;
use crate::domain::account::{NewToken, NewUser, UserChange};
use crate::domain::audit::AuditHead;
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::user::{Actor, Role, Scope};
use crate::server::config::{Config, Database};
use crate::server::service::Service;
use crate::server::service::heads;
use crate::server::service::identity::Known;
use crate::server::state;
use crate::server::store::Store;

#[derive(Subcommand)]
pub enum UserCommand {
    /// List the users.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ask somebody to come: prints a link that works once, by which they choose a password.
    Create {
        email: String,
        /// admin, manager, member or viewer
        #[arg(long, value_parser = role)]
        role: Role,
        #[arg(long, default_value = "")]
        name: String,
        /// Kinds that they may start, with commas between them; none: all.
        #[arg(long, value_delimiter = ',')]
        kinds: Vec<String>,
    },
    /// Change a user's role or kinds.
    Change {
        email: String,
        /// admin, manager, member or viewer
        #[arg(long, value_parser = role)]
        role: Option<Role>,
        /// Kinds that they may start, with commas between them; "" for all.
        #[arg(long, value_delimiter = ',')]
        kinds: Option<Vec<String>>,
    },
    /// Keep a user out, and end their sessions.
    Disable { email: String },
    /// Let a user in again.
    Enable { email: String },
    /// Print a link that works once, by which a user chooses a new password.
    Reset { email: String },
    /// Sign a user out everywhere.
    SignOut { email: String },
    /// List the links that still let somebody in: invitations, and those for new passwords.
    Links {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take such a link back, by its id.
    RevokeLink { id: String },
}

#[derive(Subcommand)]
pub enum TokenCommand {
    /// Make a token that acts for itself, and print its secret, which is not shown again.
    Create {
        /// What it is for.
        name: String,
        #[arg(long, value_delimiter = ',', required = true, value_parser = scope,
            help = format!("{}; with commas between them", Scope::names(&Scope::ALL)))]
        scope: Vec<Scope>,
        /// Kinds that it is good for, with commas between them; none: all.
        #[arg(long, value_delimiter = ',')]
        kinds: Vec<String>,
        /// Days until it expires; none: never.
        #[arg(long)]
        days: Option<u32>,
    },
    /// List the tokens.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// End a token for good.
    Revoke { id: Uuid },
}

#[derive(Subcommand)]
pub enum AuditCommand {
    /// Check that no entry was changed, taken out, put in or moved. Exits with 1 when one was.
    Verify(VerifyArgs),
    /// Print the last entry's number and hash, to be kept elsewhere, and add them to DATA_DIR/audit-heads.
    Head,
}

#[derive(Args)]
pub struct VerifyArgs {
    /// A head that was kept elsewhere, as NUMBER:HASH; may be given more than once.
    #[arg(long, value_parser = heads::parse)]
    head: Vec<AuditHead>,
    /// A file of heads, one a line as NUMBER:HASH TIME, like a copy of DATA_DIR/audit-heads (which is read anyway).
    #[arg(long)]
    heads: Option<PathBuf>,
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| "allowed: admin, manager, member, viewer".into())
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text).ok_or_else(|| format!("allowed: {}", Scope::names(&Scope::ALL)))
}

impl From<Problem> for CliError {
    fn from(problem: Problem) -> Self {
        match problem.code {
            ProblemCode::Unavailable | ProblemCode::Internal => Self::Failed(problem.detail),
            _ => Self::Usage(problem.detail),
        }
    }
}

/// The service beside a server that may be running.
async fn beside(config: &Config) -> Result<Service, CliError> {
    let missing = missing(config);
    let service = state::beside(config).await?;
    tell_made(missing);
    Ok(service)
}

/// The file of the database, where it is still to be made.
fn missing(config: &Config) -> Option<PathBuf> {
    let file = config.database_path();
    (matches!(config.database, Database::Sqlite(_)) && !file.exists()).then_some(file)
}

/// Before the first start that is as it should be; otherwise the settings are not the server's, and what was done is for nobody.
fn tell_made(missing: Option<PathBuf>) {
    if let Some(file) = missing {
        let file = std::path::absolute(&file).unwrap_or(file);
        // Where nothing can be written, there is nobody to be told.
        let _ = writeln!(
            std::io::stderr(),
            "windlass: there was no database yet, so {} was made. If a server is running, give this command its DATA_DIR or DATABASE_URL.",
            file.display()
        );
    }
}

/// The whole address of a path of the server.
fn address(config: &Config, path: &str) -> String {
    match config.public_url.as_str() {
        "" => format!("http://{}{path}", config.listen),
        url => format!("{url}{path}"),
    }
}

pub async fn user(command: UserCommand, config: &Config) -> Result<(), CliError> {
    let service = beside(config).await?;
    let actor = Actor::machine();
    let id = async |email: &str| {
        let users = service.users(&actor).await?;
        let found = users
            .iter()
            .find(|user| user.email.eq_ignore_ascii_case(email.trim()))
            .map(|user| user.id);
        found.ok_or_else(|| CliError::Usage(format!("there is no user {email}; `windlass user list` names them")))
    };
    match command {
        UserCommand::List { json } => {
            let users = service.users(&actor).await?;
            if json {
                return print_json(&users);
            }
            for user in &users {
                let state = if user.disabled { "disabled" } else { "" };
                let seen = user.seen_at.map_or_else(|| "never".to_string(), |at| at.to_rfc3339());
                print(&format!(
                    "{:<32} {:<8} {:<26} {state}",
                    user.email,
                    user.role.as_str(),
                    seen
                ))?;
            }
        }
        UserCommand::Create {
            email,
            role,
            name,
            kinds,
        } => {
            let link = service
                .invite(
                    &actor,
                    NewUser {
                        email,
                        name,
                        role,
                        kinds,
                    },
                )
                .await?;
            print(&address(config, &link.path))?;
        }
        UserCommand::Change { email, role, kinds } => {
            let kinds = kinds.map(|kinds| kinds.into_iter().filter(|kind| !kind.is_empty()).collect());
            let change = UserChange {
                role,
                kinds,
                ..UserChange::default()
            };
            service.change_user(&actor, id(&email).await?, change).await?;
        }
        UserCommand::Disable { email } => disable(&service, &actor, id(&email).await?, true).await?,
        UserCommand::Enable { email } => disable(&service, &actor, id(&email).await?, false).await?,
        UserCommand::Reset { email } => {
            let link = service.reset_password(&actor, id(&email).await?).await?;
            print(&address(config, &link.path))?;
        }
        UserCommand::SignOut { email } => {
            let ended = service.end_sessions_of(&actor, id(&email).await?).await?;
            print(&format!("{ended} sessions ended"))?;
        }
        UserCommand::Links { json } => {
            let links = service.links(&actor).await?;
            if json {
                return print_json(&links);
            }
            for link in &links {
                print(&format!(
                    "{} {:<32} {:<8} {:<8} until {} by {}",
                    link.id,
                    link.email,
                    link.purpose.as_str(),
                    link.role.as_str(),
                    link.expires_at.to_rfc3339(),
                    link.made_by
                ))?;
            }
        }
        UserCommand::RevokeLink { id } => service.revoke_link(&actor, &id).await?,
    }
    service.close().await;
    Ok(())
}

async fn disable(service: &Service, actor: &Actor, id: Uuid, disabled: bool) -> Result<(), CliError> {
    let change = UserChange {
        disabled: Some(disabled),
        ..UserChange::default()
    };
    service.change_user(actor, id, change).await?;
    Ok(())
}

pub async fn token(command: TokenCommand, config: &Config) -> Result<(), CliError> {
    let service = beside(config).await?;
    let actor = Actor::machine();
    match command {
        TokenCommand::Create {
            name,
            scope,
            kinds,
            days,
        } => {
            let new = NewToken {
                name,
                scopes: scope,
                kinds,
                days,
            };
            let made = service.make_token_of_its_own(&actor, new).await?;
            print(&made.secret)?;
        }
        TokenCommand::List { json } => {
            let tokens = service.tokens(&actor).await?;
            if json {
                return print_json(&tokens);
            }
            for token in &tokens {
                let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
                let state = if token.revoked_at.is_some() { "revoked" } else { "" };
                let owner = token.owner.as_deref().unwrap_or("-");
                let kinds = match token.kinds.is_empty() {
                    true => "all kinds".to_string(),
                    false => token.kinds.join(","),
                };
                print(&format!(
                    "{} {:<20} {:<28} {} {kinds} {state}",
                    token.id,
                    token.name,
                    owner,
                    scopes.join(",")
                ))?;
            }
        }
        TokenCommand::Revoke { id } => {
            let known = Known {
                actor,
                user: None,
                session: None,
            };
            service.revoke_token(&known, id).await?;
        }
    }
    service.close().await;
    Ok(())
}

pub async fn audit(command: AuditCommand, config: &Config) -> Result<(), CliError> {
    let missing = missing(config);
    let store = Store::open_beside(config).await?;
    tell_made(missing);
    let kept = config.data_dir.join(heads::FILE);
    match command {
        AuditCommand::Head => {
            let head = store.audit_head().await?;
            print(&format!("{}:{}", head.seq, head.hash))?;
            let added = heads::add(&kept, &head, chrono::Utc::now()).map_err(unkept)?;
            if let heads::Added::Against(_) = added {
                return Err(CliError::Failed(added.to_string()));
            }
        }
        AuditCommand::Verify(args) => {
            let mut known = args.head;
            if let Some(file) = &args.heads {
                known.extend(heads::read(file).map_err(|error| CliError::Usage(error.to_string()))?);
            }
            known.extend(heads::read_kept(&kept).map_err(unkept)?.into_iter().flatten());
            let verdict = store.verify_audit(&known).await?;
            for finding in &verdict.findings {
                print(finding)?;
            }
            if !verdict.findings.is_empty() {
                store.close().await;
                return Err(CliError::Failed("the audit log is not as it was written".into()));
            }
            let (n, seq, hash) = (verdict.entries, verdict.head.seq, verdict.head.hash);
            print(&format!(
                "{n} entries are as they were written, and {} heads fit; the last is {seq}:{hash}",
                known.len()
            ))?;
        }
    }
    store.close().await;
    Ok(())
}

fn unkept(error: heads::HeadsError) -> CliError {
    CliError::Failed(format!("the kept heads of the audit log can't be used: {error}"))
}

fn print(line: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout();
    let written = writeln!(out, "{line}");
    match written {
        // Whoever reads has seen enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|source| CliError::Io {
            what: if out.is_terminal() {
                "the terminal"
            } else {
                "the output"
            }
            .into(),
            source,
        }),
    }
}

fn print_json<T: serde::Serialize>(value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|e| CliError::Failed(e.to_string()))?;
    print(&text)
}
