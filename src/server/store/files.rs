//! Files beside the database: `artifacts/<job>/<epoch>-<n>`, `uploads/<id>`, `tmp/<job>-<epoch>/`, `tmp/upload-<id>`,
//! `work/<job>/`. Names that people gave are kept in the database only; on disk there are ids, so no name can lead out of these folders.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::FutureExt;
use sea_orm::QueryResult;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Store;
use super::error::StoreError;
use super::logs::fence;
use super::ops::Lease;
use super::room;
use super::sql::{RowExt, Sql, int};
use super::writer::Tx;
use crate::domain::error::{ErrorCode, JobError};
use crate::domain::job::{Artifact, JobId};
use crate::domain::time::from_millis;

/// How files begin that are still coming in.
const INCOMING: &str = "upload-";

/// The folders.
#[derive(Clone, Debug)]
pub struct Files {
    pub(super) artifacts: PathBuf,
    pub(super) uploads: PathBuf,
    tmp: PathBuf,
    /// Folders of jobs that go on from checkpoints.
    work: PathBuf,
}

/// A file that was sent to be worked on.
#[derive(Clone, Debug)]
pub struct Upload {
    pub id: String,
    pub path: PathBuf,
    /// The sender's name for it; hostile text.
    pub file_name: String,
    /// Bytes.
    pub size: u64,
}

/// A file in its final place that is not recorded yet.
#[derive(Clone, Debug)]
pub struct ArtifactFile {
    name: String,
    content_type: String,
    path: String,
    size: u64,
    sha256: String,
}

impl Files {
    pub(super) fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let files = Self {
            artifacts: data_dir.join("artifacts"),
            uploads: data_dir.join("uploads"),
            tmp: data_dir.join("tmp"),
            work: data_dir.join("work"),
        };
        for folder in [&files.artifacts, &files.uploads, &files.tmp, &files.work] {
            std::fs::create_dir_all(folder)
                .map_err(|e| StoreError::file(format!("the folder {} can't be made", folder.display()), e))?;
        }
        Ok(files)
    }

    /// An attempt's own folder. Not made here.
    pub fn scratch_dir(&self, id: JobId, epoch: u64) -> PathBuf {
        self.tmp.join(format!("{id}-{epoch}"))
    }

    /// Removes an attempt's folder, if it has one.
    pub async fn remove_scratch(&self, id: JobId, epoch: u64) {
        remove_tree(&self.scratch_dir(id, epoch)).await;
    }

    /// The attempts that have folders: those that run, and those whose worker was killed.
    pub async fn scratches(&self) -> Vec<(JobId, u64)> {
        let of = |name: &str| {
            let (id, epoch) = name.rsplit_once('-')?;
            Some((id.parse().ok()?, epoch.parse().ok()?))
        };
        names(&self.tmp).await.iter().filter_map(|name| of(name)).collect()
    }

    /// Removes uploads that have not grown for so long: whoever sent them, or took them, is gone.
    pub async fn remove_unfinished(&self, age: Duration) -> usize {
        let mut removed = 0;
        for name in names(&self.tmp).await.iter().filter(|name| name.starts_with(INCOMING)) {
            let path = self.tmp.join(name);
            let written = tokio::fs::metadata(&path).await.and_then(|m| m.modified());
            if written.is_ok_and(|at| at.elapsed().is_ok_and(|past| past > age)) {
                remove_file(&path).await;
                removed += 1;
            }
        }
        removed
    }

    /// Removes what attempts of an earlier process left in their folders, and uploads that were never finished.
    pub async fn clear_tmp(&self) {
        remove_tree(&self.tmp).await;
        if let Err(error) = tokio::fs::create_dir_all(&self.tmp).await {
            tracing::error!(%error, path = %self.tmp.display(), "the folder for temporary files can't be made");
        }
    }

    /// A job's folder that outlives its attempts. Not made here.
    pub fn work_dir(&self, id: JobId) -> PathBuf {
        self.work.join(id.to_string())
    }

    /// Removes it, if there is one.
    pub async fn remove_work(&self, id: JobId) {
        let folder = self.work_dir(id);
        // Most jobs have none; looking is cheaper than a failed removal on another thread.
        if folder.exists() {
            remove_tree(&folder).await;
        }
    }

    /// The jobs that have such folders.
    pub async fn works(&self) -> Vec<JobId> {
        names(&self.work)
            .await
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect()
    }

    pub(super) async fn remove_job(&self, id: JobId) {
        self.remove_work(id).await;
        remove_tree(&self.artifacts.join(id.to_string())).await;
    }

    pub(super) async fn remove_upload(&self, id: &str) {
        remove_file(&self.uploads.join(id)).await;
    }

    /// A place for an upload that is still coming in.
    pub fn incoming(&self) -> (String, PathBuf) {
        let id = Uuid::now_v7().simple().to_string();
        let path = self.tmp.join(format!("{INCOMING}{id}"));
        (id, path)
    }

    /// Syncs a finished file, works out its checksum, and moves it to its final place.
    pub async fn keep(
        &self,
        lease: Lease,
        name: &str,
        content_type: &str,
        file: &Path,
    ) -> Result<ArtifactFile, JobError> {
        let folder = self.artifacts.join(lease.id.to_string());
        let stored = format!("{}-{}", lease.epoch, Uuid::now_v7().simple());
        let (from, to) = (file.to_path_buf(), folder.join(&stored));
        let path = format!("{}/{stored}", lease.id);
        let done = tokio::task::spawn_blocking(move || -> std::io::Result<(u64, String)> {
            let (size, sum) = checksum(&from)?;
            std::fs::create_dir_all(&folder)?;
            std::fs::File::open(&from)?.sync_all()?;
            std::fs::rename(&from, &to)?;
            std::fs::File::open(&folder)?.sync_all()?;
            Ok((size, sum))
        })
        .await;
        let (size, sha256) = match done {
            Ok(Ok(done)) => done,
            Ok(Err(e)) => {
                return Err(JobError::caused(
                    ErrorCode::IoError,
                    format!("{name} can't be stored: {e}"),
                    &e,
                ));
            }
            Err(e) => {
                return Err(JobError::caused(
                    ErrorCode::Internal,
                    "the file could not be stored",
                    &e,
                ));
            }
        };
        Ok(ArtifactFile {
            name: name.into(),
            content_type: content_type.into(),
            path,
            size,
            sha256,
        })
    }
}

