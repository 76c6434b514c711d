//! The bytes below the rows: counted against the limits, and checked to be UTF-8.

use std::cell::Cell;
use std::io::{BufRead, Read};

use super::ReadError;

/// Counts what is unpacked, over all files of an archive.
pub struct Meter<'a> {
    read: Cell<u64>,
    max: u64,
    stop: &'a dyn Fn() -> bool,
}

impl<'a> Meter<'a> {
    pub fn unlimited(stop: &'a dyn Fn() -> bool) -> Self {
        Self::limited(u64::MAX, stop)
    }

    pub fn limited(max: u64, stop: &'a dyn Fn() -> bool) -> Self {
        Self {
            read: Cell::new(0),
            max,
            stop,
        }
    }

    fn add(&self, bytes: usize) -> Result<(), ReadError> {
        let read = self.read.get().saturating_add(bytes as u64);
        self.read.set(read);
        if read > self.max {
            return Err(too_large(self.max));
        }
        if (self.stop)() { Err(ReadError::Stopped) } else { Ok(()) }
    }
}

/// The error of an archive that unpacks to more than `max` bytes.
pub fn too_large(max: u64) -> ReadError {
    ReadError::invalid(format!(
        "the ZIP unpacks to more than {} MB, which is out of proportion (a \"ZIP bomb\"); split it, or import the files \
         unpacked",
        max >> 20
    ))
}

/// A reader whose bytes are counted.
pub struct Metered<'a, R> {
    from: R,
    meter: &'a Meter<'a>,
}

impl<'a, R> Metered<'a, R> {
    pub fn new(from: R, meter: &'a Meter<'a>) -> Self {
        Self { from, meter }
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.meter.add(n)?;
        Ok(n)
    }
}

const BUFFER: usize = 1 << 16;

/// Hands on text that is sure to be UTF-8 without zero bytes, its byte order mark taken off. An error says on which line
/// the text stops being that, and what to do.
pub struct Utf8Reader<R> {
    from: R,
    buffer: Box<[u8]>,
    /// Consumed up to here.
    start: usize,
    /// Checked up to here.
    checked: usize,
    /// Read up to here.
    filled: usize,
    /// Place of the buffer's first byte in the file, and the line breaks before it.
    offset: u64,
    breaks: u64,
    begun: bool,
}

impl<R: Read> Utf8Reader<R> {
    pub fn new(from: R) -> Self {
        Self {
            from,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            checked: 0,
            filled: 0,
            offset: 0,
            breaks: 0,
            begun: false,
        }
    }

    /// Passes over line breaks at the very beginning and answers how many lines they end.
    pub fn skip_blank_lines(&mut self) -> Result<u64, ReadError> {
        let mut lines = 0;
        loop {
            let chunk = self.fill_buf()?;
            let blank = chunk.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            lines += breaks(&chunk[..blank]);
            let over = chunk.is_empty() || blank < chunk.len();
            self.consume(blank);
            if over {
                return Ok(lines);
            }
        }
    }

    /// The first character that is not white space, as far as the buffer reaches. None: there is nothing but white space.
    pub fn first_visible(&mut self) -> Result<Option<u8>, ReadError> {
        Ok(self.fill_buf()?.iter().copied().find(|b| !b.is_ascii_whitespace()))
    }

    fn refill(&mut self) -> Result<(), ReadError> {
        self.breaks += breaks(&self.buffer[..self.checked]);
        self.offset += self.checked as u64;
        self.buffer.copy_within(self.checked..self.filled, 0);
        self.filled -= self.checked;
        (self.start, self.checked) = (0, 0);
        loop {
            // The beginning is read as far as it goes: it is looked at as a whole.
            let ended = loop {
                match self.from.read(&mut self.buffer[self.filled..]) {
                    Ok(0) => break true,
                    Ok(n) => self.filled += n,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(e) => return Err(e.into()),
                }
                if self.begun || self.filled == self.buffer.len() {
                    break false;
                }
            };
            if !self.begun {
                self.begun = true;
                self.begin()?;
            }
            let text = &self.buffer[self.start..self.filled];
            let sound = match std::str::from_utf8(text) {
                Ok(_) => text.len(),
                Err(e) if e.error_len().is_none() && !ended => e.valid_up_to(),
                Err(e) => return Err(self.not_utf8(self.start + e.valid_up_to())),
            };
            self.checked = self.start + sound;
            if let Some(zero) = self.buffer[self.start..self.checked].iter().position(|b| *b == 0) {
                return Err(self.zero_byte(self.start + zero));
            }
            if sound > 0 || ended {
                return Ok(());
            }
        }
    }

    /// Takes off the byte order mark, and recognises what is not text at all.
    fn begin(&mut self) -> Result<(), ReadError> {
        let head = &self.buffer[..self.filled];
        let refused = |what: &str| Err(ReadError::invalid(what));
        match head {
            [0xEF, 0xBB, 0xBF, ..] => {
                self.start = 3;
                Ok(())
            }
            [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => refused("the file is encoded in UTF-16; save it as UTF-8"),
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => refused("the file is a ZIP archive, not text"),
            [0x1F, 0x8B, ..] => refused("the file is compressed with gzip; unpack it first"),
            _ => Ok(()),
        }
    }

    fn place(&self, at: usize) -> (u64, u64) {
        (self.breaks + breaks(&self.buffer[..at]) + 1, self.offset + at as u64)
    }

    fn not_utf8(&self, at: usize) -> ReadError {
        let (line, offset) = self.place(at);
        let byte = self.buffer.get(at).copied().unwrap_or_default();
        ReadError::invalid(format!(
            "line {line} is not UTF-8 (byte 0x{byte:02X} at offset {offset}); the file may be encoded in Latin-1 or \
             Windows-1252: save it as UTF-8"
        ))
    }

    fn zero_byte(&self, at: usize) -> ReadError {
        let (line, offset) = self.place(at);
        ReadError::invalid(format!(
            "line {line} has a zero byte (at offset {offset}): the file is encoded in UTF-16 or is not text; save it as \
             UTF-8"
        ))
    }
}

fn breaks(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|b| **b == b'\n').count() as u64
}

impl<R: Read> BufRead for Utf8Reader<R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.start == self.checked {
            self.refill()?;
        }
        Ok(&self.buffer[self.start..self.checked])
    }

    fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.checked);
    }
}

impl<R: Read> Read for Utf8Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.fill_buf()?.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}
