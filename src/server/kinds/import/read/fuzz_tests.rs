//! Files that nobody wrote by hand: no reader panics, every refusal has words, no row is longer than allowed, an archive gives
//! no more than it may, and an event that was taken is taken again as it was.

use std::io::{Seek, SeekFrom, Write};

use super::row::Content;
use super::*;
use crate::domain::event::CameraEvent;
use crate::mutate::Fuzz;

const ROW_MAX: usize = 4_096;
/// What the CSV reader takes in at once: so much more than the limit a row may have before that is noticed.
const CHUNK: usize = 1 << 17;
const UNPACKED_MAX: u64 = 1 << 18;

const CSV: &str = "id,camera_id,occurred_at,risk_level,label,summary,reviewed,metadata\n\
    e1,cam-1,2026-03-01T14:05:09Z,low,vehicle,A van,true,\"{\"\"confidence\"\":0.9}\"\n\
    e2,cam-2,2026-03-01 14:05:10,high,person,\"two\nlines, \"\"quoted\"\"\",no,\n";
const ARRAY: &str = r#"[{"id":"e1","camera_id":"cam-1","occurred_at":"2026-03-01T14:05:09Z","risk_level":"low","label":"vehicle",
    "summary":"A [van] \"x\"","reviewed":true,"metadata":{"a":[1,{"b":null}]}},
    {"id":2,"camera_id":"c","occurred_at":"2026-03-01T14:05:09.123Z","risk_level":"critical","label":"l","other":1}]"#;
const LINES: &str = "{\"camera_id\":\"c\",\"occurred_at\":\"2026-03-01T14:05:09Z\",\"risk_level\":\"low\",\"label\":\"x\"}\n\n\
    {\"id\":\"7\",\"camera_id\":\"c\",\"occurred_at\":\"2026-03-01T14:05:09Z\",\"risk_level\":\"medium\",\"label\":\"x\",\"reviewed\":\"yes\"}\r\n";

const WORDS: &[&str] = &[
    "camera_id",
    "occurred_at",
    "risk_level",
    "metadata",
    "\"\"",
    "\"",
    "\r",
    "\n",
    "\r\n",
    "'=1+1",
    "\u{FEFF}",
    "PK\x03\x04",
    "PK\x05\x06",
    "]",
    "[",
    "{",
    "}",
    "\\u0000",
    "\\ud800",
    "\\\"",
    "e1,",
    ";",
    "\t",
];

#[derive(Default)]
struct Checks {
    bytes: u64,
    longest: usize,
    events: Vec<CameraEvent>,
}

impl Sink for Checks {
    fn row(&mut self, row: Row<'_>) -> Result<(), ReadError> {
        let length = match &row.content {
            Content::Csv { record, .. } => record.as_slice().len(),
            Content::Element(bytes) | Content::Line(bytes) => bytes.len(),
            Content::Faulty(_) => 0,
        };
        self.longest = self.longest.max(length);
        self.bytes += length as u64;
        row.check()?;
        match row.event(&mut |_| {}) {
            Ok(event) => self.events.push(event),
            Err(fault) => assert!(!fault.reason.is_empty() && fault.reason.len() < 2_000, "{fault:?}"),
        }
        Ok(())
    }

    fn unknown_columns(&mut self, names: &[String]) {
        assert!(names.iter().all(|name| name.len() <= 200), "{names:?}");
    }

    fn skipped_file(&mut self, name: &str) {
        assert!(name.len() <= 400, "{name}");
    }
}

fn text(name: &str, format: ImportFormat, bytes: &[u8]) -> (Checks, Result<(), ReadError>) {
    let mut checks = Checks::default();
    let never = || false;
    let meter = Meter::unlimited(&never);
    let text = Text {
        name,
        format,
        row_max: ROW_MAX,
    };
    let read = text.read(Metered::new(bytes, &meter), &mut checks);
    (checks, read)
}

fn judge(checks: &Checks, read: Result<(), ReadError>) {
    assert!(checks.longest <= ROW_MAX + CHUNK, "a row of {} bytes", checks.longest);
    match read {
        Ok(()) => {}
        Err(ReadError::Invalid(words)) => {
            assert!(
                !words.is_empty() && words.len() < 5_000 && !words.contains('\0'),
                "{words:?}"
            );
        }
        Err(other) => panic!("{other:?}"),
    }
    for event in &checks.events {
        // Written as an export writes it, it comes in as the same.
        let line = serde_json::to_string(event).expect("JSON");
        if line.len() > ROW_MAX {
            continue;
        }
        let (again, read) = text("again.ndjson", ImportFormat::Ndjson, line.as_bytes());
        assert!(read.is_ok(), "{line}");
        let mut again = again.events.into_iter().next().expect("the event");
        if !exact(&event.metadata) {
            // A number with a fraction may lose its last digit on the way.
            again.metadata.clone_from(&event.metadata);
        }
        assert_eq!(again, *event, "{line}");
    }
}

fn exact(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(n) => !n.is_f64(),
        serde_json::Value::Array(items) => items.iter().all(exact),
        serde_json::Value::Object(map) => map.values().all(exact),
        _ => true,
    }
}

fn try_text(target: &'static str, format: ImportFormat) {
    for case in Fuzz::new(target, &[CSV, ARRAY, LINES, "", "id\n"], WORDS) {
        let (checks, read) = text("a", format, &case);
        judge(&checks, read);
    }
}

#[test]
fn fuzz_import_csv() {
    try_text("import csv", ImportFormat::Csv);
}

#[test]
fn fuzz_import_json() {
    try_text("import json", ImportFormat::Json);
}

#[test]
fn fuzz_import_ndjson() {
    try_text("import ndjson", ImportFormat::Ndjson);
}

#[test]
fn fuzz_import_auto() {
    try_text("import auto", ImportFormat::Auto);
}

#[test]
fn fuzz_import_zip() {
    let archive = |entries: &[(&str, &str)], method| {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in entries {
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            zip.start_file(*name, options).expect("entry");
            zip.write_all(bytes.as_bytes()).expect("bytes");
        }
        zip.finish().expect("zip").into_inner()
    };
    let long = "x".repeat(50_000);
    let seeds = [
        archive(&[("a.csv", CSV), ("b/c.json", ARRAY)], zip::CompressionMethod::Deflated),
        archive(
            &[("../a.ndjson", LINES), ("readme.txt", "hello")],
            zip::CompressionMethod::Stored,
        ),
        archive(&[("x.csv", &long)], zip::CompressionMethod::Deflated),
    ];
    let mut file = tempfile::NamedTempFile::new().expect("file");
    for case in Fuzz::new("import zip", &seeds, WORDS) {
        file.as_file().set_len(0).expect("emptied");
        file.seek(SeekFrom::Start(0)).expect("start");
        file.write_all(&case).expect("written");
        let mut checks = Checks::default();
        let setting = Setting {
            limits: Limits {
                row: ROW_MAX,
                entries: 20,
                unpacked: UNPACKED_MAX,
                ratio: 50,
                ratio_from: 64 << 10,
            },
            stop: &|| false,
            thorough: true,
        };
        let read = read_file(file.path(), "a.zip", ImportFormat::Auto, &setting, &mut checks);
        assert!(
            checks.bytes <= UNPACKED_MAX + case.len() as u64,
            "{} bytes",
            checks.bytes
        );
        judge(&checks, read.map(|_| ()));
    }
}
