//! Uploads that were made to do harm: names that lead elsewhere, archives that are not what they say, forms that never end. The
//! server takes or refuses each with words, stays well, and writes nothing outside of its folders.

use std::collections::BTreeSet;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use futures::StreamExt;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use windlass::domain::user::Scope;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::harness::{Server, read, unique};

const HEADER: &str = "id,camera_id,occurred_at,risk_level,label\n";

/// A sound file of one event, another one each time.
fn sound() -> Vec<u8> {
    format!("{HEADER}{},cam-1,2026-03-01T10:00:00Z,low,person\n", unique()).into_bytes()
}

/// Names for an upload, each with a mark by which a file that was made of it could be found.
fn names(mark: &str) -> Vec<String> {
    let mut names: Vec<String> = [
        "../{}",
        "../../../../../../../../tmp/{}",
        "..\\..\\{}",
        "/tmp/{}",
        "/{}",
        "//server/share/{}",
        "\\\\server\\share\\{}",
        "C:\\{}",
        "C:{}",
        "file:///tmp/{}",
        "./{}",
        "a/../../{}",
        "..;/{}",
        "..%2f..%2f{}",
        "..%c0%af{}",
        "%2e%2e/{}",
        "....//{}",
        "~/{}",
        "$HOME/{}",
        "`touch {}`",
        "$(touch {})",
        "{};touch x",
        "{}|x",
        "{}\u{0}.csv",
        "{}\u{202E}vsc.exe",
        "{}\u{2066}x\u{2069}",
        "\u{FEFF}{}",
        "{}\u{7f}",
        "{}\u{1b}[31m",
        "{}\t",
        "CON",
        "con.csv",
        "PRN.txt",
        "AUX",
        "NUL",
        "COM1.csv",
        "LPT9",
        "{}.",
        "{} ",
        " {}",
        "{}::$DATA",
        ".",
        "..",
        "...",
        "",
        " ",
        ".htaccess",
        ".env",
        "windlass.db",
        "{}.html",
        "{}.svg",
        "{}.php",
        "{}.csv.exe",
        "<script>alert(1)</script>{}",
        "\"><img src=x onerror=alert(1)>{}",
        "'; DROP TABLE uploads; --{}",
        "{}%s%n%x",
        "{{7*7}}{}",
        "=cmd|'/c calc'!A1{}",
        "\u{1F600}{}",
        "e\u{301}{}",
        "\u{FB01}{}",
        "\u{2025}/{}",
        "\u{FF0E}\u{FF0E}\u{FF0F}{}",
    ]
    .iter()
    .map(|name| name.replace("{}", mark))
    .collect();
    names.push(format!("{mark}{}", "a".repeat(300)));
    names.push(format!("{mark}{}", "ü".repeat(20_000)));
    names.push(format!("{}{mark}", "../".repeat(2_000)));
    names
}

/// One entry of an archive that says of itself what it likes.
#[derive(Clone)]
struct Entry {
    name: Vec<u8>,
    data: Vec<u8>,
    /// What the headers say of the sizes, where it is not the truth.
    size: Option<u32>,
    packed: Option<u32>,
    crc: Option<u32>,
    flags: u16,
    method: u16,
    /// Unix permissions and type, as the upper half of the external attributes.
    mode: u16,
}

fn entry(name: &str, data: impl AsRef<[u8]>) -> Entry {
    Entry {
        name: name.as_bytes().to_vec(),
        data: data.as_ref().to_vec(),
        size: None,
        packed: None,
        crc: None,
        flags: 0,
        method: 0,
        mode: 0o100_644,
    }
}