/// What is in a folder; nothing when it can't be read.
async fn names(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(mut folder) = tokio::fs::read_dir(folder).await {
        while let Ok(Some(entry)) = folder.next_entry().await {
            found.extend(entry.file_name().into_string());
        }
    }
    found
}

async fn remove_file(path: &Path) {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "a file could not be removed");
        }
        _ => {}
    }
}

async fn remove_tree(path: &Path) {
    match tokio::fs::remove_dir_all(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "a folder could not be removed");
        }
        _ => {}
    }
}

fn checksum(path: &Path) -> std::io::Result<(u64, String)> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => {
                hasher.update(&buffer[..n]);
                size += n as u64;
            }
        }
    }
    let sum = hasher.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok((size, sum))
}

impl Store {
    /// Records a kept file as one of the job's artifacts; one of the same name is replaced.
    pub async fn record_artifact(&self, lease: Lease, file: ArtifactFile) -> Result<Artifact, StoreError> {
        let ttl = i64::try_from(self.inner.artifact_ttl.as_millis()).unwrap_or(i64::MAX);
        let (edge, stored) = (self.inner.edge, self.files().artifacts.join(&file.path));
        let recorded = self
            .writer()
            .write(move |tx| {
                async move {
                    fence(tx, lease).await?;
                    room::for_artifact(tx, lease.seq, &file.name, file.size, &edge).await?;
                    let old = Sql::with(
                        "SELECT path FROM artifacts WHERE job_seq = $1 AND name = $2",
                        [lease.seq.into(), file.name.clone().into()],
                    );
                    let replaced: Option<String> = tx.one(old).await?.map(|r| r.get("path")).transpose()?;
                    let mut sql = Sql::new("INSERT INTO artifacts VALUES (");
                    sql.bind(lease.seq)
                        .push(", ")
                        .bind(file.name.clone())
                        .push(", ")
                        .bind(file.path);
                    sql.push(", ")
                        .bind(int(file.size))
                        .push(", ")
                        .bind(file.content_type.clone());
                    sql.push(", ").bind(file.sha256.clone()).push(", ").bind(tx.now());
                    sql.push(", ").bind(tx.now().saturating_add(ttl)).push(
                        ") ON CONFLICT (job_seq, name) DO UPDATE SET path = excluded.path, size = excluded.size, \
                         content_type = excluded.content_type, sha256 = excluded.sha256, \
                         created_at = excluded.created_at, expires_at = excluded.expires_at",
                    );
                    tx.execute(sql.build()).await?;
                    let artifact = Artifact {
                        name: file.name,
                        size: file.size,
                        content_type: file.content_type,
                        sha256: file.sha256,
                        created_at: from_millis(tx.now()),
                        expires_at: from_millis(tx.now().saturating_add(ttl)),
                    };
                    Ok((artifact, replaced))
                }
                .boxed()
            })
            .await;
        if let Err(StoreError::Full { .. } | StoreError::Refused(_)) = &recorded {
            remove_file(&stored).await;
        }
        let (artifact, replaced) = recorded?;
        if let Some(path) = replaced {
            remove_file(&self.files().artifacts.join(path)).await;
        }
        Ok(artifact)
    }

