//! Writers of events, one a format. All stream: a million events cost no more memory than ten.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use chrono::SecondsFormat;
use rust_xlsxwriter::{DocProperties, ExcelDateTime, Format, Workbook, XlsxError};
use zip::ZipWriter;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;

use super::super::cell::neutralise;
use crate::domain::event::{CameraEvent, ExportFormat};

/// Why events could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("the file can't be written: {0}")]
    Io(#[from] std::io::Error),
    #[error("the CSV can't be written: {0}")]
    Csv(#[from] csv::Error),
    #[error("the JSON can't be written: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the workbook can't be written: {0}")]
    Xlsx(#[from] XlsxError),
    #[error("the ZIP can't be written: {0}")]
    Zip(#[from] ZipError),
    #[error("{0} needs a file: it can't be written to a stream")]
    NotStreamable(&'static str),
}

/// Takes events one by one. What was written is a sound file only after [`EventWriter::finish`].
pub trait EventWriter: Send {
    fn write(&mut self, event: &CameraEvent) -> Result<(), WriteError>;
    /// Hands all that was written to the operating system.
    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
    fn finish(self: Box<Self>) -> Result<(), WriteError>;
}

/// A writer to a new file. Files that it needs on the way lie in `tmp`.
pub fn to_file(format: ExportFormat, path: &Path, tmp: &Path) -> Result<Box<dyn EventWriter>, WriteError> {
    let file = || File::create(path).map(|f| BufWriter::with_capacity(1 << 16, f));
    Ok(match format {
        ExportFormat::Csv => Box::new(Csv::new(file()?)?),
        ExportFormat::Json => Box::new(JsonArray::new(file()?)),
        ExportFormat::Ndjson => Box::new(Ndjson(file()?)),
        ExportFormat::Xlsx => Box::new(Xlsx::new(path, tmp, Xlsx::SHEET_ROWS)?),
        ExportFormat::Zip => Box::new(Zip::new(file()?)?),
    })
}

/// A writer to a stream, for the formats that need no way back.
pub fn to_stream(
    format: ExportFormat,
    stream: impl Write + Send + 'static,
) -> Result<Box<dyn EventWriter>, WriteError> {
    let stream = BufWriter::with_capacity(1 << 16, stream);
    Ok(match format {
        ExportFormat::Csv => Box::new(Csv::new(stream)?),
        ExportFormat::Json => Box::new(JsonArray::new(stream)),
        ExportFormat::Ndjson => Box::new(Ndjson(stream)),
        ExportFormat::Xlsx => return Err(WriteError::NotStreamable("xlsx")),
        ExportFormat::Zip => return Err(WriteError::NotStreamable("zip")),
    })
}

/// A file that is written in pieces, with pauses between them: in the form of the result where that can be added to, and
/// otherwise in one that the result is made from at the end.
pub fn spool(format: ExportFormat, path: &Path, resume: Option<Written>) -> Result<Box<dyn EventWriter>, WriteError> {
    let file = match resume {
        Some(written) => {
            let mut file = File::options().write(true).open(path)?;
            // What came after the last checkpoint is written again.
            file.set_len(written.bytes)?;
            file.seek(SeekFrom::End(0))?;
            file
        }
        None => File::create(path)?,
    };
    let to = BufWriter::with_capacity(1 << 16, file);
    let rows = resume.map_or(0, |w| w.rows);
    Ok(match format {
        ExportFormat::Csv | ExportFormat::Zip => match resume {
            Some(_) => Box::new(Csv(csv::WriterBuilder::new().from_writer(to))),
            None => Box::new(Csv::new(to)?),
        },
        ExportFormat::Json => Box::new(JsonArray { to, rows }),
        ExportFormat::Ndjson | ExportFormat::Xlsx => Box::new(Ndjson(to)),
    })
}

/// How much of a [`spool`] is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub rows: u64,
    pub bytes: u64,
}

/// Makes the result of a finished [`spool`]; `stop` says whether nobody wants it any more.
pub fn assemble(
    format: ExportFormat,
    spool: &Path,
    path: &Path,
    tmp: &Path,
    stop: &dyn Fn() -> bool,
) -> Result<(), WriteError> {
    match format {
        ExportFormat::Csv | ExportFormat::Json | ExportFormat::Ndjson => std::fs::rename(spool, path)?,
        ExportFormat::Zip => {
            let mut zip = ZipWriter::new(BufWriter::with_capacity(1 << 16, File::create(path)?));
            zip.start_file("events.csv", SimpleFileOptions::default().large_file(true))?;
            let mut rows = BufReader::with_capacity(1 << 16, File::open(spool)?);
            while !stop() {
                let part = rows.fill_buf()?;
                if part.is_empty() {
                    break;
                }
                zip.write_all(part)?;
                let n = part.len();
                rows.consume(n);
            }
            zip.finish()?.flush()?;
        }
        ExportFormat::Xlsx => {
            let mut xlsx = Box::new(Xlsx::new(path, tmp, Xlsx::SHEET_ROWS)?);
            for line in BufReader::with_capacity(1 << 16, File::open(spool)?).lines() {
                xlsx.write(&serde_json::from_str(&line?)?)?;
                if stop() {
                    return Ok(());
                }
            }
            xlsx.finish()?;
        }
    }
    Ok(())
}

/// An event's values in the order of [`CameraEvent::COLUMNS`], as text.
fn cells(event: &CameraEvent) -> Result<[String; 8], WriteError> {
    let CameraEvent {
        id,
        camera_id,
        occurred_at,
        risk_level,
        label,
        summary,
        reviewed,
        metadata,
    } = event;
    Ok([
        id.clone(),
        camera_id.clone(),
        occurred_at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        risk_level.as_str().into(),
        label.clone(),
        summary.clone(),
        reviewed.to_string(),
        serde_json::to_string(metadata)?,
    ])
}

struct Csv<W: Write>(csv::Writer<W>);

impl<W: Write> Csv<W> {
    fn new(to: W) -> Result<Self, WriteError> {
        let mut csv = csv::WriterBuilder::new().from_writer(to);
        csv.write_record(CameraEvent::COLUMNS)?;
        Ok(Self(csv))
    }

    fn row(&mut self, event: &CameraEvent) -> Result<(), WriteError> {
        for cell in &cells(event)? {
            self.0.write_field(neutralise(cell).as_bytes())?;
        }
        self.0.write_record(None::<&[u8]>)?;
        Ok(())
    }

    fn into_inner(self) -> Result<W, WriteError> {
        self.0.into_inner().map_err(|e| WriteError::Io(e.into_error()))
    }
}

impl<W: Write + Send> EventWriter for Csv<W> {
    fn write(&mut self, event: &CameraEvent) -> Result<(), WriteError> {
        self.row(event)
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(self.0.flush()?)
    }

    fn finish(self: Box<Self>) -> Result<(), WriteError> {
        Ok(self.into_inner()?.flush()?)
    }
}

struct JsonArray<W> {
    to: W,
    rows: u64,
}

impl<W: Write> JsonArray<W> {
    fn new(to: W) -> Self {
        Self { to, rows: 0 }
    }
}

impl<W: Write + Send> EventWriter for JsonArray<W> {
    fn write(&mut self, event: &CameraEvent) -> Result<(), WriteError> {
        self.to.write_all(if self.rows == 0 { b"[\n" } else { b",\n" })?;
        self.rows += 1;
        Ok(serde_json::to_writer(&mut self.to, event)?)
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(self.to.flush()?)
    }

    fn finish(mut self: Box<Self>) -> Result<(), WriteError> {
        self.to.write_all(if self.rows == 0 { b"[]\n" } else { b"\n]\n" })?;
        Ok(self.to.flush()?)
    }
}

struct Ndjson<W>(W);

impl<W: Write + Send> EventWriter for Ndjson<W> {
    fn write(&mut self, event: &CameraEvent) -> Result<(), WriteError> {
        serde_json::to_writer(&mut self.0, event)?;
        Ok(self.0.write_all(b"\n")?)
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(self.0.flush()?)
    }

    fn finish(mut self: Box<Self>) -> Result<(), WriteError> {
        Ok(self.0.flush()?)
    }
}

struct Zip(Csv<ZipWriter<BufWriter<File>>>);

impl Zip {
    fn new(to: BufWriter<File>) -> Result<Self, WriteError> {
        let mut zip = ZipWriter::new(to);
        // The size is not known yet, and may pass the 4 GiB that the plain format allows.
        zip.start_file("events.csv", SimpleFileOptions::default().large_file(true))?;
        Ok(Self(Csv::new(zip)?))
    }
}

impl EventWriter for Zip {
    fn write(&mut self, event: &CameraEvent) -> Result<(), WriteError> {
        self.0.row(event)
    }

    fn finish(self: Box<Self>) -> Result<(), WriteError> {
        Ok(self.0.into_inner()?.finish()?.flush()?)
    }
}

/// A workbook whose rows go to a temporary file as they come. A full sheet is followed by another.
struct Xlsx {
    book: Workbook,
    path: PathBuf,
    header: Format,
    sheet_rows: u32,
    sheets: usize,
    /// The next row of the last sheet.
    row: u32,
}

impl Xlsx {
    /// The rows that Excel can open, header included.
    const SHEET_ROWS: u32 = 1_048_576;
    const WIDTHS: [f64; 8] = [20.0, 18.0, 24.0, 10.0, 20.0, 60.0, 10.0, 40.0];

    fn new(path: &Path, tmp: &Path, sheet_rows: u32) -> Result<Self, WriteError> {
        let mut book = Workbook::new();
        // The same events make the same file, whenever it is made.
        let made = ExcelDateTime::from_ymd(1980, 1, 1)?;
        book.set_properties(&DocProperties::new().set_creation_datetime(&made));
        book.set_tempdir(tmp)?;
        let mut xlsx = Self {
            book,
            path: path.to_path_buf(),
            header: Format::new().set_bold(),
            sheet_rows,
            sheets: 0,
            row: 0,
        };
        xlsx.add_sheet()?;
        Ok(xlsx)
    }

    fn add_sheet(&mut self) -> Result<(), WriteError> {
        self.sheets += 1;
        let name = if self.sheets == 1 {
            "events".into()
        } else {
            format!("events {}", self.sheets)
        };
        let sheet = self.book.add_worksheet_with_constant_memory()?;
        sheet.set_name(name)?;
        sheet.set_freeze_panes(1, 0)?;
        for (column, (title, width)) in (0u16..).zip(CameraEvent::COLUMNS.into_iter().zip(Self::WIDTHS)) {
            sheet.set_column_width(column, width)?;
            sheet.write_string_with_format(0, column, title, &self.header)?;
        }
        self.row = 1;
        Ok(())
    }
}

impl EventWriter for Xlsx {
    fn write(&mut self, event: &CameraEvent) -> Result<(), WriteError> {
        if self.row >= self.sheet_rows {
            self.add_sheet()?;
        }
        let row = self.row;
        let sheet = self.book.worksheet_from_index(self.sheets - 1)?;
        for (column, cell) in (0u16..).zip(cells(event)?) {
            // Always a string, so never a formula and never a rounded number.
            sheet.write_string(row, column, cell)?;
        }
        self.row += 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), WriteError> {
        Ok(self.book.save(&self.path)?)
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