fn crc32(data: &[u8]) -> u32 {
    let step = |crc: u32| match crc & 1 {
        0 => crc >> 1,
        _ => (crc >> 1) ^ 0xedb8_8320,
    };
    !data
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// An archive of these entries; `count`: how many its end says that there are, where it is not the truth.
fn archive(entries: &[Entry], count: Option<u16>) -> Vec<u8> {
    let mut file: Vec<u8> = Vec::new();
    let mut contents: Vec<u8> = Vec::new();
    for e in entries {
        let offset = file.len() as u32;
        let mut common = Vec::new();
        for short in [20, e.flags, e.method, 0, 0x5a21] {
            common.extend_from_slice(&short.to_le_bytes());
        }
        let length = e.data.len() as u32;
        for long in [
            e.crc.unwrap_or_else(|| crc32(&e.data)),
            e.packed.unwrap_or(length),
            e.size.unwrap_or(length),
        ] {
            common.extend_from_slice(&long.to_le_bytes());
        }
        for short in [e.name.len() as u16, 0] {
            common.extend_from_slice(&short.to_le_bytes());
        }
        file.extend_from_slice(b"PK\x03\x04");
        file.extend_from_slice(&common);
        file.extend_from_slice(&e.name);
        file.extend_from_slice(&e.data);
        // Made by Unix.
        contents.extend_from_slice(b"PK\x01\x02\x14\x03");
        contents.extend_from_slice(&common);
        for short in [0u16, 0, 0] {
            contents.extend_from_slice(&short.to_le_bytes());
        }
        contents.extend_from_slice(&(u32::from(e.mode) << 16).to_le_bytes());
        contents.extend_from_slice(&offset.to_le_bytes());
        contents.extend_from_slice(&e.name);
    }
    let (at, size) = (file.len() as u32, contents.len() as u32);
    file.extend_from_slice(&contents);
    file.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    let count = count.unwrap_or(entries.len() as u16);
    file.extend_from_slice(&count.to_le_bytes());
    file.extend_from_slice(&count.to_le_bytes());
    file.extend_from_slice(&size.to_le_bytes());
    file.extend_from_slice(&at.to_le_bytes());
    file.extend_from_slice(&[0, 0]);
    file
}

fn deflated(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).expect("entry");
        zip.write_all(bytes).expect("bytes");
    }
    zip.finish().expect("zip").into_inner()
}

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// It is taken for what it is.
    Taken,
    /// The job fails and says what is wrong with the file.
    Refused,
    /// Either, as long as nothing breaks.
    Either,
}

