use std::io::Write;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::domain::event::{CameraEvent, ExportFormat, RiskLevel};
use crate::server::kinds::event_writer;
use crate::server::kinds::sample::Samples;

const HEADER: &str = "id,camera_id,occurred_at,risk_level,label,summary,reviewed,metadata\n";
const GOOD: &str = "e1,cam-1,2026-03-01T14:05:09Z,low,vehicle,A van,true,\"{\"\"confidence\"\":0.9}\"\n";

#[derive(Default)]
struct Seen {
    check: bool,
    events: Vec<CameraEvent>,
    faults: Vec<(u64, Option<&'static str>, String)>,
    unknown: Vec<String>,
    skipped: Vec<String>,
}

impl Sink for Seen {
    fn row(&mut self, row: Row<'_>) -> Result<(), ReadError> {
        if self.check {
            row.check()?;
        }
        let unknown = &mut self.unknown;
        match row.event(&mut |name| unknown.push(name.into())) {
            Ok(event) => self.events.push(event),
            Err(fault) => self.faults.push((row.line, fault.column, fault.reason)),
        }
        Ok(())
    }

    fn unknown_columns(&mut self, names: &[String]) {
        self.unknown.extend_from_slice(names);
    }

    fn skipped_file(&mut self, name: &str) {
        self.skipped.push(name.into());
    }
}

fn small() -> Limits {
    Limits {
        row: 4_096,
        entries: 5,
        unpacked: 1 << 20,
        ratio: 50,
        ratio_from: 64 << 10,
    }
}

fn read_as(name: &str, format: ImportFormat, limits: Limits, bytes: &[u8]) -> Result<(u64, Seen), ReadError> {
    let mut file = tempfile::NamedTempFile::new().expect("file");
    file.write_all(bytes).expect("written");
    let mut seen = Seen {
        check: true,
        ..Seen::default()
    };
    let setting = Setting {
        limits,
        stop: &|| false,
        thorough: true,
    };
    let files = read_file(file.path(), name, format, &setting, &mut seen)?;
    Ok((files, seen))
}

fn read(name: &str, bytes: impl AsRef<[u8]>) -> Result<Seen, ReadError> {
    read_as(name, ImportFormat::Auto, small(), bytes.as_ref()).map(|(_, seen)| seen)
}

fn sound(name: &str, bytes: impl AsRef<[u8]>) -> Seen {
    read(name, bytes).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The words of a refusal, which must hold all of `parts`.
fn refused(name: &str, bytes: impl AsRef<[u8]>, parts: &[&str]) {
    match read(name, bytes) {
        Err(ReadError::Invalid(text)) => {
            for part in parts {
                assert!(text.contains(part), "{text:?} lacks {part:?}");
            }
        }
        Err(other) => panic!("{name}: {other:?}"),
        Ok(seen) => panic!("{name} was read: {} events, {:?}", seen.events.len(), seen.faults),
    }
}

fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).expect("entry");
        zip.write_all(bytes).expect("bytes");
    }
    zip.finish().expect("zip").into_inner()
}

fn csv(rows: &str) -> String {
    format!("{HEADER}{rows}")
}

#[test]
fn a_good_row_is_read_whole() {
    let seen = sound("a.csv", csv(GOOD));
    assert!(seen.faults.is_empty() && seen.unknown.is_empty());
    let e = &seen.events[0];
    assert_eq!(
        (e.id.as_str(), e.camera_id.as_str(), e.risk_level),
        ("e1", "cam-1", RiskLevel::Low)
    );
    assert_eq!(e.occurred_at.to_rfc3339(), "2026-03-01T14:05:09+00:00");
    assert_eq!((e.summary.as_str(), e.reviewed), ("A van", true));
    assert_eq!(e.metadata["confidence"], 0.9);
}

