//! What a kind of job is to the engine, and the registry of those that this process can run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::context::Context;
use crate::domain::error::{ErrorCode, JobError, Problem};
use crate::domain::kind::{KindInfo, Policy, Rate, label};
use crate::server::secrets::Places;
use crate::server::service::Catalog;
use crate::server::store::StoreError;
use crate::server::store::limits::Limits;

/// Why a run ended without a result.
#[derive(Debug)]
pub enum Halt {
    /// It failed; the policy and the error decide what comes next.
    Failed(JobError),
    /// It saw the wish to cancel ([`Context::check`]) and stopped.
    Cancelled,
    /// It stopped at a checkpoint, since a pause was asked for or the worker ends ([`Context::may_leave`]).
    Paused,
}

impl From<JobError> for Halt {
    fn from(error: JobError) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

/// One kind of job: one file under `kinds/` and a line in its registry.
#[async_trait]
pub trait Kind: Send + Sync + 'static {
    /// What it is given. Its JSON Schema makes the form and checks every enqueue; `deny_unknown_fields` belongs on it. A field
    /// with `#[schemars(extend("x-secret" = true))]` is encrypted wherever it is stored, and shown to nobody but [`Kind::run`].
    type Args: DeserializeOwned + Serialize + JsonSchema + Send + Sync;

    /// The name on the wire: `a-z 0-9 _`. Names with a dot are for the kinds of workers outside.
    fn name(&self) -> &'static str;

    /// What it does, in a sentence or two, and what it does about running twice after a crash.
    fn description(&self) -> &'static str;

    /// How often and when it is tried again; `default` carries the configured values.
    fn policy(&self, default: Policy) -> Policy {
        default
    }

    /// Whether it can stop at a checkpoint and go on from there.
    fn checkpoints(&self) -> bool {
        false
    }

    /// Whether the server alone starts jobs of this kind: callers neither see it among the kinds nor can they enqueue one, run
    /// one again or give one other args.
    fn is_internal(&self) -> bool {
        false
    }

    /// What the schema can't say about the args. The problem's field is named as in the args.
    fn check(&self, args: &Self::Args) -> Result<(), Problem> {
        let _ = args;
        Ok(())
    }

    /// Does the work. May run more than once for one job; returns the result that the job keeps.
    async fn run(&self, ctx: &Context, args: Self::Args) -> Result<Value, Halt>;
}

#[async_trait]
trait ErasedKind: Send + Sync {
    fn check(&self, args: &Value) -> Result<Value, Problem>;
    async fn run(&self, ctx: &Context, args: Value) -> Result<Value, Halt>;
}

fn parse<K: Kind>(args: &Value) -> Result<K::Args, Problem> {
    serde_path_to_error::deserialize(args).map_err(|e| {
        let path = e.path().to_string();
        let field = if path == "." {
            "args".into()
        } else {
            format!("args.{path}")
        };
        Problem::invalid(field, e.into_inner().to_string())
    })
}

#[async_trait]
impl<K: Kind> ErasedKind for K {
    fn check(&self, args: &Value) -> Result<Value, Problem> {
        let parsed = parse::<K>(args)?;
        Kind::check(self, &parsed).map_err(|mut p| {
            p.field = p.field.map(|f| format!("args.{f}"));
            p
        })?;
        serde_json::to_value(&parsed).map_err(|e| Problem::invalid("args", e.to_string()))
    }

    async fn run(&self, ctx: &Context, args: Value) -> Result<Value, Halt> {
        let args = parse::<K>(&args).map_err(|p| JobError::new(ErrorCode::InvalidArgs, p.detail))?;
        Kind::run(self, ctx, args).await
    }
}

/// The kinds that this process knows. Made once at the start.
#[derive(Clone)]
pub struct Registry {
    default: Policy,
    kinds: BTreeMap<&'static str, (KindInfo, Arc<dyn ErasedKind>)>,
    /// Those of them that callers can't start.
    internal: BTreeSet<&'static str>,
    /// Of the kinds that have secrets in their args.
    secrets: BTreeMap<&'static str, Arc<Places>>,
}

impl Registry {
    /// `default` is the policy of kinds that have none of their own.
    pub fn new(default: Policy) -> Self {
        Self {
            default,
            kinds: BTreeMap::new(),
            internal: BTreeSet::new(),
            secrets: BTreeMap::new(),
        }
    }