/// Files by name and type, and what becomes of each.
fn files(mark: &str) -> Vec<(String, &'static str, Vec<u8>, End)> {
    let name = |text: &str| text.replace("{}", mark);
    let text = |text: &str| text.replace("{}", mark).into_bytes();
    let zero = || vec![b'0'; 30_000_000];
    let mut files: Vec<(String, &'static str, Vec<u8>, End)> = Vec::new();
    let mut add =
        |name: &str, media: &'static str, bytes: Vec<u8>, end: End| files.push((name.into(), media, bytes, end));

    // Types that a browser would run, with content to match and without.
    let page = text("<!DOCTYPE html><script>alert('{}')</script>");
    let picture = text("<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert('{}')\"/>");
    add("page.html", "text/html", page.clone(), End::Refused);
    add("picture.svg", "image/svg+xml", picture.clone(), End::Refused);
    add("page.csv", "text/html", sound(), End::Taken);
    add("picture.csv", "image/svg+xml", picture, End::Refused);
    add("script.csv", "application/javascript", page, End::Refused);
    add("nonsense.csv", "x/y; charset=\"", sound(), End::Taken);
    add(
        "program",
        "application/x-executable",
        b"\x7fELF\x02\x01\x01\0\0\0\0\0".to_vec(),
        End::Refused,
    );
    add(
        "picture.png",
        "image/png",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(),
        End::Refused,
    );
    add("nothing.csv", "text/csv", vec![], End::Refused);
    add("zeros.csv", "text/csv", vec![0; 10_000], End::Refused);
    add("bom.csv", "text/csv", b"\xEF\xBB\xBF".to_vec(), End::Refused);
    add(
        "gzip.csv.gz",
        "application/gzip",
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec(),
        End::Refused,
    );
    // Text that is sound to the letter and still wants to break what reads it.
    let quote = format!("{HEADER}\"{}", "a,".repeat(1_000_000));
    add("quote.csv", "text/csv", quote.into_bytes(), End::Refused);
    add("wide.csv", "text/csv", ",".repeat(500_000).into_bytes(), End::Refused);
    add(
        "deep.json",
        "application/json",
        "[".repeat(1_000_000).into_bytes(),
        End::Refused,
    );
    let deep = format!("[{}{}]", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    add("deeper.json", "application/json", deep.into_bytes(), End::Refused);
    add(
        "deep.ndjson",
        "application/x-ndjson",
        ("[".repeat(100_000) + "\n").into_bytes(),
        End::Refused,
    );
    add(
        "number.json",
        "application/json",
        format!("[{}]", "9".repeat(500_000)).into_bytes(),
        End::Refused,
    );
    add(
        "key.json",
        "application/json",
        format!("[{{\"{}\":1}}]", "k".repeat(500_000)).into_bytes(),
        End::Refused,
    );
    add(
        "surrogate.json",
        "application/json",
        b"[{\"label\":\"\\ud800\"}]".to_vec(),
        End::Refused,
    );
    let formula = format!("{HEADER}=HYPERLINK(\"\"http://x\"\"),@SUM(1),2026-03-01T10:00:00Z,low,-2+3\n");
    add("formula.csv", "text/csv", formula.into_bytes(), End::Either);

    // Names that lead out of the archive, kinds of entries that are no files, and what looks like a folder.
    for odd in [
        "../{}.csv",
        "../../../../../../tmp/{}.csv",
        "/tmp/{}.csv",
        "..\\..\\{}.csv",
        "C:\\{}.csv",
        "a/../../{}.csv",
        "./{}.csv",
        "{}.csv/../x.csv",
        "\u{202E}{}.csv",
        "con/{}.csv",
        "~/{}.csv",
    ] {
        add(
            "slip.zip",
            "application/zip",
            archive(&[entry(&name(odd), sound())], None),
            End::Taken,
        );
    }
    let long = format!("{}{mark}.csv", "d/".repeat(20_000));
    add(
        "long.zip",
        "application/zip",
        archive(&[entry(&long, sound())], None),
        End::Taken,
    );
    let mut nul = entry(&name("{}.csv"), sound());
    nul.name.extend_from_slice(b"\0.txt");
    add("nul.zip", "application/zip", archive(&[nul], None), End::Either);
    let mut binary = entry("x", sound());
    binary.name = b"\xff\xfe\xfd.csv".to_vec();
    add("binary.zip", "application/zip", archive(&[binary], None), End::Either);
    let mut link = entry(&name("{}.csv"), "/etc/passwd");
    link.mode = 0o120_777;
    add(
        "link.zip",
        "application/zip",
        archive(&[link.clone()], None),
        End::Refused,
    );
    let through = entry(&name("{}.csv/passwd.csv"), sound());
    add(
        "through.zip",
        "application/zip",
        archive(&[link, through], None),
        End::Refused,
    );
    let mut device = entry(&name("{}.csv"), "");
    device.mode = 0o020_666;
    add("device.zip", "application/zip", archive(&[device], None), End::Refused);
    add(
        "folder.zip",
        "application/zip",
        archive(&[entry("a.csv/", "")], None),
        End::Refused,
    );

    // Bombs.
    add(
        "bomb.zip",
        "application/zip",
        deflated(&[("a.csv", &zero())]),
        End::Refused,
    );
    add(
        "hidden.zip",
        "application/zip",
        deflated(&[("a.csv", &sound()), ("b.bin", &zero())]),
        End::Refused,
    );
    let inner = deflated(&[("a.csv", &zero())]);
    add(
        "nested.zip",
        "application/zip",
        deflated(&[("inner.zip", &inner)]),
        End::Refused,
    );
    add(
        "nested-text.zip",
        "application/zip",
        deflated(&[("inner.csv", &inner)]),
        End::Refused,
    );
    let itself = archive(&[entry("a.csv", sound())], None);
    add(
        "doubled.zip",
        "application/zip",
        [itself.clone(), itself.clone()].concat(),
        End::Either,
    );
    let many: Vec<Entry> = (0..5_000).map(|n| entry(&format!("{n}.csv"), "")).collect();
    add("many.zip", "application/zip", archive(&many, None), End::Refused);
    add(
        "twins.zip",
        "application/zip",
        archive(&[entry("a.csv", sound()), entry("a.csv", sound())], None),
        End::Refused,
    );

    // Archives that say of themselves what is not so.
    let lie = |change: fn(&mut Entry)| {
        let mut entry = entry("a.csv", sound());
        change(&mut entry);
        archive(&[entry], None)
    };
    add("small.zip", "application/zip", lie(|e| e.size = Some(1)), End::Either);
    add(
        "huge.zip",
        "application/zip",
        lie(|e| e.size = Some(u32::MAX - 1)),
        End::Refused,
    );
    add(
        "beyond.zip",
        "application/zip",
        lie(|e| e.packed = Some(1_000_000)),
        End::Refused,
    );
    add("sum.zip", "application/zip", lie(|e| e.crc = Some(7)), End::Refused);
    add("locked.zip", "application/zip", lie(|e| e.flags = 1), End::Refused);
    add("method.zip", "application/zip", lie(|e| e.method = 99), End::Refused);
    add("raw.zip", "application/zip", lie(|e| e.method = 8), End::Refused);
    add(
        "more.zip",
        "application/zip",
        archive(&[entry("a.csv", sound())], Some(60_000)),
        End::Refused,
    );
    add(
        "none.zip",
        "application/zip",
        archive(&[entry("a.csv", sound())], Some(0)),
        End::Refused,
    );
    add("empty.zip", "application/zip", archive(&[], None), End::Refused);
    for end in [4, 30, itself.len() / 2, itself.len() - 1] {
        add("cut.zip", "application/zip", itself[..end].to_vec(), End::Refused);
    }
    let mut padded = vec![b'x'; 100_000];
    padded.extend_from_slice(&itself);
    add("padded.zip", "application/zip", padded, End::Refused);
    add(
        "comment.zip",
        "application/zip",
        [itself, vec![b'c'; 100_000]].concat(),
        End::Either,
    );
    files
}

/// Every path below a folder.
fn tree(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            if entry.file_type().expect("a type").is_dir() {
                folders.push(entry.path());
            }
            found.insert(entry.path());
        }
    }
    found
}

