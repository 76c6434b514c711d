//! Import and export, end to end.

use std::io::{Cursor, Write};

use reqwest::header::{CONTENT_DISPOSITION, RANGE};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use windlass::server::kinds::sample::Samples;

use crate::harness::{Server, read};

const HEADER: &str = "id,camera_id,occurred_at,risk_level,label,summary,reviewed,metadata\n";

fn rows(from: usize, to: usize) -> String {
    (from..to)
        .map(|n| {
            let risk = ["low", "medium", "high", "critical"][n % 4];
            format!(
                "e{n},cam-{},2026-03-01T10:{:02}:{:02}Z,{risk},person,\"=1+{n}, \"\"q\"\"\",{},\"{{\"\"n\"\":{n}}}\"\n",
                n % 3,
                n / 60 % 60,
                n % 60,
                n % 2 == 0
            )
        })
        .collect()
}

async fn upload(s: &Server, name: &str, bytes: Vec<u8>) -> (StatusCode, Value) {
    let form = Form::new().part("file", Part::bytes(bytes).file_name(name.to_string()));
    read(
        s.ask(Method::POST, "/api/events/import")
            .multipart(form)
            .send()
            .await
            .expect("answer"),
    )
    .await
}

/// Uploads and waits for the end.
async fn import(s: &Server, name: &str, bytes: Vec<u8>, status: &str) -> Value {
    let (code, started) = upload(s, name, bytes).await;
    assert_eq!(code, StatusCode::ACCEPTED, "{started}");
    let id = started["job_id"].as_str().expect("id");
    s.until(id, status).await;
    s.detail(id).await
}

async fn export(s: &Server, body: Value) -> (Value, Vec<u8>) {
    let answer = s
        .ask(Method::POST, "/api/events/export")
        .json(&body)
        .send()
        .await
        .expect("answer");
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let location = answer.headers()["location"].to_str().expect("text").to_string();
    let started: Value = answer.json().await.expect("json");
    let id = started["job_id"].as_str().expect("id");
    assert_eq!(location, format!("/api/jobs/{id}"));
    s.until(id, "completed").await;
    let detail = s.detail(id).await;
    let name = detail["artifacts"][0]["name"].as_str().expect("artifact");
    let file = s
        .ask(Method::GET, &format!("/api/jobs/{id}/artifacts/{name}"))
        .send()
        .await
        .expect("answer");
    assert_eq!(file.status(), StatusCode::OK);
    assert!(
        file.headers()[CONTENT_DISPOSITION]
            .to_str()
            .expect("text")
            .contains(name)
    );
    let bytes = file.bytes().await.expect("bytes").to_vec();
    assert_eq!(
        bytes.len() as u64,
        detail["artifacts"][0]["size"].as_u64().expect("size")
    );
    assert_eq!(detail["result"]["bytes"], detail["artifacts"][0]["size"]);
    assert_eq!(detail["result"]["sha256"], detail["artifacts"][0]["sha256"]);
    (detail, bytes)
}

fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, zip::write::SimpleFileOptions::default())
            .expect("entry");
        zip.write_all(bytes).expect("bytes");
    }
    zip.finish().expect("zip").into_inner()
}