    /// Adds a kind; a second one of the same name replaces the first.
    pub fn with<K: Kind>(mut self, kind: K) -> Self {
        let name = kind.name();
        let schema = schemars::schema_for!(K::Args).to_value();
        // Stored args are what serde writes, whose names may be other ones than those that it reads.
        let written = SchemaSettings::draft2020_12().for_serialize().into_generator();
        match Places::of([schema.clone(), written.into_root_schema_for::<K::Args>().to_value()]) {
            Some(places) => self.secrets.insert(name, Arc::new(places)),
            None => self.secrets.remove(name),
        };
        match kind.is_internal() {
            true => self.internal.insert(name),
            false => self.internal.remove(name),
        };
        let info = KindInfo {
            name: name.into(),
            label: label(name),
            description: kind.description().into(),
            args_schema: schema,
            policy: kind.policy(self.default),
            checkpoints: kind.checkpoints(),
            external: false,
        };
        self.kinds.insert(name, (info, Arc::new(kind)));
        self
    }

    /// Limits from the settings, over what the kinds themselves say. An unknown kind's name is given back.
    pub fn limited(
        mut self,
        running: &BTreeMap<String, u32>,
        rates: &BTreeMap<String, Rate>,
        timeouts: &BTreeMap<String, Duration>,
    ) -> Result<Self, String> {
        for (name, max) in running {
            let (info, _) = self.kinds.get_mut(name.as_str()).ok_or_else(|| name.clone())?;
            info.policy.max_running = Some(*max);
        }
        for (name, rate) in rates {
            let (info, _) = self.kinds.get_mut(name.as_str()).ok_or_else(|| name.clone())?;
            info.policy.rate = Some(*rate);
        }
        for (name, time) in timeouts {
            let (info, _) = self.kinds.get_mut(name.as_str()).ok_or_else(|| name.clone())?;
            info.policy.timeout_s = time.as_secs();
        }
        Ok(self)
    }

    /// The limits that hold for the whole system.
    pub fn limits(&self, all: Option<u32>, member: u32) -> Limits {
        let of = |info: &KindInfo| {
            let Policy { max_running, rate, .. } = info.policy;
            (max_running.is_some() || rate.is_some()).then(|| (info.name.clone(), (max_running, rate)))
        };
        Limits {
            all,
            member,
            kinds: self.kinds.values().filter_map(|(info, _)| of(info)).collect(),
        }
    }

    /// The kind's policy, or the default for an unknown one.
    pub fn policy(&self, kind: &str) -> Policy {
        self.kinds.get(kind).map_or(self.default, |(info, _)| info.policy)
    }

    /// Whether the kind goes on from checkpoints.
    pub fn checkpoints(&self, kind: &str) -> bool {
        self.kinds.get(kind).is_some_and(|(info, _)| info.checkpoints)
    }

    /// The kinds that have secrets in their args.
    pub fn with_secrets(&self) -> Vec<&'static str> {
        self.secrets.keys().copied().collect()
    }

    /// Runs the kind; an unknown one fails for good.
    pub async fn run(&self, ctx: &Context, kind: &str, args: Value) -> Result<Value, Halt> {
        match self.kinds.get(kind) {
            Some((_, k)) => k.run(ctx, args).await,
            None => Err(JobError::new(
                ErrorCode::UnknownKind,
                format!("no worker here knows the kind \"{kind}\""),
            )
            .into()),
        }
    }
}

impl Registry {
    /// What callers can start.
    fn startable(&self) -> impl Iterator<Item = &(KindInfo, Arc<dyn ErasedKind>)> {
        let of_callers = |(name, _): &(&&'static str, _)| !self.internal.contains(*name);
        self.kinds.iter().filter(of_callers).map(|(_, kind)| kind)
    }
}

impl Catalog for Registry {
    fn infos(&self) -> Vec<KindInfo> {
        self.startable().map(|(info, _)| info.clone()).collect()
    }

    fn info(&self, kind: &str) -> Option<KindInfo> {
        self.kinds.get(kind).map(|(info, _)| info.clone())
    }

    fn default_policy(&self) -> Policy {
        self.default
    }

    fn policy(&self, kind: &str) -> Option<Policy> {
        self.kinds.get(kind).map(|(info, _)| info.policy)
    }

    fn secrets(&self, kind: &str) -> Option<Arc<Places>> {
        self.secrets.get(kind).cloned()
    }

    fn is_internal(&self, kind: &str) -> bool {
        self.internal.contains(kind)
    }

    fn check(&self, kind: &str, args: &Value) -> Result<Value, Problem> {
        match self.kinds.get(kind).filter(|_| !self.is_internal(kind)) {
            Some((_, k)) => k.check(args),
            None => Err(Problem::invalid(
                "type",
                format!(
                    "type \"{kind}\" is not a kind known here; allowed: {}",
                    self.startable()
                        .map(|(info, _)| info.name.as_str())
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            )),
        }
    }
}
