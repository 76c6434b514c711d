//! Rows of a JSON array and of NDJSON. The array is cut into its elements here, one after the other, so that it never
//! lies in memory as a whole.

use std::io::{BufRead, Read};

use super::bytes::Utf8Reader;
use super::row::{Content, Fault, Row};
use super::{ReadError, Sink, Text};

/// Reads an array's elements. `line` is the number of the first line that `reader` has left.
pub fn read_array<R: Read>(
    reader: Utf8Reader<R>,
    line: u64,
    text: &Text<'_>,
    sink: &mut dyn Sink,
) -> Result<(), ReadError> {
    let mut scan = Scan { reader, line };
    let mut element = Vec::new();
    scan.skip_space()?;
    scan.take()?;
    let mut first = true;
    loop {
        match scan.skip_space()? {
            Some(b']') => break,
            Some(b',') if !first => {
                scan.take()?;
                if scan.skip_space()? == Some(b']') {
                    return Err(scan.malformed("a comma before the closing bracket"));
                }
            }
            Some(_) if first => {}
            Some(_) => return Err(scan.malformed("a comma or a closing bracket is missing")),
            None => return Err(scan.cut_off()),
        }
        first = false;
        let line = scan.line;
        element.clear();
        scan.element(&mut element, text.row_max)?;
        sink.row(Row {
            file: text.name,
            line,
            content: Content::Element(&element),
        })?;
    }
    scan.take()?;
    match scan.skip_space()? {
        None => Ok(()),
        Some(_) => Err(scan.malformed("there is text after the array")),
    }
}

/// Goes through JSON byte by byte.
struct Scan<R> {
    reader: Utf8Reader<R>,
    /// The current line.
    line: u64,
}

impl<R: Read> Scan<R> {
    fn peek(&mut self) -> Result<Option<u8>, ReadError> {
        Ok(self.reader.fill_buf()?.first().copied())
    }

    fn take(&mut self) -> Result<Option<u8>, ReadError> {
        let byte = self.peek()?;
        if let Some(b) = byte {
            self.reader.consume(1);
            self.line += u64::from(b == b'\n');
        }
        Ok(byte)
    }

    /// Passes over white space and says what comes next.
    fn skip_space(&mut self) -> Result<Option<u8>, ReadError> {
        while let Some(b) = self.peek()? {
            if !b.is_ascii_whitespace() {
                return Ok(Some(b));
            }
            self.take()?;
        }
        Ok(None)
    }

    /// Takes one element: everything to the comma or bracket of the array itself. Whether it is sound JSON is for its
    /// reader to find out.
    fn element(&mut self, into: &mut Vec<u8>, max: usize) -> Result<(), ReadError> {
        let start = self.line;
        let mut depth = 0u32;
        let mut quoted = false;
        let mut escaped = false;
        loop {
            let Some(byte) = self.peek()? else {
                return Err(self.cut_off());
            };
            if quoted {
                quoted = escaped || byte != b'"';
                escaped = !escaped && byte == b'\\';
            } else {
                match byte {
                    b'"' => quoted = true,
                    b'{' | b'[' => depth += 1,
                    b',' | b']' if depth == 0 => return Ok(()),
                    b'}' | b']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
            }
            if into.len() >= max {
                return Err(ReadError::invalid(format!(
                    "the array's element at line {start} is longer than {} KB",
                    max >> 10
                )));
            }
            into.push(byte);
            self.take()?;
        }
    }

    fn cut_off(&self) -> ReadError {
        ReadError::invalid(format!(
            "the JSON array ends in the middle, at line {}: the file is cut off",
            self.line
        ))
    }

    fn malformed(&self, what: &str) -> ReadError {
        ReadError::invalid(format!("the JSON is malformed at line {}: {what}", self.line))
    }
}

/// Reads one object a line. `line` is the number of the first line that `reader` has left.
pub fn read_lines<R: Read>(
    mut reader: Utf8Reader<R>,
    line: u64,
    text: &Text<'_>,
    sink: &mut dyn Sink,
) -> Result<(), ReadError> {
    let mut bytes = Vec::new();
    let mut number = line;
    while let Some(whole) = read_line(&mut reader, &mut bytes, text.row_max)? {
        let content = if whole {
            Content::Line(bytes.trim_ascii())
        } else {
            Content::Faulty(Fault::row(format!("the line is longer than {} KB", text.row_max >> 10)))
        };
        if !matches!(content, Content::Line([])) {
            sink.row(Row {
                file: text.name,
                line: number,
                content,
            })?;
        }
        number += 1;
    }
    Ok(())
}

/// The next line without its end, or whether it was longer than `max` and dropped. None at the end of the file.
fn read_line<R: Read>(reader: &mut Utf8Reader<R>, into: &mut Vec<u8>, max: usize) -> Result<Option<bool>, ReadError> {
    into.clear();
    let mut whole = true;
    let mut any = false;
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(any.then_some(whole));
        }
        any = true;
        let end = chunk.iter().position(|b| *b == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        whole = whole && into.len() + part.len() <= max;
        if whole {
            into.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok(Some(whole));
        }
    }
}