#[tokio::test]
async fn good_rows_are_kept_bad_ones_reported_and_nothing_is_doubled() {
    let s = Server::start().await;
    let mut csv = HEADER.to_string() + &rows(0, 2_500);
    csv.push_str(
        "x1,cam-1,not a time,low,person,,true,{}\nx2,cam-1,2026-03-01T10:00:00Z,huge,person,,true,{}\nx3,too,few\n",
    );
    csv.push_str(&rows(2_500, 3_000));
    let first = import(&s, "events.csv", csv.clone().into_bytes(), "completed").await;
    let result = &first["result"];
    assert_eq!(
        (&result["imported"], &result["rejected"], &result["duplicates"]),
        (&json!(3_000), &json!(3), &json!(0)),
        "{result}"
    );
    let log = s
        .get(&format!(
            "/api/jobs/{}/logs?level=warning",
            first["job"]["id"].as_str().expect("id")
        ))
        .await;
    let log = log.to_string();
    for (line, reason) in [("2502", "occurred_at"), ("2503", "risk_level"), ("2504", "3")] {
        assert!(log.contains(line) && log.contains(reason), "{line} {reason}: {log}");
    }
    assert!(first["artifacts"].to_string().contains("rejected-rows.csv"));
    let again = import(&s, "events.csv", csv.into_bytes(), "completed").await;
    assert_eq!(
        (&again["result"]["imported"], &again["result"]["duplicates"]),
        (&json!(0), &json!(3_000))
    );
    let (detail, bytes) = export(&s, json!({ "format": "csv" })).await;
    assert_eq!(detail["result"]["rows"], 3_000);
    let text = String::from_utf8(bytes).expect("text");
    assert_eq!(text.lines().count(), 3_001);
    assert!(
        text.contains("\"'=1+7, \"\"q\"\"\""),
        "a cell that a spreadsheet would run is neutralised"
    );
    s.stop().await;
}

#[tokio::test]
async fn every_format_comes_in_and_goes_out() {
    let s = Server::start().await;
    let csv = HEADER.to_string() + &rows(0, 200);
    import(&s, "a.csv", csv.clone().into_bytes(), "completed").await;
    let (_, json_file) = export(&s, json!({ "format": "json" })).await;
    let (_, ndjson) = export(&s, json!({ "format": "ndjson" })).await;
    let (_, zipped) = export(&s, json!({ "format": "zip" })).await;
    let (_, xlsx) = export(&s, json!({ "format": "xlsx" })).await;
    assert_eq!(
        serde_json::from_slice::<Vec<Value>>(&json_file).expect("array").len(),
        200
    );
    assert_eq!(ndjson.iter().filter(|b| **b == b'\n').count(), 200);
    assert_eq!(&xlsx[..2], b"PK");
    let fresh = Server::start().await;
    let from_json = import(&fresh, "a.json", json_file.clone(), "completed").await;
    assert_eq!(from_json["result"]["imported"], 200);
    let (_, back) = export(&fresh, json!({ "format": "json" })).await;
    assert_eq!(back, json_file, "what went out comes in again unchanged");
    let more = HEADER.to_string() + &rows(200, 250);
    let mixed = zip(&[("b/more.csv", more.as_bytes()), ("c.ndjson", &ndjson)]);
    let from_zip = import(&fresh, "a.zip", mixed, "completed").await;
    assert_eq!(
        (&from_zip["result"]["imported"], &from_zip["result"]["duplicates"]),
        (&json!(50), &json!(200))
    );
    let third = Server::start().await;
    assert_eq!(
        import(&third, "x.zip", zipped, "completed").await["result"]["imported"],
        200
    );
    for server in [s, fresh, third] {
        server.stop().await;
    }
}

#[tokio::test]
async fn broken_files_get_a_clear_error_and_leave_nothing() {
    let s = Server::start().await;
    let good = HEADER.to_string() + &rows(0, 50);
    let mut torn = zip(&[("a.csv", good.as_bytes())]);
    let middle = torn.len() / 3;
    torn[middle] ^= 0xff;
    let bomb = zip(&[("bomb.csv", &vec![b'x'; 40_000_000])]);
    let mut utf16 = vec![0xff, 0xfe];
    utf16.extend(good.encode_utf16().flat_map(u16::to_le_bytes));
    let latin = good
        .replace("person", "per\u{e9}")
        .chars()
        .map(|c| c as u32 as u8)
        .collect::<Vec<u8>>();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty.csv", vec![], "empty"),
        ("torn.zip", torn, ""),
        ("cut.zip", zip(&[("a.csv", good.as_bytes())])[..60].to_vec(), ""),
        ("bomb.zip", bomb, ""),
        ("nothing.zip", zip(&[("readme.txt", b"hello")]), ""),
        ("columns.csv", b"a,b,c\n1,2,3\n".to_vec(), "camera_id"),
        ("utf16.csv", utf16, "UTF-8"),
        ("latin.csv", latin, "UTF-8"),
        ("object.json", b"{\"a\":1}".to_vec(), "array"),
        (
            "cut.json",
            b"[{\"camera_id\":\"c\",\"occurred_at\":\"2026-03-01T10:00:00Z\",\"risk_level\":\"low\",\"label\":\"x\"},"
                .to_vec(),
            "",
        ),
    ];
    for (name, bytes, says) in cases {
        let detail = import(&s, name, bytes, "failed").await;
        let error = &detail["error"];
        assert_eq!(
            (&error["code"], &error["retryable"]),
            (&json!("VALIDATION"), &json!(false)),
            "{name}: {error}"
        );
        let message = error["message"].as_str().expect("message");
        assert!(message.len() > 15 && message.contains(says), "{name}: {message}");
    }
    let (detail, bytes) = export(&s, json!({ "format": "ndjson" })).await;
    assert_eq!(
        (detail["result"]["rows"].as_u64(), bytes.len()),
        (Some(0), 0),
        "nothing was half done"
    );
    assert!(
        detail["job"]["message"].as_str().expect("text").contains("0 rows"),
        "{}",
        detail["job"]
    );
    s.stop().await;
}