#[test]
fn a_link_in_the_place_of_the_file_leads_nowhere() {
    let dir = tempfile::tempdir().expect("dir");
    let (file, link) = (dir.path().join("good.csv"), dir.path().join("link.csv"));
    std::fs::write(&file, csv(GOOD)).expect("written");
    std::os::unix::fs::symlink(&file, &link).expect("link");
    let rows = |path: &Path| {
        let setting = Setting {
            limits: small(),
            stop: &|| false,
            thorough: true,
        };
        let mut seen = Seen::default();
        let done = read_file(path, "a.csv", ImportFormat::Auto, &setting, &mut seen);
        done.map(|_| seen.events.len())
    };
    assert!(matches!(rows(&file), Ok(1)));
    assert!(matches!(rows(&link), Err(ReadError::Io(_))));
}

#[test]
fn what_is_exported_can_be_imported() {
    let mut events: Vec<_> = Samples::new(7, 200).collect();
    events[3].label = "=cmd".into();
    events[4].summary = "-two\nlines, \"quoted\"; ümläut 東京\r".into();
    for format in [
        ExportFormat::Csv,
        ExportFormat::Json,
        ExportFormat::Ndjson,
        ExportFormat::Zip,
    ] {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("out");
        let mut writer = event_writer::to_file(format, &path, dir.path()).expect("writer");
        for event in &events {
            writer.write(event).expect("row");
        }
        writer.finish().expect("finish");
        let bytes = std::fs::read(&path).expect("file");
        let name = format!("x.{}", format.extension());
        let seen = sound(&name, &bytes);
        assert_eq!(seen.faults, []);
        assert_eq!(seen.events, events, "{format:?}");
        // Without a telling name the content tells.
        assert_eq!(sound("upload", &bytes).events.len(), events.len(), "{format:?}");
    }
}

#[test]
fn bad_csv_rows_are_told_by_line_and_column_and_good_ones_kept() {
    let rows = [
        GOOD,
        "e2,cam-1,yesterday,low,vehicle,,,\n",
        "\n",
        "e3,cam-1,2026-03-01 14:05:09,severe,vehicle,,,\n",
        "e4,cam-1\n",
        "e5,,2026-03-01 14:05:09,low,vehicle,,,\n",
        "e6,cam-1,2026-03-01 14:05:09,LOW,vehicle,\"two\nlines\",no,\n",
        "e7,cam-1,2026-03-01 14:05:09,low,vehicle,,perhaps,\n",
        "e8,cam-1,2026-03-01 14:05:09,low,vehicle,,,[1]\n",
        &format!("e9,cam-1,2026-03-01 14:05:09,low,{},,,\n", "x".repeat(201)),
        "e10,cam-1,2026-03-01 14:05:09,low,vehicle,\"never closed,,\nnext,row\n",
    ];
    for text in [csv(&rows.concat()), csv(&rows.concat()).replace('\n', "\r\n")] {
        let seen = sound("a.csv", &text);
        let ids: Vec<_> = seen.events.iter().map(|e| e.id.as_str()).collect();
        assert_eq!(ids, ["e1", "e6"]);
        let places: Vec<_> = seen.faults.iter().map(|(line, column, _)| (*line, *column)).collect();
        assert_eq!(
            places,
            [
                (3, Some("occurred_at")),
                (5, Some("risk_level")),
                (6, None),
                (7, Some("camera_id")),
                (10, Some("reviewed")),
                (11, Some("metadata")),
                (12, Some("label")),
                (13, None),
            ]
        );
        assert!(seen.faults[0].2.contains("\"yesterday\"") && seen.faults[0].2.contains("RFC 3339"));
        assert!(seen.faults[1].2.contains("low, medium, high, critical"));
        assert!(seen.faults[7].2.contains("quote"));
    }
}

#[test]
fn delimiters_headers_and_marks_of_other_programs_are_understood() {
    let semicolons =
        "\u{feff}Camera-ID;Occurred At;RISK_LEVEL;label;extra\r\ncam;2026-03-01T01:02:03.456+01:00;high;a,b;1\r\n";
    let seen = sound("excel.csv", semicolons);
    assert_eq!(seen.unknown, ["extra"]);
    assert_eq!(seen.events[0].label, "a,b");
    assert_eq!(seen.events[0].occurred_at.to_rfc3339(), "2026-03-01T00:02:03.456+00:00");
    let tabs = "camera_id\toccurred_at\trisk_level\tlabel\ncam\t2026-03-01T01:02:03Z\tlow\tx";
    assert_eq!(sound("t.txt", tabs).events.len(), 1);
}