    /// The job's artifacts by name.
    pub async fn artifacts(&self, seq: i64) -> Result<Vec<Artifact>, StoreError> {
        let stmt = Sql::with("SELECT * FROM artifacts WHERE job_seq = $1 ORDER BY name", [seq.into()]);
        self.all(stmt).await?.iter().map(artifact).collect()
    }

    /// One artifact and where its file lies.
    pub async fn artifact(&self, seq: i64, name: &str) -> Result<Option<(Artifact, PathBuf)>, StoreError> {
        let stmt = Sql::with(
            "SELECT * FROM artifacts WHERE job_seq = $1 AND name = $2",
            [seq.into(), name.into()],
        );
        let Some(row) = self.one(stmt).await? else {
            return Ok(None);
        };
        let path: String = row.get("path")?;
        Ok(Some((artifact(&row)?, self.files().artifacts.join(path))))
    }

    /// Removes at most `limit` artifacts whose time has passed, and says how many.
    pub async fn expire_artifacts(&self, limit: u32) -> Result<usize, StoreError> {
        let paths: Vec<String> = self
            .writer()
            .write(move |tx| {
                async move {
                    let text = format!(
                        "DELETE FROM artifacts WHERE (job_seq, name) IN \
                         (SELECT job_seq, name FROM artifacts WHERE expires_at <= $1 LIMIT {limit}) RETURNING path"
                    );
                    let rows = tx.all(Sql::with(&text, [tx.now().into()])).await?;
                    rows.iter().map(|r| r.get("path")).collect()
                }
                .boxed()
            })
            .await?;
        for path in &paths {
            remove_file(&self.files().artifacts.join(path)).await;
        }
        Ok(paths.len())
    }

    /// Removes at most `limit` uploads that came in more than `older_than_ms` milliseconds ago and that no job uses, and says how many.
    pub async fn expire_uploads(&self, older_than_ms: i64, limit: u32) -> Result<usize, StoreError> {
        let ids: Vec<String> = self
            .writer()
            .write(move |tx| {
                async move {
                    let text = format!(
                        "DELETE FROM uploads WHERE id IN \
                         (SELECT id FROM uploads WHERE uses = 0 AND created_at <= $1 LIMIT {limit}) RETURNING id"
                    );
                    let rows = tx.all(Sql::with(&text, [(tx.now() - older_than_ms).into()])).await?;
                    rows.iter().map(|r| r.get("id")).collect()
                }
                .boxed()
            })
            .await?;
        for id in &ids {
            self.files().remove_upload(id).await;
        }
        Ok(ids.len())
    }
}

/// Gives a job other args. Its checkpoint goes with the old ones. Answers with the id of an upload whose file has to go.
pub(super) async fn replace_args(
    tx: &Tx<'_>,
    job_seq: i64,
    args: &serde_json::Value,
) -> Result<Option<String>, StoreError> {
    // The new use first, so that the same upload stays.
    if let Some(upload) = args.get("upload").and_then(serde_json::Value::as_str) {
        let text = "UPDATE uploads SET uses = uses + 1 WHERE id = $1";
        tx.execute(Sql::with(text, [upload.into()])).await?;
    }
    let unused = release_upload(tx, job_seq).await?;
    let text = "UPDATE job_data SET args = $1, checkpoint = NULL WHERE job_seq = $2";
    tx.execute(Sql::with(text, [super::ops::to_json(args)?.into(), job_seq.into()]))
        .await?;
    Ok(unused)
}

/// Counts one use less of the upload that a job's args name, and forgets it with the last. Answers with the id of an upload
/// whose file has to go.
pub(super) async fn release_upload(tx: &Tx<'_>, job_seq: i64) -> Result<Option<String>, StoreError> {
    let data = Sql::with("SELECT args FROM job_data WHERE job_seq = $1", [job_seq.into()]);
    let args: Option<String> = tx.one(data).await?.map(|r| r.get("args")).transpose()?;
    let args: Option<serde_json::Value> = args.and_then(|a| serde_json::from_str(&a).ok());
    let Some(named) = args.as_ref().and_then(|a| a.get("upload")).and_then(|u| u.as_str()) else {
        return Ok(None);
    };
    let text = "UPDATE uploads SET uses = uses - 1 WHERE id = $1 RETURNING id, uses";
    let Some(row) = tx.one(Sql::with(text, [named.into()])).await? else {
        return Ok(None);
    };
    let (id, uses): (String, i64) = (row.get("id")?, row.get("uses")?);
    if uses > 0 {
        return Ok(None);
    }
    tx.execute(Sql::with("DELETE FROM uploads WHERE id = $1", [id.clone().into()]))
        .await?;
    Ok(Some(id))
}

fn artifact(r: &QueryResult) -> Result<Artifact, StoreError> {
    Ok(Artifact {
        name: r.get("name")?,
        size: r.u64("size")?,
        content_type: r.get("content_type")?,
        sha256: r.get("sha256")?,
        created_at: r.time("created_at")?,
        expires_at: r.time("expires_at")?,
    })
}