#[tokio::test]
async fn exports_are_filtered_and_bad_filters_named() {
    let s = Server::start().await;
    import(
        &s,
        "a.csv",
        (HEADER.to_string() + &rows(0, 120)).into_bytes(),
        "completed",
    )
    .await;
    let count = async |body: Value| export(&s, body).await.0["result"]["rows"].as_u64().expect("rows");
    assert_eq!(count(json!({ "camera_id": "cam-1" })).await, 40);
    assert_eq!(count(json!({ "risk_level": "critical", "format": "ndjson" })).await, 30);
    assert_eq!(count(json!({ "reviewed": true })).await, 60);
    assert_eq!(
        count(json!({ "from": "2026-03-01T10:01:00Z", "until": null })).await,
        60
    );
    assert_eq!(count(json!({ "until": "2026-03-01T10:00:10Z" })).await, 10);
    for (body, field) in [
        (json!({ "risk_level": "huge" }), "risk_level"),
        (json!({ "format": "pdf" }), "format"),
        (json!({ "from": "yesterday" }), "from"),
        (json!({ "camera": "x" }), "camera"),
    ] {
        let (status, problem) = s.post("/api/events/export", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(problem.to_string().contains(field), "{problem}");
    }
    s.stop().await;
}

#[tokio::test]
async fn parts_of_a_file_can_be_fetched() {
    let s = Server::start().await;
    import(
        &s,
        "a.csv",
        (HEADER.to_string() + &rows(0, 20)).into_bytes(),
        "completed",
    )
    .await;
    let (detail, whole) = export(&s, json!({})).await;
    let (id, name) = (
        detail["job"]["id"].as_str().expect("id"),
        detail["artifacts"][0]["name"].as_str().expect("name"),
    );
    let path = format!("/api/jobs/{id}/artifacts/{name}");
    let part = s
        .ask(Method::GET, &path)
        .header(RANGE, "bytes=10-19")
        .send()
        .await
        .expect("answer");
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(
        part.headers()["content-range"].to_str().expect("text"),
        format!("bytes 10-19/{}", whole.len())
    );
    assert_eq!(part.bytes().await.expect("bytes"), whole[10..20]);
    let beyond = s
        .ask(Method::GET, &path)
        .header(RANGE, "bytes=99999999-")
        .send()
        .await
        .expect("answer");
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    let other = s
        .ask(Method::GET, &format!("/api/jobs/{id}/artifacts/..%2F..%2Fwindlass.db"))
        .send()
        .await
        .expect("answer");
    assert_eq!(other.status(), StatusCode::NOT_FOUND);
    let gone = s
        .ask(Method::DELETE, &format!("/api/jobs/{id}"))
        .send()
        .await
        .expect("answer");
    assert_eq!(gone.status(), StatusCode::OK);
    let files = std::fs::read_dir(s.dir.path().join("artifacts"))
        .expect("folder")
        .count();
    assert_eq!(files, 0, "the file goes with its job");
    s.stop().await;
}

#[tokio::test]
async fn an_upload_stays_while_a_job_needs_it() {
    let s = Server::start().await;
    let first = import(
        &s,
        "a.csv",
        (HEADER.to_string() + &rows(0, 20)).into_bytes(),
        "completed",
    )
    .await;
    let first = first["job"]["id"].as_str().expect("id").to_string();
    let (_, copy) = s.act(&first, "run-again").await;
    let copy = copy["id"].as_str().expect("id").to_string();
    let uploads = || std::fs::read_dir(s.dir.path().join("uploads")).expect("folder").count();
    s.ask(Method::DELETE, &format!("/api/jobs/{first}"))
        .send()
        .await
        .expect("answer");
    assert_eq!(uploads(), 1);
    s.until(&copy, "completed").await;
    assert_eq!(s.detail(&copy).await["result"]["duplicates"], 20);
    s.ask(Method::DELETE, &format!("/api/jobs/{copy}"))
        .send()
        .await
        .expect("answer");
    assert_eq!(uploads(), 0);
    s.stop().await;
}

#[tokio::test]
async fn uploads_are_limited_and_checked() {
    let s = Server::with(|c| c.upload_max = 1_000).await;
    let (status, problem) = upload(&s, "big.csv", vec![b'x'; 5_000]).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &json!("too_large"))
    );
    let form = Form::new().text("format", "csv");
    let (status, problem) = read(
        s.ask(Method::POST, "/api/events/import")
            .multipart(form)
            .send()
            .await
            .expect("answer"),
    )
    .await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("file")));
    let form = Form::new()
        .part("file", Part::bytes(b"x".to_vec()).file_name("a"))
        .text("format", "pdf");
    let (status, problem) = read(
        s.ask(Method::POST, "/api/events/import")
            .multipart(form)
            .send()
            .await
            .expect("answer"),
    )
    .await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    let (status, _) = s.post("/api/events/import", json!({})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    for folder in ["uploads", "tmp"] {
        let left = std::fs::read_dir(s.dir.path().join(folder)).expect("folder").count();
        assert_eq!(left, 0, "{folder}");
    }
    assert_eq!(s.get("/api/jobs").await["total"], 0);
    s.stop().await;
}

