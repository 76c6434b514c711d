//! Files that come in and go out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Service, require};
use crate::domain::error::{Problem, truncate};
use crate::domain::job::{Artifact, JobId};
use crate::domain::user::{Actor, Want};
use crate::server::config::Edge;
use crate::server::store::files::Upload;
use crate::server::store::room::Used;

/// Bytes of a file's name that are kept.
const NAME_MAX: usize = 200;

/// Whether a character turns the direction of what follows: with one in it, "gpj.exe" reads like "exe.jpg".
fn turns(c: char) -> bool {
    matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Bytes that are coming in at the moment, by whose they are.
pub(super) type Arriving = Arc<Mutex<HashMap<String, u64>>>;

/// An upload that is coming in. Whatever becomes of it, nothing half written is left when this is dropped.
#[derive(Debug)]
pub struct Incoming {
    id: String,
    path: PathBuf,
    owner: String,
    /// Bytes that it has so far.
    size: u64,
    /// What was kept when it began.
    used: Used,
    edge: Edge,
    arriving: Arriving,
}

impl Incoming {
    /// Where to write it. There is nothing yet.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks for room for `more` bytes before they are written.
    pub fn grow(&mut self, more: u64) -> Result<(), Problem> {
        let mut arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, own) = (arriving.values().sum::<u64>(), arriving.get(&self.owner).copied());
        let used = Used {
            total: self.used.total.saturating_add(all),
            own: self.used.own.saturating_add(own.unwrap_or_default()),
        };
        used.fits_upload(more, &self.edge)?;
        *arriving.entry(self.owner.clone()).or_default() += more;
        self.size += more;
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let mut arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = arriving.get_mut(&self.owner) {
            *own = own.saturating_sub(self.size);
            if *own == 0 {
                arriving.remove(&self.owner);
            }
        }
        drop(arriving);
        // One that is kept has been moved away, and one that never began was never there.
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.path.display(), "an upload that is not kept could not be removed");
            }
            _ => {}
        }
    }
}

impl Service {
    /// Begins to take in a file that an `import` shall read, of `announced` bytes as far as that is known. Write it, asking for
    /// room as it grows, and hand it to [`Service::keep_upload`].
    pub async fn begin_upload(&self, actor: &Actor, announced: u64) -> Result<Incoming, Problem> {
        require(actor, Want::Enqueue { kind: "import" })?;
        let used = self.store.uploads_used(&actor.name).await?;
        used.fits_upload(announced, self.store.edge())?;
        let (id, path) = self.store.files().incoming();
        Ok(Incoming {
            id,
            path,
            owner: actor.name.clone(),
            size: 0,
            used,
            edge: *self.store.edge(),
            arriving: self.arriving.clone(),
        })
    }

    /// Keeps a file that was written completely. `name` is the sender's word for it and is only ever shown.
    pub async fn keep_upload(&self, actor: &Actor, incoming: Incoming, name: &str) -> Result<Upload, Problem> {
        require(actor, Want::Enqueue { kind: "import" })?;
        let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
        let mut name: String = base.chars().filter(|c| !c.is_control() && !turns(*c)).collect();
        truncate(&mut name, NAME_MAX);
        if name.trim().is_empty() {
            name = "upload".into();
        }
        let kept = self
            .store
            .keep_upload(incoming.id.clone(), &incoming.owner, name, &incoming.path);
        Ok(kept.await?)
    }

    /// Removes an upload that no job was made for.
    pub async fn drop_upload(&self, actor: &Actor, id: &str) -> Result<(), Problem> {
        require(actor, Want::Enqueue { kind: "import" })?;
        Ok(self.store.drop_upload(id).await?)
    }

    /// One of a job's files and where it lies.
    pub async fn artifact(&self, actor: &Actor, id: JobId, name: &str) -> Result<(Artifact, PathBuf), Problem> {
        let row = self.row(actor, id).await?;
        let missing = || Problem::not_found(format_args!("artifact \"{name}\" of job {id}"));
        // Not every database takes a zero character, and no file has one in its name.
        if name.contains('\0') {
            return Err(missing());
        }
        let (artifact, path) = self.store.artifact(row.seq, name).await?.ok_or_else(missing)?;
        if !self.store.files().is_artifact(&path).await {
            tracing::error!(job = %id, name, "an artifact's file is missing, or is a link");
            return Err(missing());
        }
        Ok((artifact, path))
    }
}
