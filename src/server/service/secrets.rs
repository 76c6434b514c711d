//! Args on their way in and out: checked by their kind, their secrets encrypted before anything is written and masked before
//! anything is told.

use serde_json::Value;

use super::{Catalog, Service};
use crate::domain::error::{ErrorCode, JobError, Problem, ProblemCode};
use crate::domain::secret::{MASK, SEALED};
use crate::server::secrets::{self, Places, SecretError, Unreadable, Veil, field, position};

/// Args as an attempt is given them.
pub(in crate::server) struct Opened {
    pub args: Value,
    /// What the attempt may not say.
    pub veil: Veil,
}

impl Service {
    /// What callers gave, as it is stored. [`Service::checked_args`] has looked at its size.
    pub(super) fn sealed_args(&self, kind: &str, args: &Value) -> Result<Value, Problem> {
        refuse_sealed(args)?;
        let args = self.kept_secret(kind, args, |args| self.catalog.check(kind, args))?;
        self.seal(kind, args, Vec::new())
    }

    /// Args that a caller gave for a job or schedule of the same kind that has `stored` ones: where they still show the mask,
    /// the secret stays.
    pub(super) fn edited_args(&self, kind: &str, mut args: Value, stored: &Value) -> Result<Value, Problem> {
        let is_mask = |value: &Value| value == MASK;
        if position(&args, &is_mask).is_none() {
            return self.checked_args(kind, &args);
        }
        refuse_sealed(&args)?;
        let (mut open, masked) = (stored.clone(), self.masked_args(kind, stored.clone()));
        let pointers = self.secrets.open(kind, &mut open).map_err(unreadable)?;
        secrets::restore(&mut args, &masked, &open);
        self.checked_size("args", &args)?;
        let args = self.kept_secret(kind, &args, |args| self.catalog.check(kind, args))?;
        // What was a secret stays one, though the kind may have changed its mind.
        self.seal(kind, args, pointers)
    }

    /// Stored args for another job of the same kind: checked again, since kinds change, and encrypted anew.
    pub(super) fn stored_args(&self, kind: &str, stored: &Value) -> Result<Value, Problem> {
        let mut args = stored.clone();
        let pointers = self.secrets.open(kind, &mut args).map_err(unreadable)?;
        let args = self.kept_secret(kind, &args, |args| self.catalog.check(kind, args))?;
        self.seal(kind, args, pointers)
    }

    /// The same for a run of a schedule. Of one whose secrets can't be read a job is made all the same: it fails, and says so
    /// where people look.
    pub(super) fn scheduled_args(&self, kind: &str, stored: &Value) -> Result<Value, Problem> {
        match self.secrets.open(kind, &mut stored.clone()) {
            Ok(_) => self.stored_args(kind, stored),
            Err(_) => Ok(stored.clone()),
        }
    }

    /// Stored args as they may be shown.
    pub(super) fn masked_args(&self, kind: &str, mut stored: Value) -> Value {
        secrets::mask(self.catalog.secrets(kind).as_deref(), &mut stored);
        stored
    }

    /// Stored args for an attempt, and what it may not say. A secret that can't be read is an error that no retry cures.
    pub(in crate::server) fn opened_args(&self, kind: &str, mut args: Value) -> Result<Opened, JobError> {
        let mut pointers = self
            .secrets
            .open(kind, &mut args)
            .map_err(|error| JobError::caused(ErrorCode::SecretUnreadable, error.to_string(), &error).permanent())?;
        // Those that were stored before their kind called them secrets.
        if let Some(places) = self.catalog.secrets(kind) {
            pointers.extend(places.find(&args));
        }
        let values = pointers.iter().filter_map(|pointer| args.pointer(pointer));
        let veil = Veil::new(self.secrets.redactor(), values);
        Ok(Opened { args, veil })
    }

    /// What an attempt without secrets may not say.
    pub(in crate::server) fn veil(&self) -> Veil {
        Veil::new(self.secrets.redactor(), [])
    }

    fn seal(&self, kind: &str, mut args: Value, more: Vec<String>) -> Result<Value, Problem> {
        let places = self.catalog.secrets(kind);
        if places.is_none() && more.is_empty() {
            return Ok(args);
        }
        if let Some(pointer) = masked_place(places.as_deref(), &more, &args) {
            let field = field(&pointer);
            let detail = format!("{field} is the mask that is shown in place of a secret; give the secret itself");
            return Err(Problem::invalid(field, detail));
        }
        let sealed = self.secrets.seal(kind, places.as_deref(), more, &mut args);
        sealed.map_err(|error| not_sealed(&error))?;
        Ok(args)
    }

    /// Does `f`; what it finds wrong is said without the secrets in `args`.
    fn kept_secret(
        &self,
        kind: &str,
        args: &Value,
        f: impl FnOnce(&Value) -> Result<Value, Problem>,
    ) -> Result<Value, Problem> {
        f(args).map_err(|mut problem| {
            let Some(places) = self.catalog.secrets(kind) else {
                return problem;
            };
            let pointers = places.find(args);
            let values = pointers.iter().filter_map(|pointer| args.pointer(pointer));
            problem.detail = Veil::new(self.secrets.redactor(), values).values(problem.detail);
            // What is too short to be looked for is a few letters of this very text.
            let at_fault = problem.field.clone().unwrap_or_default();
            let short = |pointer: &&String| {
                let text = args.pointer(pointer).map(plain).unwrap_or_default();
                !text.is_empty() && problem.detail.contains(&text) && at_fault.starts_with(&field(pointer))
            };
            if let Some(pointer) = pointers.iter().find(short) {
                problem.detail = format!("{} is not what the kind's schema allows", field(pointer));
            }
            problem
        })
    }
}

/// A value as an error may have it in its text.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// The place of a secret at which the mask stands.
fn masked_place(places: Option<&Places>, more: &[String], args: &Value) -> Option<String> {
    let found = places.map(|places| places.find(args)).unwrap_or_default();
    let mut pointers = found.into_iter().chain(more.iter().cloned());
    let holds = |pointer: &String| {
        let is_mask = |value: &Value| value == MASK;
        args.pointer(pointer)
            .is_some_and(|value| position(value, &is_mask).is_some())
    };
    pointers.find(holds)
}

/// Encrypted values are the server's own: one that a caller sends may be another's.
fn refuse_sealed(args: &Value) -> Result<(), Problem> {
    let names_it = |value: &Value| value.get(SEALED).is_some();
    match position(args, &names_it) {
        None => Ok(()),
        Some(pointer) => {
            let field = field(&pointer);
            let detail = format!(
                "{field} has the key \"{SEALED}\", which stands for what the server has encrypted itself; give the value as it is"
            );
            Err(Problem::invalid(field, detail))
        }
    }
}

fn unreadable(error: Unreadable) -> Problem {
    tracing::error!(%error, "a stored secret can't be read");
    Problem::new(
        ProblemCode::Internal,
        format!("{error}. Give the args anew, with their secrets."),
    )
}

fn not_sealed(error: &SecretError) -> Problem {
    tracing::error!(%error, "a secret can't be encrypted");
    let detail = match error {
        SecretError::NoKey => format!("Args of this kind hold secrets, and {error}."),
        _ => "A secret can't be encrypted; the server's log says more.".into(),
    };
    Problem::new(ProblemCode::Internal, detail)
}