/// A file in the folder that is open to imports is read where it lies, and nothing outside of it is.
#[tokio::test]
async fn a_file_on_the_server_is_imported_where_it_lies() {
    let dir = TempDir::new().expect("folder");
    let folder = dir.path().join("imports");
    std::fs::create_dir_all(folder.join("2026")).expect("folder");
    let rows = Samples::new(3, 500).map(|event| serde_json::to_string(&event).expect("json") + "\n");
    std::fs::write(folder.join("2026/events.ndjson"), rows.collect::<String>()).expect("file");
    std::fs::write(dir.path().join("outside.csv"), "id\n1\n").expect("file");
    let s = Server::with(|config| config.import_dir = Some(folder.clone())).await;
    let id = s.enqueue("import", json!({ "path": "2026/events.ndjson" })).await;
    s.until(&id, "completed").await;
    let result = &s.detail(&id).await["result"];
    assert_eq!((&result["imported"], &result["rejected"]), (&json!(500), &json!(0)));
    // Again: nothing is doubled.
    let id = s.enqueue("import", json!({ "path": "2026/events.ndjson" })).await;
    s.until(&id, "completed").await;
    assert_eq!(s.detail(&id).await["result"]["duplicates"], 500);
    let missing = s.enqueue("import", json!({ "path": "2026/none.csv" })).await;
    assert_eq!(s.until(&missing, "failed").await["error_code"], "NOT_FOUND");
    for path in ["../outside.csv", "/etc/passwd", ""] {
        let (status, problem) = s
            .post("/api/jobs", json!({ "type": "import", "args": { "path": path } }))
            .await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!("args.path")),
            "{problem}"
        );
    }
    s.stop().await;
    let closed = Server::start().await;
    let (status, problem) = closed
        .post("/api/jobs", json!({ "type": "import", "args": { "path": "a.csv" } }))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        problem["detail"].as_str().expect("why").contains("IMPORT_DIR"),
        "{problem}"
    );
    closed.stop().await;
}
