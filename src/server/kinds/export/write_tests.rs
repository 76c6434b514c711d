use std::io::Read;

use super::*;
use crate::server::kinds::sample::Samples;

/// Realistic events and one that tries everything a spreadsheet or a parser could trip over.
fn events() -> Vec<CameraEvent> {
    let mut events: Vec<_> = Samples::new(7, 40).collect();
    events.push(CameraEvent {
        id: "=HYPERLINK(\"http://x\")".into(),
        label: "+1".into(),
        summary: "two\nlines, \"quotes\"; <tag> & \u{1} ümläut 東京".into(),
        camera_id: "@cam".into(),
        ..events[0].clone()
    });
    events
}

fn written(format: ExportFormat, events: &[CameraEvent]) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("out");
    let mut writer = to_file(format, &path, dir.path()).expect("writer");
    for event in events {
        writer.write(event).expect("row");
    }
    writer.finish().expect("finish");
    std::fs::read(path).expect("file")
}

fn zip_entry(bytes: Vec<u8>, name: &str) -> Option<String> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).expect("zip");
    let mut text = String::new();
    archive.by_name(name).ok()?.read_to_string(&mut text).expect("text");
    Some(text)
}

fn check_csv(text: &[u8], events: &[CameraEvent]) {
    let mut reader = csv::Reader::from_reader(text);
    assert_eq!(reader.headers().expect("header"), CameraEvent::COLUMNS.as_slice());
    let rows: Vec<_> = reader.records().map(|r| r.expect("record")).collect();
    assert_eq!(rows.len(), events.len());
    for (row, event) in rows.iter().zip(events) {
        for (cell, value) in row.iter().zip(cells(event).expect("cells")) {
            assert_eq!(super::super::super::cell::restore(cell), value);
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{cell:?}");
        }
    }
}

#[test]
fn csv_and_zip_come_back_with_formulas_neutralised() {
    let events = events();
    let csv = written(ExportFormat::Csv, &events);
    check_csv(&csv, &events);
    let zipped = zip_entry(written(ExportFormat::Zip, &events), "events.csv").expect("entry");
    assert_eq!(zipped.as_bytes(), csv);
}

#[test]
fn json_and_ndjson_come_back_as_they_were() {
    let events = events();
    let array: Vec<CameraEvent> = serde_json::from_slice(&written(ExportFormat::Json, &events)).expect("json");
    assert_eq!(array, events);
    let lines = String::from_utf8(written(ExportFormat::Ndjson, &events)).expect("text");
    let back: Vec<CameraEvent> = lines.lines().map(|l| serde_json::from_str(l).expect("line")).collect();
    assert_eq!(back, events);
}

#[test]
fn nothing_gives_sound_empty_files() {
    assert_eq!(written(ExportFormat::Json, &[]), b"[]\n");
    assert_eq!(written(ExportFormat::Ndjson, &[]), b"");
    check_csv(&written(ExportFormat::Csv, &[]), &[]);
    let sheet = zip_entry(written(ExportFormat::Xlsx, &[]), "xl/worksheets/sheet1.xml").expect("sheet");
    assert!(sheet.contains("occurred_at"));
}

#[test]
fn a_workbook_holds_strings_and_no_formula() {
    let events = events();
    let sheet = zip_entry(written(ExportFormat::Xlsx, &events), "xl/worksheets/sheet1.xml").expect("sheet");
    assert_eq!(sheet.matches("<row ").count(), events.len() + 1);
    assert!(!sheet.contains("<f>"));
    assert!(sheet.contains("=HYPERLINK"));
    assert!(sheet.contains("&lt;tag&gt; &amp;") && sheet.contains("東京"));
    assert!(sheet.contains(&events[0].id));
}

#[test]
fn a_full_sheet_is_followed_by_another() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("out.xlsx");
    let mut writer: Box<dyn EventWriter> = Box::new(Xlsx::new(&path, dir.path(), 11).expect("writer"));
    for event in Samples::new(7, 25) {
        writer.write(&event).expect("row");
    }
    writer.finish().expect("finish");
    let bytes = std::fs::read(path).expect("file");
    let rows = |n| zip_entry(bytes.clone(), &format!("xl/worksheets/sheet{n}.xml")).map(|s| s.matches("<row ").count());
    assert_eq!(
        [rows(1), rows(2), rows(3), rows(4)],
        [Some(11), Some(11), Some(6), None]
    );
}

#[test]
fn only_streamable_formats_go_to_a_stream() {
    for format in ExportFormat::ALL {
        let streams = !matches!(format, ExportFormat::Xlsx | ExportFormat::Zip);
        assert_eq!(to_stream(format, std::io::sink()).is_ok(), streams);
    }
}
