//! Who asks, and what they may do. Every call of the service layer takes an [`Actor`] and asks [`may`].

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::status::Action;

/// What a user is allowed by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// Reads all jobs, acts on all jobs, does not delete.
    Manager,
    /// Sees and acts on their own jobs.
    Member,
    /// Reads all jobs.
    Viewer,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Admin, Self::Manager, Self::Member, Self::Viewer];

    pub fn label(self) -> &'static str {
        match self {
            Self::Admin => "Admin",
            Self::Manager => "Manager",
            Self::Member => "Member",
            Self::Viewer => "Viewer",
        }
    }

    /// As it is stored and written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Manager => "manager",
            Self::Member => "member",
            Self::Viewer => "viewer",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// What the role may do, in a sentence.
    pub fn description(self) -> &'static str {
        match self {
            Self::Admin => "May do everything.",
            Self::Manager => "Reads all jobs and acts on them, but deletes none; no users or settings.",
            Self::Member => "Sees and acts on their own jobs.",
            Self::Viewer => "Reads all jobs.",
        }
    }
}

/// What an API token may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub enum Scope {
    /// See jobs, queues, schedules, statistics.
    #[serde(rename = "jobs:read")]
    JobsRead,
    /// Enqueue jobs and act on them; make and run schedules; pause queues.
    #[serde(rename = "jobs:write")]
    JobsWrite,
    /// Delete jobs and schedules.
    #[serde(rename = "jobs:delete")]
    JobsDelete,
    /// Run jobs as a worker outside of the binary: declare kinds, fetch their jobs, report on them.
    #[serde(rename = "worker")]
    Worker,
}

impl Scope {
    pub const ALL: [Self; 4] = [Self::JobsRead, Self::JobsWrite, Self::JobsDelete, Self::Worker];

    /// Those that a token of somebody with this role can have: one that could do nothing is not made.
    pub fn offered(role: Role) -> Vec<Self> {
        let of_use = |scope: &Self| role == Role::Admin || *scope != Self::Worker;
        Self::ALL.into_iter().filter(of_use).collect()
    }

    /// Their names, with commas between them.
    pub fn names(scopes: &[Self]) -> String {
        scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::JobsRead => "jobs:read",
            Self::JobsWrite => "jobs:write",
            Self::JobsDelete => "jobs:delete",
            Self::Worker => "worker",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }

    pub fn description(self) -> &'static str {
        match self {
            Self::JobsRead => "See jobs, their logs and files.",
            Self::JobsWrite => "Start jobs and act on them.",
            Self::JobsDelete => "Delete jobs.",
            Self::Worker => "Run jobs as a worker outside of Windlass, with all that is in their args.",
        }
    }
}

/// What a token narrows its bearer to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub scopes: Vec<Scope>,
    /// The kinds that it is good for; empty: all.
    pub kinds: Vec<String>,
}

/// The token that a caller came in with: a person may have several, and names of tokens may be the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct TokenRef {
    pub id: Uuid,
    pub name: String,
}

/// How a caller came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// Signed in, in a browser.
    Session,
    /// With an API token.
    Token,
    /// By a header that a trusted proxy sets.
    Proxy,
    /// On the command line of the machine itself.
    Machine,
    /// Nobody: what may be done before a sign-in.
    Anyone,
}

impl Via {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Token => "token",
            Self::Proxy => "proxy",
            Self::Machine => "machine",
            Self::Anyone => "anyone",
        }
    }
}

/// The caller of a service: made at the edge (HTTP, command line) and passed down unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The name that jobs, transitions and the audit log record: a person's e-mail, or a token's name.
    pub name: String,
    pub role: Role,
    /// The kinds that they may start; empty: all.
    pub kinds: Vec<String>,
    /// What their token narrows them to; none without a token.
    pub grant: Option<Grant>,
    pub via: Via,
    /// Their token; none without one.
    pub token: Option<TokenRef>,
    /// Where the request came from; empty for what this machine does by itself.
    pub address: String,
}

impl Actor {
    /// Whoever has the command line of this machine, and with it the database and its key.
    pub fn machine() -> Self {
        Self::named("machine", Role::Admin)
    }

    /// Somebody with this name and role, at this machine.
    pub fn named(name: &str, role: Role) -> Self {
        Self {
            name: name.into(),
            role,
            kinds: Vec::new(),
            grant: None,
            via: Via::Machine,
            token: None,
            address: String::new(),
        }
    }

    /// The kinds that they can see jobs of; `None`: all.
    pub fn sees_kinds(&self) -> Option<&[String]> {
        self.grant
            .as_ref()
            .map(|g| g.kinds.as_slice())
            .filter(|k| !k.is_empty())
    }

    /// Whether they see their own jobs only.
    pub fn sees_own_only(&self) -> bool {
        self.role == Role::Member
    }

    /// Whether the limit of running jobs per member holds for the jobs that they start, themselves or by a token of theirs.
    pub fn is_limited(&self) -> bool {
        self.role == Role::Member
    }
}

