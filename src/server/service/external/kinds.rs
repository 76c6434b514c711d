//! All kinds that can be enqueued: those of the binary, and those that workers outside have declared.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use jsonschema::Validator;
use serde_json::Value;

use super::schema;
use crate::domain::error::Problem;
use crate::domain::kind::{KindInfo, Policy, is_external, label};
use crate::domain::worker::NewKind;
use crate::server::secrets::Places;
use crate::server::service::Catalog;
use crate::server::store::limits::Limits;

/// One that a worker outside has declared.
pub struct External {
    /// As it is stored.
    told: String,
    info: KindInfo,
    validator: Validator,
    secrets: Option<Arc<Places>>,
}

impl External {
    /// What was declared, or what is wrong with its schema. `told` is the same as it is stored; `default` the policy where it says
    /// nothing.
    pub fn new(kind: &NewKind, told: String, default: Policy) -> Result<Self, String> {
        Ok(Self {
            told,
            validator: schema::compile(&kind.args_schema)?,
            secrets: Places::of([kind.args_schema.clone()]).map(Arc::new),
            info: KindInfo {
                name: kind.name.clone(),
                label: label(&kind.name),
                description: kind.description.clone(),
                args_schema: kind.args_schema.clone(),
                policy: kind.policy.over(default),
                checkpoints: kind.checkpoints,
                external: true,
            },
        })
    }

    pub fn has_secrets(&self) -> bool {
        self.secrets.is_some()
    }

    fn check(&self, args: &Value) -> Result<Value, Problem> {
        schema::check(&self.validator, args, self.has_secrets())?;
        Ok(args.clone())
    }
}

/// Both sorts together.
pub struct Kinds {
    built_in: Arc<dyn Catalog>,
    outside: RwLock<Arc<Outside>>,
}

#[derive(Default)]
struct Outside {
    /// When they last changed; see `Store::external_kinds_mark`.
    mark: (i64, i64),
    kinds: BTreeMap<String, Arc<External>>,
}

impl Kinds {
    pub fn new(built_in: Arc<dyn Catalog>) -> Self {
        Self {
            built_in,
            outside: RwLock::default(),
        }
    }

    fn outside(&self) -> Arc<Outside> {
        self.outside.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether they are as they were at that mark.
    pub fn are_of(&self, mark: (i64, i64)) -> bool {
        self.outside().mark == mark
    }

    /// Takes over what the database has, as names and declarations.
    pub fn replace(&self, mark: (i64, i64), declared: Vec<(String, String)>) {
        let (before, default) = (self.outside(), self.built_in.default_policy());
        let mut kinds = BTreeMap::new();
        for (name, told) in declared {
            if let Some(same) = before.kinds.get(&name).filter(|kind| kind.told == told) {
                kinds.insert(name, same.clone());
                continue;
            }
            let kind = serde_json::from_str::<NewKind>(&told).map_err(|e| e.to_string());
            match kind.and_then(|kind| External::new(&kind, told, default)) {
                Ok(kind) => {
                    kinds.insert(name, Arc::new(kind));
                }
                Err(error) => tracing::error!(kind = name, error, "a declared kind can't be read, and is left out"),
            }
        }
        *self.outside.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Outside { mark, kinds });
    }

    /// The limits of these kinds, over those of the whole system.
    pub fn limits(&self, of: &[String], whole: &Limits) -> Limits {
        let outside = self.outside();
        let limited = |kind: &String| {
            let Policy { max_running, rate, .. } = outside.kinds.get(kind)?.info.policy;
            (max_running.is_some() || rate.is_some()).then(|| (kind.clone(), (max_running, rate)))
        };
        Limits {
            kinds: of.iter().filter_map(limited).collect(),
            ..whole.clone()
        }
    }
}

impl Catalog for Kinds {
    fn infos(&self) -> Vec<KindInfo> {
        let outside = self.outside();
        let mut infos = self.built_in.infos();
        infos.extend(outside.kinds.values().map(|kind| kind.info.clone()));
        infos
    }

    fn info(&self, kind: &str) -> Option<KindInfo> {
        match is_external(kind) {
            true => self.outside().kinds.get(kind).map(|kind| kind.info.clone()),
            false => self.built_in.info(kind),
        }
    }

    fn default_policy(&self) -> Policy {
        self.built_in.default_policy()
    }

    fn policy(&self, kind: &str) -> Option<Policy> {
        match is_external(kind) {
            true => self.outside().kinds.get(kind).map(|kind| kind.info.policy),
            false => self.built_in.policy(kind),
        }
    }

    fn secrets(&self, kind: &str) -> Option<Arc<Places>> {
        match is_external(kind) {
            true => self.outside().kinds.get(kind)?.secrets.clone(),
            false => self.built_in.secrets(kind),
        }
    }

    fn is_internal(&self, kind: &str) -> bool {
        self.built_in.is_internal(kind)
    }

    fn check(&self, kind: &str, args: &Value) -> Result<Value, Problem> {
        if let Some(kind) = self.outside().kinds.get(kind) {
            return kind.check(args);
        }
        self.built_in.check(kind, args).map_err(|problem| {
            let outside = self.outside();
            match problem.field.as_deref() {
                // It names those that are known to it.
                Some("type") if !outside.kinds.is_empty() => Problem {
                    detail: outside
                        .kinds
                        .keys()
                        .fold(problem.detail.clone(), |text, name| text + ", " + name),
                    ..problem
                },
                _ => problem,
            }
        })
    }
}
