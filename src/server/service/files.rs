//! Files that come in and go out.

use std::path::{Path, PathBuf};

use super::{Service, require};
use crate::domain::error::{Problem, truncate};
use crate::domain::job::{Artifact, JobId};
use crate::domain::user::{Actor, Want};
use crate::server::store::files::Upload;

/// Bytes of a file's name that are kept.
const NAME_MAX: usize = 200;

impl Service {
    /// Where to write a file that an `import` shall read: its id and a path. Hand both to [`Service::keep_upload`], or remove
    /// the file.
    pub fn begin_upload(&self, actor: &Actor) -> Result<(String, PathBuf), Problem> {
        require(actor, Want::Enqueue { kind: "import" })?;
        Ok(self.store.files().incoming())
    }

    /// Keeps a file that was written completely. `name` is the sender's word for it and is only ever shown.
    pub async fn keep_upload(&self, actor: &Actor, id: String, name: &str, path: &Path) -> Result<Upload, Problem> {
        require(actor, Want::Enqueue { kind: "import" })?;
        let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
        let mut name: String = base.chars().filter(|c| !c.is_control()).collect();
        truncate(&mut name, NAME_MAX);
        if name.is_empty() {
            name.push_str("upload");
        }
        Ok(self.store.keep_upload(id, name, path).await?)
    }

    /// Removes an upload that no job was made for.
    pub async fn drop_upload(&self, actor: &Actor, id: &str) -> Result<(), Problem> {
        require(actor, Want::Enqueue { kind: "import" })?;
        Ok(self.store.drop_upload(id).await?)
    }

    /// One of a job's files and where it lies.
    pub async fn artifact(&self, actor: &Actor, id: JobId, name: &str) -> Result<(Artifact, PathBuf), Problem> {
        let row = self.row(actor, id).await?;
        self.store
            .artifact(row.seq, name)
            .await?
            .ok_or_else(|| Problem::not_found(format_args!("artifact \"{name}\" of job {id}")))
    }
}