/// Something that a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want<'a> {
    /// See jobs at all, if only their own.
    ReadOwn,
    /// See jobs of all owners: lists, counts, the live stream.
    ReadAll,
    /// See one job, its log and its files.
    Read { owner: &'a str, kind: &'a str },
    /// Enqueue a job of this kind, or upload a file for one.
    Enqueue { kind: &'a str },
    /// Change one job.
    Act {
        action: Action,
        owner: &'a str,
        kind: &'a str,
    },
    /// Make, change or run a schedule; remove one.
    Schedule { delete: bool },
    /// Pause a queue, or let it go on.
    PauseQueue,
    /// See the kinds, and whether the system is well.
    ReadSystem,
    /// See who did what.
    ReadAudit,
    /// See what the server was started with.
    ReadSettings,
    /// Invite, change and disable users; see and revoke everybody's tokens.
    ManageUsers,
    /// One's own sessions, tokens and password.
    ManageOwn,
    /// Run jobs of this kind as a worker outside of the binary, whoever started them, with all that is in their args; without a
    /// kind: be such a worker at all.
    Work { kind: Option<&'a str> },
    /// Remove a kind that workers outside have declared.
    ForgetKind { kind: &'a str },
}

/// Whether `actor` may do it. The one place that knows; what is not listed is denied.
pub fn may(actor: &Actor, want: Want<'_>) -> bool {
    role_may(actor, want) && actor.grant.as_ref().is_none_or(|grant| grant_may(grant, want))
}

fn role_may(actor: &Actor, want: Want<'_>) -> bool {
    let own = |owner: &str| owner == actor.name;
    match (actor.role, want) {
        (_, Want::Enqueue { kind }) if !actor.kinds.is_empty() && !actor.kinds.iter().any(|k| k == kind) => false,
        // A person runs nothing: whoever signs in in a browser has no token.
        (role, Want::Work { .. }) => role == Role::Admin && actor.grant.is_some(),
        (Role::Admin, _) => true,
        (_, Want::ReadSystem | Want::ReadOwn | Want::ManageOwn) => true,
        (_, Want::ManageUsers | Want::ReadSettings | Want::ForgetKind { .. }) => false,
        (Role::Manager, Want::Act { action, .. }) => action != Action::Delete,
        (Role::Manager, Want::Schedule { delete }) => !delete,
        (Role::Manager, Want::PauseQueue | Want::ReadAudit) => true,
        (Role::Manager, Want::ReadAll | Want::Read { .. } | Want::Enqueue { .. }) => true,
        (Role::Viewer, Want::ReadAll | Want::Read { .. }) => true,
        (Role::Viewer, _) => false,
        (Role::Member, Want::Read { owner, .. } | Want::Act { owner, .. }) => own(owner),
        (Role::Member, Want::Enqueue { .. }) => true,
        (Role::Member, _) => false,
    }
}

fn grant_may(grant: &Grant, want: Want<'_>) -> bool {
    let has = |scope| grant.scopes.contains(&scope);
    let covers = |kind: &str| grant.kinds.is_empty() || grant.kinds.iter().any(|k| k == kind);
    match want {
        Want::ReadSystem => true,
        Want::ReadOwn => has(Scope::JobsRead),
        Want::ReadAll => has(Scope::JobsRead) && grant.kinds.is_empty(),
        Want::Read { kind, .. } => has(Scope::JobsRead) && covers(kind),
        Want::Enqueue { kind } => has(Scope::JobsWrite) && covers(kind),
        Want::Act {
            action: Action::Delete,
            kind,
            ..
        } => has(Scope::JobsDelete) && covers(kind),
        Want::Act { kind, .. } => has(Scope::JobsWrite) && covers(kind),
        // Schedules and queues are everybody's: a token for some kinds leaves them alone.
        Want::Schedule { delete: true } => has(Scope::JobsDelete) && grant.kinds.is_empty(),
        Want::Schedule { delete: false } | Want::PauseQueue => has(Scope::JobsWrite) && grant.kinds.is_empty(),
        Want::Work { kind } => has(Scope::Worker) && kind.is_none_or(covers),
        Want::ForgetKind { kind } => has(Scope::Worker) && covers(kind),
        Want::ReadAudit | Want::ReadSettings | Want::ManageUsers | Want::ManageOwn => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(role: Role) -> Actor {
        Actor::named("ada", role)
    }

    #[test]
    fn roles_may_what_the_specification_says() {
        let read = Want::Read {
            owner: "bob",
            kind: "export",
        };
        let act = |action| Want::Act {
            action,
            owner: "bob",
            kind: "export",
        };
        let table = [
            (Role::Admin, read, true),
            (Role::Admin, act(Action::Delete), true),
            (Role::Admin, Want::ManageUsers, true),
            (Role::Manager, act(Action::Abort), true),
            (Role::Manager, act(Action::Delete), false),
            (Role::Manager, Want::ReadAudit, true),
            (Role::Manager, Want::ManageUsers, false),
            (Role::Admin, Want::ReadSettings, true),
            (Role::Manager, Want::ReadSettings, false),
            (Role::Viewer, Want::ReadSettings, false),
            (Role::Viewer, read, true),
            (Role::Viewer, act(Action::Cancel), false),
            (Role::Viewer, Want::Enqueue { kind: "export" }, false),
            (Role::Viewer, Want::ReadAudit, false),
            (Role::Member, read, false),
            (
                Role::Member,
                Want::Read {
                    owner: "ada",
                    kind: "export",
                },
                true,
            ),
            (Role::Member, act(Action::Cancel), false),
            (Role::Member, Want::ReadAll, false),
            (Role::Member, Want::ReadOwn, true),
            (Role::Member, Want::ReadAudit, false),
            (Role::Manager, Want::Schedule { delete: false }, true),
            (Role::Manager, Want::Schedule { delete: true }, false),
            (Role::Member, Want::Schedule { delete: false }, false),
            (Role::Manager, Want::PauseQueue, true),
            (Role::Viewer, Want::PauseQueue, false),
            (Role::Member, Want::PauseQueue, false),
            (Role::Member, Want::ReadSystem, true),
            (Role::Viewer, Want::ManageOwn, true),
        ];
        for (role, want, expected) in table {
            assert_eq!(may(&actor(role), want), expected, "{role:?} {want:?}");
        }
    }

    #[test]
    fn all_scopes_are_read_and_those_that_do_something_are_offered() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
        }
        assert_eq!(Scope::offered(Role::Admin), Scope::ALL);
        for role in [Role::Manager, Role::Member, Role::Viewer] {
            assert_eq!(
                Scope::names(&Scope::offered(role)),
                "jobs:read, jobs:write, jobs:delete"
            );
        }
    }

    #[test]
    fn only_tokens_of_admins_that_were_made_for_it_run_jobs() {
        let with = |role, scopes: &[Scope], kinds: &[&str]| Actor {
            grant: Some(Grant {
                scopes: scopes.to_vec(),
                kinds: kinds.iter().map(|k| (*k).to_string()).collect(),
            }),
            ..actor(role)
        };
        let work = |kind| Want::Work { kind: Some(kind) };
        let worker = with(Role::Admin, &[Scope::Worker], &["images.resize"]);
        assert!(may(&worker, Want::Work { kind: None }) && may(&worker, work("images.resize")));
        assert!(!may(&worker, work("images.crop")), "another kind");
        assert!(!may(&worker, Want::ReadOwn) && !may(&worker, Want::Enqueue { kind: "images.resize" }));
        assert!(may(&with(Role::Admin, &[Scope::Worker], &[]), work("images.crop")));
        assert!(!may(&actor(Role::Admin), work("images.crop")), "a person");
        for role in [Role::Manager, Role::Member, Role::Viewer] {
            assert!(!may(&with(role, &Scope::ALL, &[]), work("images.crop")), "{role:?}");
        }
        let others = [Scope::JobsRead, Scope::JobsWrite, Scope::JobsDelete];
        assert!(!may(&with(Role::Admin, &others, &[]), work("images.crop")));
    }

    #[test]
    fn a_person_starts_only_the_kinds_that_they_are_allowed() {
        let ada = Actor {
            kinds: vec!["export".into()],
            ..actor(Role::Member)
        };
        assert!(may(&ada, Want::Enqueue { kind: "export" }));
        assert!(!may(&ada, Want::Enqueue { kind: "import" }));
    }

    #[test]
    fn a_token_narrows_and_never_widens() {
        let with = |role, scopes: &[Scope], kinds: &[&str]| Actor {
            grant: Some(Grant {
                scopes: scopes.to_vec(),
                kinds: kinds.iter().map(|k| (*k).to_string()).collect(),
            }),
            ..actor(role)
        };
        let read = |kind| Want::Read { owner: "bob", kind };
        let reader = with(Role::Admin, &[Scope::JobsRead], &[]);
        assert!(may(&reader, read("export")));
        assert!(!may(&reader, Want::Enqueue { kind: "export" }));
        let exports = with(Role::Admin, &[Scope::JobsRead, Scope::JobsWrite], &["export"]);
        assert!(may(&exports, read("export")));
        assert!(!may(&exports, read("import")));
        assert!(may(&exports, Want::Enqueue { kind: "export" }));
        assert!(!may(&exports, Want::Enqueue { kind: "import" }));
        assert!(!may(&exports, Want::PauseQueue));
        let deletes = Want::Act {
            action: Action::Delete,
            owner: "bob",
            kind: "export",
        };
        assert!(!may(&exports, deletes));
        assert!(may(&with(Role::Admin, &[Scope::JobsDelete], &[]), deletes));
        assert!(!may(&with(Role::Manager, &[Scope::JobsDelete], &[]), deletes));
        for want in [Want::ManageUsers, Want::ManageOwn, Want::ReadAudit] {
            assert!(!may(&with(Role::Admin, &Scope::ALL, &[]), want), "{want:?}");
        }
        assert!(
            with(Role::Member, &Scope::ALL, &[]).is_limited(),
            "nor out of a member's limit"
        );
    }
}
