//! Reads a file of events: finds out what it is, refuses what is broken as a whole, and hands on row by row. Streams:
//! no file, however large or hostile, costs more memory than its longest allowed row. Knows nothing of jobs.

mod archive;
mod bytes;
mod csv_rows;
mod draft;
mod json_rows;
mod row;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::bytes::{Meter, Metered, Utf8Reader};
pub use self::row::{Fault, Row};

/// How a file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImportFormat {
    /// Found out from the file itself.
    #[default]
    Auto,
    /// Values separated by commas, semicolons or tabs, with a header.
    Csv,
    /// One JSON array of objects.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// A ZIP archive of such files.
    Zip,
}

/// What is taken at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one row.
    pub row: usize,
    /// Files in an archive.
    pub entries: usize,
    /// Bytes that an archive may unpack to.
    pub unpacked: u64,
    /// How many times its own size an archive may unpack to, once it unpacks to more than `ratio_from` bytes.
    pub ratio: u64,
    pub ratio_from: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            row: 1 << 20,
            entries: 1_000,
            unpacked: 8 << 30,
            ratio: 250,
            ratio_from: 64 << 20,
        }
    }
}

/// Why a file can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file as a whole is not acceptable; the words are for the person who sent it.
    #[error("{0}")]
    Invalid(String),
    /// The disk failed.
    #[error("the file can't be read: {0}")]
    Io(std::io::Error),
    /// Nobody wants the rows any more.
    #[error("the reading was stopped")]
    Stopped,
}

impl ReadError {
    fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    /// The same, said of one file in an archive.
    fn within(self, name: &str) -> Self {
        match self {
            Self::Invalid(text) => Self::Invalid(format!("{name} in the ZIP: {text}")),
            other => other,
        }
    }
}

impl From<std::io::Error> for ReadError {
    /// Finds the error that a reader below had to carry through as an I/O error.
    fn from(error: std::io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(carried) => carried,
            Err(error) => Self::Io(error),
        }
    }
}

impl From<ReadError> for std::io::Error {
    fn from(error: ReadError) -> Self {
        std::io::Error::other(error)
    }
}

/// Takes what a file holds.
pub trait Sink {
    /// A row. An error ends the reading.
    fn row(&mut self, row: Row<'_>) -> Result<(), ReadError>;
    /// A header names columns that mean nothing here.
    fn unknown_columns(&mut self, names: &[String]);
    /// A file in an archive is not one of events.
    fn skipped_file(&mut self, name: &str);
}

/// What reading takes beside the file.
pub struct Setting<'a> {
    pub limits: Limits,
    /// Asked now and then; true ends the reading.
    pub stop: &'a dyn Fn() -> bool,
    /// Whether to read also what holds no rows, to see whether the file is sound.
    pub thorough: bool,
}

/// Reads the file at `path`, which its sender calls `name`. Answers how many files of events it held.
pub fn read_file(
    path: &Path,
    name: &str,
    format: ImportFormat,
    setting: &Setting<'_>,
    sink: &mut dyn Sink,
) -> Result<u64, ReadError> {
    let mut file = open(path).map_err(ReadError::Io)?;
    let zipped = match format {
        ImportFormat::Auto => archive::is_zip(&mut file)?,
        ImportFormat::Zip if !archive::is_zip(&mut file)? => {
            let empty = file.metadata().map_err(ReadError::Io)?.len() == 0;
            return Err(ReadError::invalid(if empty {
                "the file is empty"
            } else {
                "the file is not a ZIP archive"
            }));
        }
        other => other == ImportFormat::Zip,
    };
    if zipped {
        return archive::read(file, setting, sink);
    }
    let meter = Meter::unlimited(setting.stop);
    let text = Text {
        name,
        format,
        row_max: setting.limits.row,
    };
    text.read(Metered::new(file, &meter), sink)?;
    Ok(1)
}

/// Opens the file itself: a link that has been put into its place leads nowhere.
fn open(path: &Path) -> std::io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits();
    let flags = i32::try_from(flags).map_err(std::io::Error::other)?;
    File::options().read(true).custom_flags(flags).open(path)
}

/// One text file of events.
struct Text<'a> {
    name: &'a str,
    format: ImportFormat,
    row_max: usize,
}

impl Text<'_> {
    /// Reads all of `from`, to its very end.
    fn read<R: Read>(&self, from: R, sink: &mut dyn Sink) -> Result<(), ReadError> {
        let mut reader = Utf8Reader::new(from);
        let blank_lines = reader.skip_blank_lines()?;
        let Some(first) = reader.first_visible()? else {
            return Err(ReadError::invalid("the file is empty"));
        };
        let line = blank_lines + 1;
        match self.detect(first)? {
            ImportFormat::Json => json_rows::read_array(reader, line, self, sink),
            ImportFormat::Ndjson => json_rows::read_lines(reader, line, self, sink),
            _ => csv_rows::read(reader, line, self, sink),
        }
    }

    /// Which of the text formats it is: what was asked for, what the name ends in, or what the first character suggests.
    fn detect(&self, first: u8) -> Result<ImportFormat, ReadError> {
        let format = match (self.format, extension(self.name).as_str()) {
            (ImportFormat::Auto, "csv" | "tsv") => ImportFormat::Csv,
            (ImportFormat::Auto, "json") => ImportFormat::Json,
            (ImportFormat::Auto, "ndjson" | "jsonl") => ImportFormat::Ndjson,
            (ImportFormat::Auto, _) => match first {
                b'[' => ImportFormat::Json,
                b'{' => ImportFormat::Ndjson,
                _ => ImportFormat::Csv,
            },
            (asked, _) => asked,
        };
        match (format, first) {
            (ImportFormat::Json, b'{') => Err(ReadError::invalid(
                "the JSON is an object, not an array of events; a file with one object a line is imported as NDJSON",
            )),
            (ImportFormat::Json, c) if c != b'[' => Err(ReadError::invalid(
                "the JSON is not an array of events: it must begin with \"[\"",
            )),
            (ImportFormat::Ndjson, b'[') => Err(ReadError::invalid(
                "the file is a JSON array, not NDJSON, which has one object a line; import it as JSON",
            )),
            (format, _) => Ok(format),
        }
    }
}

/// What a file's name ends in, in lower case.
fn extension(name: &str) -> String {
    Path::new(name)
        .extension()
        .map(|e| e.to_string_lossy().to_lowercase())
        .unwrap_or_default()
}

/// A hostile text as part of a message: short, and without control characters.
fn shown(text: &str, max: usize) -> String {
    let mut text: String = text
        .chars()
        .take(max + 1)
        .map(|c| if c.is_control() { '\u{FFFD}' } else { c })
        .collect();
    crate::domain::error::truncate(&mut text, max);
    text
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

#[cfg(test)]
mod fuzz_tests;