#[test]
fn rows_without_id_get_the_same_one_every_time() {
    let rows = ",cam-1,2026-03-01 14:05:09,low,vehicle,,,\n,cam-1,2026-03-01 14:05:10,low,vehicle,,,\n";
    let (a, b) = (sound("a.csv", csv(rows)), sound("b.csv", csv(rows)));
    assert_eq!(a.events, b.events);
    assert_ne!(a.events[0].id, a.events[1].id);
    assert!(!a.events[0].id.is_empty());
    let json = r#"{"camera_id":"cam-1","occurred_at":"2026-03-01T14:05:09Z","risk_level":"low","label":"vehicle"}"#;
    assert_eq!(sound("a.ndjson", json).events[0].id, a.events[0].id);
}

#[test]
fn bad_ndjson_lines_are_told_and_good_ones_kept() {
    let good =
        r#"{"id":7,"camera_id":"c","occurred_at":"2026-03-01T14:05:09Z","risk_level":"low","label":"l","reviewed":1}"#;
    let long = format!(r#"{{"summary":"{}"}}"#, "x".repeat(5_000));
    let deep = "[".repeat(2_000);
    let text =
        format!("{good}\nnot json\n\n[1]\n{{\"camera_id\":\"c\"}}\n{long}\r\n{deep}\n{{\"camera_id\":5}}\n{good}");
    let seen = sound("a.ndjson", &text);
    assert_eq!(seen.events.len(), 2);
    assert!(seen.events[0].reviewed && seen.events[0].id == "7");
    let lines: Vec<_> = seen.faults.iter().map(|f| f.0).collect();
    assert_eq!(lines, [2, 4, 5, 6, 7, 8]);
    assert_eq!(seen.faults[2].1, Some("occurred_at"));
    assert!(seen.faults[3].2.contains("longer than 4 KB"));
}

#[test]
fn a_json_array_streams_with_lines_and_faults() {
    let good = r#"{"camera_id":"c]},","occurred_at":"2026-03-01T14:05:09Z","risk_level":"low","label":"a\"[\\","x":{"y":[1]}}"#;
    let text = format!("\n [ {good},\n\n {good} ,\n 5, {{\"label\": \"l\"}}\n, {good}]\n \n");
    let seen = sound("a.json", &text);
    assert_eq!(seen.events.len(), 3);
    assert_eq!(seen.events[0].label, "a\"[\\");
    assert_eq!(seen.unknown.first().map(String::as_str), Some("x"));
    assert_eq!(seen.faults.iter().map(|f| f.0).collect::<Vec<_>>(), [5, 5]);
    assert!(sound("a.json", "[]").events.is_empty());
    assert!(sound("a.json", " [ \n ] ").events.is_empty());
}

#[test]
fn json_that_is_broken_as_a_whole_is_refused() {
    let e = r#"{"camera_id":"c"}"#;
    refused("a.json", format!("[{e},\n{e}"), &["line 2", "cut off"]);
    refused("a.json", "[{\"camera_id\":\"c", &["cut off"]);
    refused("a.json", "[", &["cut off"]);
    refused("a.json", format!("[{e},]"), &["comma"]);
    refused("a.json", format!("[{e}\n{e}]"), &["malformed"]);
    refused("a.json", format!("[{e}] x"), &["text after"]);
    refused("a.json", "[\n{\"a\":}]", &["malformed at line 2"]);
    refused("a.json", "[{\"a\":[}]", &["cut off"]);
    refused("a.json", "[{\"a\":[}]}]", &["malformed"]);
    refused("a.json", "[,]", &["malformed"]);
    refused("a.json", e, &["object", "NDJSON"]);
    refused("a.json", "\"text\"", &["not an array"]);
    refused("a.json", format!("[\"{}\"]", "x".repeat(5_000)), &["longer than 4 KB"]);
    refused("a.ndjson", "[{}]", &["JSON array"]);
}

#[test]
fn wrong_columns_are_named() {
    refused(
        "a.csv",
        "id,name,when\n1,2,3\n",
        &["camera_id, occurred_at, risk_level, label", "found: id, name, when"],
    );
    refused("a.csv", "camera_id,camera_id\n", &["twice"]);
    refused("notes.txt", "dear diary", &["wrong columns"]);
}

#[test]
fn an_empty_file_is_refused() {
    for (name, bytes) in [
        ("a.csv", ""),
        ("a.json", " \n\t "),
        ("a.ndjson", "\u{feff}"),
        ("a.csv", "\r\n\r\n"),
        ("a", ""),
    ] {
        refused(name, bytes, &["empty"]);
    }
    assert!(sound("a.csv", HEADER).events.is_empty());
    let empty = read_as("a.zip", ImportFormat::Zip, small(), b"");
    assert!(matches!(empty, Err(ReadError::Invalid(t)) if t.contains("empty")));
}

#[test]
fn a_wrong_encoding_is_told_by_place_and_remedy() {
    let mut latin = csv(GOOD).into_bytes();
    latin.extend_from_slice(b"e2,cam,2026-03-01T14:05:09Z,low,v,caf\xe9,,\n");
    refused("a.csv", &latin, &["line 3", "0xE9", "Latin-1", "UTF-8"]);
    // Beyond the reader's first buffer, too.
    let mut far = csv(&GOOD.repeat(3_000)).into_bytes();
    far.extend_from_slice(b"\xff");
    refused("a.csv", &far, &["line 3002", &format!("offset {}", far.len() - 1)]);
    let utf16: Vec<u8> = "\u{feff}id".encode_utf16().flat_map(u16::to_le_bytes).collect();
    refused("a.csv", &utf16, &["UTF-16", "UTF-8"]);
    let unmarked: Vec<u8> = HEADER.encode_utf16().flat_map(u16::to_le_bytes).collect();
    refused("a.csv", &unmarked, &["line 1", "zero byte", "UTF-16"]);
    refused("a.csv", b"\x1f\x8b\x08\x00", &["gzip"]);
    // A character cut in two by the end of the file.
    refused("a.ndjson", b"{}\n\xc3", &["line 2"]);
}

#[test]
fn characters_that_lie_across_buffers_survive() {
    for shift in 0..4 {
        let text = csv(&format!(
            "e,c,2026-03-01 14:05:09,low,l,{}{},,\n",
            "x".repeat(shift),
            "東".repeat(1_000)
        )
        .repeat(100));
        let seen = sound("a.csv", &text);
        assert_eq!(seen.events.len(), 100);
        assert!(
            seen.events
                .iter()
                .all(|e| e.summary.ends_with('東') && e.summary.len() == 3_000 + shift)
        );
    }
}

#[test]
fn an_endless_row_is_refused_before_it_fills_the_memory() {
    let endless = csv(&format!("{GOOD}e2,\"{}", "x\n".repeat(100_000)));
    refused("a.csv", endless, &["line 3", "quote"]);
    refused("a.csv", "x".repeat(200_000), &["longer than 4 KB"]);
}

#[test]
fn an_archive_is_read_file_by_file() {
    let a = csv(GOOD);
    let b = a.replace("e1", "e2");
    let bytes = zip(&[
        ("data/a.csv", a.as_bytes()),
        ("README.md", b"hello"),
        ("__MACOSX/._a.csv", b"\x00\x05"),
        ("b.csv", b.as_bytes()),
    ]);
    let (files, seen) = read_as("x.zip", ImportFormat::Auto, small(), &bytes).expect("read");
    assert_eq!((files, seen.events.len()), (2, 2));
    assert_eq!(seen.skipped, ["README.md"]);
    assert!(read_as("x.bin", ImportFormat::Zip, small(), &bytes).is_ok());
}

#[test]
fn broken_archives_are_refused() {
    let rows = csv(&GOOD.repeat(50));
    let whole = zip(&[("a.csv", rows.as_bytes())]);
    refused("a.zip", &whole[..whole.len() / 2], &["ZIP"]);
    refused("a.zip", &whole[..whole.len() - 10], &["ZIP"]);
    let mut flipped = whole.clone();
    // Inside the compressed bytes, behind the local header.
    flipped[60] ^= 0x55;
    refused("a.zip", &flipped, &["a.csv in the ZIP"]);
    let mut crc = zip(&[("a.csv", rows.as_bytes()), ("note.txt", b"hello")]);
    let at = crc
        .windows(4)
        .rposition(|w| w == b"PK\x01\x02")
        .expect("directory entry");
    crc[at + 16] ^= 1;
    refused("a.zip", &crc, &["note.txt in the ZIP", "broken"]);
    refused("a.zip", zip(&[]), &["no CSV"]);
    refused("a.zip", zip(&[("a.exe", b"MZ")]), &["no CSV"]);
    refused("a.zip", zip(&[("xl/workbook.xml", b"<x/>")]), &["Excel"]);
    refused("a.zip", zip(&[("in.zip", &whole)]), &["in.zip", "archive itself"]);
    refused("a.zip", zip(&[("in.csv", &whole)]), &["in.csv", "ZIP archive"]);
    let mut encrypted = whole.clone();
    for magic in [b"PK\x03\x04", b"PK\x01\x02"] {
        let at = encrypted.windows(4).position(|w| w == magic).expect("header");
        encrypted[at + if magic[2] == 3 { 6 } else { 8 }] |= 1;
    }
    refused("a.zip", &encrypted, &["encrypted"]);
    refused(
        "a.zip",
        zip(&[("bad.csv", b"id\n1\n")]),
        &["bad.csv in the ZIP", "wrong columns"],
    );
    let not = read_as("a.csv", ImportFormat::Zip, small(), csv(GOOD).as_bytes());
    assert!(matches!(not, Err(ReadError::Invalid(t)) if t.contains("not a ZIP")));
}

#[test]
fn bombs_are_refused_whatever_their_headers_say() {
    let blank = vec![b' '; 4 << 20];
    let bomb = zip(&[("a.csv", &blank)]);
    refused("a.zip", &bomb, &["bomb"]);
    // The same with a directory that declares ten bytes.
    let mut liar = bomb.clone();
    for (magic, offset) in [(b"PK\x03\x04", 22), (b"PK\x01\x02", 24)] {
        let at = liar.windows(4).position(|w| w == magic).expect("header");
        liar[at + offset..at + offset + 4].copy_from_slice(&10u32.to_le_bytes());
    }
    assert!(matches!(read("a.zip", &liar), Err(ReadError::Invalid(_))));
    let in_other = zip(&[("ok.csv", csv(GOOD).as_bytes()), ("fill.bin", &blank)]);
    refused("a.zip", &in_other, &["bomb"]);
    let many: Vec<String> = (0..6).map(|i| format!("{i}.csv")).collect();
    let entries: Vec<(&str, &[u8])> = many.iter().map(|n| (n.as_str(), HEADER.as_bytes())).collect();
    refused("a.zip", zip(&entries), &["6 files", "at most 5"]);
}

#[test]
fn reading_stops_when_asked() {
    let mut file = tempfile::NamedTempFile::new().expect("file");
    file.write_all(csv(&GOOD.repeat(10_000)).as_bytes()).expect("written");
    let setting = Setting {
        limits: Limits::default(),
        stop: &|| true,
        thorough: true,
    };
    let ended = read_file(file.path(), "a.csv", ImportFormat::Auto, &setting, &mut Seen::default());
    assert!(matches!(ended, Err(ReadError::Stopped)));
}