/// Nothing anywhere has a name that strangers chose, and what is in the server's folders is a plain file under an id.
fn judge_disk(s: &Server, mark: &str) {
    let home = s.dir.path();
    let around = [
        home.parent().unwrap_or(home),
        Path::new("/tmp"),
        Path::new("/"),
        Path::new("."),
    ];
    for folder in around {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let name = entry.expect("an entry").file_name();
            assert!(
                !name.to_string_lossy().contains(mark),
                "{name:?} in {}",
                folder.display()
            );
        }
    }
    for path in tree(home) {
        assert!(!path.to_string_lossy().contains(mark), "{}", path.display());
        let Ok(facts) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        assert!(facts.is_file() || facts.is_dir(), "{} is no file", path.display());
        let inside = path.strip_prefix(home.join("uploads"));
        if let Ok(name) = inside.map(|p| p.to_string_lossy().into_owned())
            && !name.is_empty()
        {
            assert!(
                name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit()),
                "{name}"
            );
        }
    }
}

async fn well(s: &Server) {
    let answer = s.ask(Method::GET, "/readyz").send().await.expect("answer");
    assert_eq!(answer.status(), StatusCode::OK, "the server is well");
}

async fn ended(s: &Server, id: &str) -> Value {
    crate::harness::until("the job ends", async || {
        let job = s.job(id).await;
        ["completed", "failed", "dead"]
            .iter()
            .any(|status| job["status"] == *status)
            .then_some(job)
    })
    .await
}

#[tokio::test]
async fn hostile_names_are_words_and_nothing_more() {
    let s = Server::start().await;
    let mark = format!("evil{}", unique().replace('-', ""));
    let names = names(&mark);
    println!("hostile corpus: {} names", names.len());
    let mut taken = 0;
    for name in &names {
        let form = Form::new().part("file", Part::bytes(sound()).file_name(name.clone()));
        let (status, answer) = read(
            s.ask(Method::POST, "/api/events/import")
                .multipart(form)
                .send()
                .await
                .expect("answer"),
        )
        .await;
        // A name that the form's reader can't make out is refused as a whole.
        assert!(matches!(status.as_u16(), 202 | 400), "{name:?}: {status} {answer}");
        if status != StatusCode::ACCEPTED {
            assert_eq!(answer["code"], "invalid_input", "{name:?}: {answer}");
            continue;
        }
        taken += 1;
        let id = answer["job_id"].as_str().expect("id");
        let job = ended(&s, id).await;
        assert!(
            matches!(job["status"].as_str(), Some("completed" | "failed")),
            "{name:?}: {job}"
        );
        if job["status"] == "failed" {
            assert_eq!(job["error_code"], "VALIDATION", "{name:?}: {job}");
        }
        let log = s.get(&format!("/api/jobs/{id}/logs")).await.to_string();
        for odd in ["\\u0000", "\\u001b", "\u{202E}", "\u{2066}", "\u{7f}"] {
            assert!(!log.contains(odd), "{name:?} reaches the log with {odd:?}: {log}");
        }
        assert!(!log.contains("../"), "{name:?}: {log}");
    }
    assert!(taken > names.len() / 2, "{taken} of {}", names.len());
    judge_disk(&s, &mark);
    well(&s).await;
    s.stop().await;
}

