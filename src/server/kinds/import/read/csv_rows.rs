//! Rows of a CSV file.

use std::io::{BufRead, Read};

use csv::{ByteRecord, ReaderBuilder, Terminator};

use super::bytes::Utf8Reader;
use super::row::{Columns, Content, Row};
use super::{ReadError, Sink, Text, shown};

/// Hands on bytes and keeps count of them, so that a quote that is never closed can't fill the memory.
struct Watched<R> {
    from: Utf8Reader<R>,
    total: u64,
    ended: bool,
    row_start: u64,
    row_max: u64,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.total - self.row_start > self.row_max {
            return Err(std::io::Error::other(TooLong));
        }
        let n = self.from.read(buffer)?;
        self.total += n as u64;
        self.ended |= n == 0;
        Ok(n)
    }
}

/// A row is longer than allowed. Its line is known above.
#[derive(Debug, thiserror::Error)]
#[error("the row is too long")]
struct TooLong;

/// Reads all rows. `line` is the number of the first line that `reader` has left.
pub fn read<R: Read>(
    mut reader: Utf8Reader<R>,
    line: u64,
    text: &Text<'_>,
    sink: &mut dyn Sink,
) -> Result<(), ReadError> {
    let (delimiter, old_mac) = look_at_header(reader.fill_buf()?);
    if old_mac {
        return Err(ReadError::invalid(
            "the file's lines end with a carriage return alone; save it with line feeds (LF or CRLF)",
        ));
    }
    let watched = Watched {
        from: reader,
        total: 0,
        ended: false,
        row_start: 0,
        row_max: text.row_max as u64,
    };
    // Ending rows at line feeds only keeps the count of lines exact; a carriage return before one is cut off below.
    let mut rows = ReaderBuilder::new()
        .delimiter(delimiter)
        .terminator(Terminator::Any(b'\n'))
        .has_headers(false)
        .flexible(true)
        .buffer_capacity(1 << 16)
        .from_reader(watched);
    let mut record = ByteRecord::new();
    let mut columns: Option<Columns> = None;
    let mut next_line = line;
    loop {
        rows.get_mut().row_start = rows.position().byte();
        let more = rows
            .read_byte_record(&mut record)
            .map_err(|e| failed(e, next_line, text))?;
        if !more {
            break;
        }
        // The reader's own line of a record does not count the blank lines before it; its line after the record is exact.
        let after = line + rows.position().line() - 1;
        // Only a record without a line feed of its own makes the reader look for more.
        let at_end = rows.get_ref().ended;
        let inside: u64 = record.as_slice().iter().filter(|b| **b == b'\n').count() as u64;
        let record_line = (after + u64::from(at_end)).saturating_sub(1 + inside);
        next_line = after;
        cut_carriage_return(&mut record);
        if record.len() == 1 && record.get(0).is_some_and(|f| f.trim_ascii().is_empty()) {
            continue;
        }
        match &columns {
            None => {
                let header = Columns::from_header(&record)?;
                if !header.unknown.is_empty() {
                    sink.unknown_columns(&header.unknown);
                }
                columns = Some(header);
            }
            Some(columns) => sink.row(Row {
                file: text.name,
                line: record_line,
                content: Content::Csv {
                    record: &record,
                    columns,
                },
            })?,
        }
    }
    if columns.is_none() {
        return Err(ReadError::invalid("the file is empty"));
    }
    Ok(())
}

fn failed(error: csv::Error, line: u64, text: &Text<'_>) -> ReadError {
    match error.into_kind() {
        csv::ErrorKind::Io(e) if e.get_ref().is_some_and(|inner| inner.is::<TooLong>()) => ReadError::invalid(format!(
            "the row at line {line} is longer than {} KB; is a quote not closed?",
            text.row_max >> 10
        )),
        csv::ErrorKind::Io(e) => e.into(),
        other => ReadError::invalid(format!(
            "the CSV can't be read at line {line}: {}",
            shown(&format!("{other:?}"), 200)
        )),
    }
}

fn cut_carriage_return(record: &mut ByteRecord) {
    let Some(last) = record.len().checked_sub(1) else {
        return;
    };
    if let Some(field) = record.get(last).and_then(|f| f.strip_suffix(b"\r")) {
        let field = field.to_vec();
        record.truncate(last);
        record.push_field(&field);
    }
}

/// The delimiter that the header uses, and whether the lines end as only very old programs end them.
fn look_at_header(chunk: &[u8]) -> (u8, bool) {
    let header = chunk.split(|b| *b == b'\n').next().unwrap_or(chunk);
    let mut quoted = false;
    let mut counts = [(b',', 0u32), (b';', 0), (b'\t', 0)];
    for byte in header {
        if *byte == b'"' {
            quoted = !quoted;
        } else if !quoted && let Some((_, n)) = counts.iter_mut().find(|(d, _)| d == byte) {
            *n += 1;
        }
    }
    let mut best = counts[0];
    for candidate in counts {
        if candidate.1 > best.1 {
            best = candidate;
        }
    }
    let old_mac = header.len() == chunk.len() && chunk.trim_ascii_end().contains(&b'\r');
    (best.0, old_mac)
}
