//! The file that an attempt writes its rows to, before the result is made of it. Each attempt has one of its own, named by the
//! epoch of its lease: one that hung and lost its lease may still write to its file, and to no other's. What goes on from a
//! checkpoint begins with a copy of what that speaks of.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

const NAME: &str = "events-";

/// One attempt's.
#[derive(Clone, Debug)]
pub struct Spool {
    folder: PathBuf,
    epoch: u64,
}

impl Spool {
    /// In the job's folder.
    pub fn new(folder: &Path, epoch: u64) -> Self {
        let folder = folder.to_path_buf();
        Self { folder, epoch }
    }

    pub fn path(&self) -> PathBuf {
        self.of(self.epoch)
    }

    fn of(&self, epoch: u64) -> PathBuf {
        self.folder.join(format!("{NAME}{epoch}"))
    }

    /// Makes the file of the first `bytes` of the one that an earlier attempt wrote; `false` when that has not so many: on
    /// another machine, or after a power cut, it may not be there.
    pub fn begin_with(&self, earlier: u64, bytes: u64) -> io::Result<bool> {
        let from = match File::open(self.of(earlier)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if from.metadata()?.len() < bytes {
            return Ok(false);
        }
        let mut to = File::create_new(self.path())?;
        // Whoever still writes there adds to the end only: its beginning is what it was.
        let copied = io::copy(&mut io::Read::take(from, bytes), &mut to)?;
        Ok(copied == bytes)
    }

    /// Removes the files of earlier attempts: once a checkpoint speaks of this one's, nobody goes on from theirs.
    pub fn forget_earlier(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let epoch = name
                .to_str()
                .and_then(|name| name.strip_prefix(NAME)?.parse::<u64>().ok());
            if epoch.is_some_and(|epoch| epoch < self.epoch) {
                std::fs::remove_file(self.folder.join(name))?;
            }
        }
        Ok(())
    }
}
