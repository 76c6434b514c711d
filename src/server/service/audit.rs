//! Reading the audit log. It is written where things are done.

use serde_json::json;

use super::{Service, require};
use crate::domain::audit::{AuditEntry, AuditFilter, AuditHead, AuditPage, Deed};
use crate::domain::error::Problem;
use crate::domain::page::{LIMIT_DEFAULT, LIMIT_MAX};
use crate::domain::user::{Actor, Want};

impl Service {
    /// Entries that match, the newest first, from before number `before` on.
    pub async fn audit(
        &self,
        actor: &Actor,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: Option<u32>,
    ) -> Result<AuditPage, Problem> {
        require(actor, Want::ReadAudit)?;
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Problem::invalid(
                "limit",
                format!("limit {limit} is not within 1 to {LIMIT_MAX}"),
            ));
        }
        let filter = filter.clone().checked()?;
        let mut items = self.store.audit(&filter, before, limit + 1).await?;
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().filter(|_| more).map(|entry: &AuditEntry| entry.seq);
        let head = self.store.audit_head().await?;
        Ok(AuditPage { items, next, head })
    }

    /// Notes that somebody takes a part of the log away as a file; its entries are had from [`Service::audit`].
    pub async fn begin_audit_export(&self, actor: &Actor, filter: &AuditFilter, format: &str) -> Result<(), Problem> {
        require(actor, Want::ReadAudit)?;
        let filter = filter.clone().checked()?;
        let deed = Deed::of(actor, "audit.export", "audit", "");
        let deed = deed.to(json!({ "format": format, "filter": filter }));
        Ok(self.store.note(deed).await?)
    }

    /// The actions that the log knows of.
    pub async fn audit_actions(&self, actor: &Actor) -> Result<Vec<String>, Problem> {
        require(actor, Want::ReadAudit)?;
        Ok(self.store.audit_actions().await?)
    }

    /// Where the log ends: to be kept elsewhere.
    pub async fn audit_head(&self, actor: &Actor) -> Result<AuditHead, Problem> {
        require(actor, Want::ReadAudit)?;
        Ok(self.store.audit_head().await?)
    }
}