#[tokio::test]
async fn hostile_files_are_refused_with_words_and_unpacked_nowhere() {
    let s = Server::start().await;
    let mark = format!("evil{}", unique().replace('-', ""));
    let files = files(&mark);
    println!("hostile corpus: {} files", files.len());
    let mut wrong = Vec::new();
    for (i, (name, media, bytes, end)) in files.into_iter().enumerate() {
        let part = Part::bytes(bytes).file_name(name.clone());
        // What can't be a type is sent without one.
        let part = match part.mime_str(media) {
            Ok(part) => part,
            Err(_) => Part::bytes(sound()).file_name(name.clone()),
        };
        let form = Form::new().part("file", part);
        let (status, answer) = read(
            s.ask(Method::POST, "/api/events/import")
                .multipart(form)
                .send()
                .await
                .expect("answer"),
        )
        .await;
        assert_eq!(status, StatusCode::ACCEPTED, "{name}: {answer}");
        let job = ended(&s, answer["job_id"].as_str().expect("id")).await;
        let seen = match job["status"].as_str() {
            Some("completed") => End::Taken,
            _ => End::Refused,
        };
        let said = job["error_code"].as_str().unwrap_or_default();
        if seen == End::Refused && said != "VALIDATION" || end != End::Either && seen != end {
            wrong.push(format!("{i} {name}: {seen:?}, not {end:?}: {job}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    judge_disk(&s, &mark);
    well(&s).await;
    s.stop().await;
}

/// A whole request with this body; `length`: what it says of the body's length, where it is not the truth.
fn request(token: &str, media: &str, body: &[u8], length: Option<usize>) -> Vec<u8> {
    let mut all = format!(
        "POST /api/events/import HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: {media}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        length.unwrap_or(body.len())
    )
    .into_bytes();
    all.extend_from_slice(body);
    all
}

/// Sends it and says what is answered until the connection is closed.
async fn send(s: &Server, request: &[u8]) -> String {
    let address = s.base.trim_start_matches("http://");
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut from, mut to) = stream.into_split();
    let sending = async {
        // The answer may come before all was sent.
        let _ = to.write_all(request).await;
    };
    let mut said = Vec::new();
    let reading = async {
        let _ = from.read_to_end(&mut said).await;
    };
    let both = futures::future::join(sending, reading);
    tokio::time::timeout(std::time::Duration::from_secs(60), both)
        .await
        .expect("an end");
    String::from_utf8_lossy(&said).into_owned()
}

/// Forms that are none, by what is wrong with them: their type, their body, and the length that they give.
fn forms() -> Vec<(&'static str, String, Vec<u8>, Option<usize>)> {
    let media = |rest: &str| format!("multipart/form-data{rest}");
    let plain = || media("; boundary=x");
    let head = |fields: &str| format!("--x\r\n{fields}\r\n\r\nid\n\r\n--x--\r\n").into_bytes();
    let file = "Content-Disposition: form-data; name=\"file\"; filename=\"a.csv\"";
    let good = head(file);
    let part = |name: &str| format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\nv\r\n");
    let named = |name: &str| {
        head(&format!(
            "Content-Disposition: form-data; name=\"{name}\"; filename=\"a.csv\""
        ))
    };
    let mut nul = good.clone();
    nul.insert(10, 0);
    let twice = [&head(file)[..good.len() - 7], &good[..]].concat();
    vec![
        ("no boundary", media(""), good.clone(), None),
        ("an empty boundary", media("; boundary="), good.clone(), None),
        ("another boundary", media("; boundary=y"), good.clone(), None),
        (
            "a boundary in quotes that never ends",
            media("; boundary=\"x"),
            good.clone(),
            None,
        ),
        (
            "a long boundary",
            media(&format!("; boundary={}", "b".repeat(10_000))),
            good.clone(),
            None,
        ),
        ("no type", String::new(), good.clone(), None),
        ("another type", "text/plain".into(), good.clone(), None),
        (
            "a form of a page",
            "application/x-www-form-urlencoded".into(),
            b"file=x".to_vec(),
            None,
        ),
        ("JSON", "application/json".into(), b"{}".to_vec(), None),
        ("an empty body", plain(), vec![], None),
        ("only the end", plain(), b"--x--\r\n".to_vec(), None),
        ("no end", plain(), good[..good.len() - 9].to_vec(), None),
        ("half a head", plain(), good[..40].to_vec(), None),
        (
            "text without end before",
            plain(),
            [vec![b'a'; 5_000_000], good.clone()].concat(),
            None,
        ),
        (
            "a part without fields",
            plain(),
            b"--x\r\n\r\nid\n\r\n--x--\r\n".to_vec(),
            None,
        ),
        (
            "a part without a name",
            plain(),
            head("Content-Disposition: form-data"),
            None,
        ),
        ("no disposition", plain(), head("Content-Type: text/csv"), None),
        (
            "a huge field",
            plain(),
            head(&format!("{file}\r\nX-Long: {}", "a".repeat(5_000_000))),
            None,
        ),
        ("a huge name", plain(), named(&"n".repeat(1_000_000)), None),
        (
            "many fields",
            plain(),
            head(&format!("{file}{}", "\r\nX: y".repeat(100_000))),
            None,
        ),
        ("a zero byte in a field", plain(), nul, None),
        (
            "line feeds alone",
            plain(),
            String::from_utf8_lossy(&good).replace("\r\n", "\n").into_bytes(),
            None,
        ),
        ("an unknown part", plain(), named("other"), None),
        ("a part named to be shown", plain(), named("<script>\u{202E}"), None),
        ("two files", plain(), twice, None),
        (
            "thousands of parts",
            plain(),
            [part("format").repeat(20_000).into_bytes(), good.clone()].concat(),
            None,
        ),
        (
            "thousands of unknown parts",
            plain(),
            (part("a").repeat(20_000) + "--x--\r\n").into_bytes(),
            None,
        ),
        (
            "a format without end",
            plain(),
            format!(
                "--x\r\nContent-Disposition: form-data; name=\"format\"\r\n\r\n{}\r\n--x--\r\n",
                "a".repeat(5_000_000)
            )
            .into_bytes(),
            None,
        ),
        ("a shorter length", plain(), good.clone(), Some(good.len() - 20)),
        ("a length of nothing", plain(), good.clone(), Some(0)),
        ("a length beyond all", plain(), good.clone(), Some(usize::MAX >> 1)),
        (
            "a nested form",
            plain(),
            [
                format!("--x\r\n{file}\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n").into_bytes(),
                b"--y\r\n\r\n--x".to_vec(),
            ]
            .concat(),
            None,
        ),
    ]
}

#[tokio::test]
async fn hostile_forms_are_refused_and_leave_nothing() {
    let s = Server::start().await;
    let (_, made) = s
        .post("/api/tokens", json!({ "name": "t", "scopes": Scope::ALL }))
        .await;
    let token = made["secret"].as_str().expect("secret");
    let forms = forms();
    println!("hostile corpus: {} forms", forms.len() + 4);
    for (what, media, body, length) in &forms {
        let said = send(&s, &request(token, media, body, *length)).await;
        // Who still sends when the connection is cut may miss what was said.
        let refused = said.starts_with("HTTP/1.1 4") || said.is_empty() && body.len() > 100_000;
        assert!(refused, "{what}: {}", &said[..said.len().min(300)]);
        well(&s).await;
    }
    // Requests whose framing is in doubt: two lengths, chunks that are none.
    let head = format!(
        "POST /api/events/import HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: multipart/form-data; boundary=x\r\nConnection: close\r\n"
    );
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\n--x--",
        "Content-Length: -5\r\n\r\n--x--",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n--x--\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n--x--\r\n",
    ] {
        let said = send(&s, format!("{head}{fields}").as_bytes()).await;
        assert!(said.starts_with("HTTP/1.1 4"), "{fields}: {said}");
    }
    crate::harness::until("nothing is left", async || {
        let left =
            ["tmp", "uploads"].map(|folder| std::fs::read_dir(s.dir.path().join(folder)).expect("folder").count());
        (left == [0, 0]).then_some(())
    })
    .await;
    assert_eq!(s.get("/api/jobs").await["total"], 0);
    well(&s).await;
    s.stop().await;
}

/// A body without an end is cut off at the limit, whatever it says of its length.
#[tokio::test]
async fn an_upload_without_end_is_cut_off() {
    let s = Server::with(|c| c.upload_max = 1_000_000).await;
    let parts = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'a'; 65_536])).take(10_000);
    let part = Part::stream(reqwest::Body::wrap_stream(parts)).file_name("endless.csv");
    let sent = s
        .ask(Method::POST, "/api/events/import")
        .multipart(Form::new().part("file", part))
        .send()
        .await;
    // The connection may be cut while the client still sends.
    if let Ok(answer) = sent {
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
    crate::harness::until("nothing is left", async || {
        let left = std::fs::read_dir(s.dir.path().join("tmp")).expect("folder").count();
        (left == 0).then_some(())
    })
    .await;
    assert_eq!(s.get("/api/jobs").await["total"], 0);
    s.stop().await;
}
