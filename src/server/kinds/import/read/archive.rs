//! ZIP archives of event files. Nothing in an archive is believed: what its headers declare only serves to refuse it
//! sooner, every limit is enforced on the bytes that really come out.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::rc::Rc;

use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config};
use zip::result::ZipError;

use super::bytes::{Meter, Metered, too_large};
use super::{ImportFormat, ReadError, Setting, Sink, Text, extension, shown};

/// Bytes that reading the table of contents may take: a multiple of what the allowed number of files needs.
const CONTENTS_MAX: u64 = 8 << 20;

/// Whether the file begins as ZIP archives do. Leaves the file at its start.
pub fn is_zip(file: &mut File) -> Result<bool, ReadError> {
    let mut head = Vec::new();
    file.by_ref().take(4).read_to_end(&mut head).map_err(ReadError::Io)?;
    file.rewind().map_err(ReadError::Io)?;
    Ok(matches!(head.as_slice(), b"PK\x03\x04" | b"PK\x05\x06"))
}

/// A file that yields only so many bytes, so that a forged table of contents can't fill the memory.
struct Rationed {
    file: File,
    left: Rc<Cell<u64>>,
}

impl Read for Rationed {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buffer)?;
        match self.left.get().checked_sub(n as u64) {
            Some(left) => self.left.set(left),
            None => return Err(ReadError::invalid("the ZIP's table of contents is missing or too large").into()),
        }
        Ok(n)
    }
}

impl Seek for Rationed {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to).map_err(|e| match e.kind() {
            // The operating system says so, but it is the archive that is at fault.
            std::io::ErrorKind::InvalidInput => {
                ReadError::invalid("the ZIP is broken: it points outside of itself").into()
            }
            _ => e,
        })
    }
}

/// Reads every file of events in the archive, one after the other. Answers how many there were.
pub fn read(file: File, setting: &Setting<'_>, sink: &mut dyn Sink) -> Result<u64, ReadError> {
    let limits = &setting.limits;
    let packed = file.metadata().map_err(ReadError::Io)?.len();
    let max = limits
        .unpacked
        .min(packed.saturating_mul(limits.ratio).max(limits.ratio_from));
    let left = Rc::new(Cell::new(CONTENTS_MAX));
    let rationed = Rationed {
        file,
        left: left.clone(),
    };
    // The file begins with an entry (it was recognised by that), so nothing needs to be searched for.
    let config = Config {
        archive_offset: ArchiveOffset::Known(0),
    };
    let mut archive = ZipArchive::with_config(config, BufReader::new(rationed)).map_err(|e| match e {
        ZipError::InvalidArchive(_) => ReadError::invalid("the ZIP is broken or cut off: it has no table of contents"),
        other => broken(other),
    })?;
    left.set(u64::MAX);
    if archive.has_duplicate_names() {
        return Err(ReadError::invalid(
            "the ZIP holds two files of the same name; rename one of them",
        ));
    }
    if archive.len() > limits.entries {
        return Err(ReadError::invalid(format!(
            "the ZIP holds {} files; at most {} are allowed",
            archive.len(),
            limits.entries
        )));
    }
    if archive
        .decompressed_size()
        .is_some_and(|declared| declared > u128::from(max))
    {
        return Err(too_large(max));
    }

    let meter = Meter::limited(max, setting.stop);
    let mut files = 0;
    let mut workbook = false;
    for index in 0..archive.len() {
        let entry = archive.by_index_data(index).map_err(broken)?;
        if entry.is_dir() {
            continue;
        }
        let full_name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        let name = shown(&full_name, 100);
        workbook |= full_name == "xl/workbook.xml";
        if entry.encrypted() {
            return Err(ReadError::invalid(format!(
                "{name} in the ZIP is encrypted; pack it without a password"
            )));
        }
        match role(&full_name) {
            Role::Archive => {
                return Err(ReadError::invalid(format!(
                    "{name} in the ZIP is an archive itself; unpack it first"
                )));
            }
            Role::Events => {
                files += 1;
                let text = Text {
                    name: &name,
                    format: ImportFormat::Auto,
                    row_max: limits.row,
                };
                let unpacked = archive.by_index(index).map_err(|e| broken(e).within(&name))?;
                text.read(Metered::new(unpacked, &meter), sink)
                    .map_err(|e| unreadable(e).within(&name))?;
            }
            Role::Other if setting.thorough => {
                let unpacked = archive.by_index(index).map_err(|e| broken(e).within(&name))?;
                std::io::copy(&mut Metered::new(unpacked, &meter), &mut std::io::sink())
                    .map_err(|e| unreadable(e.into()).within(&name))?;
                // What an operating system adds by itself is not worth a word.
                if !full_name.starts_with("__MACOSX/") && !full_name.ends_with(".DS_Store") {
                    sink.skipped_file(&name);
                }
            }
            Role::Other => {}
        }
    }
    if files == 0 {
        return Err(ReadError::invalid(if workbook {
            "the file is an Excel workbook; save it as CSV and import that"
        } else {
            "the ZIP holds no CSV, JSON or NDJSON file"
        }));
    }
    Ok(files)
}

enum Role {
    Events,
    Archive,
    Other,
}

fn role(name: &str) -> Role {
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
    if file.starts_with('.') || name.starts_with("__MACOSX/") {
        return Role::Other;
    }
    match extension(file).as_str() {
        "csv" | "tsv" | "json" | "ndjson" | "jsonl" => Role::Events,
        "zip" | "gz" | "tgz" | "tar" | "7z" | "rar" | "bz2" | "xz" | "zst" => Role::Archive,
        _ => Role::Other,
    }
}

fn broken(error: ZipError) -> ReadError {
    match error {
        ZipError::Io(e) => unreadable(e.into()),
        ZipError::CompressionMethodNotSupported(_) => {
            ReadError::invalid("it is compressed in a way that is not supported; pack it with \"Deflate\"")
        }
        ZipError::UnsupportedArchive(what) => ReadError::invalid(format!("the ZIP can't be read: {what}")),
        ZipError::InvalidArchive(what) => ReadError::invalid(format!("the ZIP is broken: {what}")),
        other => ReadError::invalid(format!("the ZIP is broken: {other}")),
    }
}

/// What the unpacking reports as an I/O error is a broken archive, unless the operating system said it.
fn unreadable(error: ReadError) -> ReadError {
    match error {
        ReadError::Io(e) if e.raw_os_error().is_none() => ReadError::invalid(format!("the ZIP is broken: {e}")),
        other => other,
    }
}
