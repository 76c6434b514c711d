//! The audit log: it has every deed, and whatever is done to it shows.

use std::process::Stdio;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection, Row};
use windlass::domain::audit::AuditHead;
use windlass::domain::secret::MASK;
use windlass::server::store::Store;

use crate::crash::windlass;
use crate::harness::{ADMIN, Server, arrangement, config, gate, read, unique};
use crate::schedules::sql;

async fn log(s: &Server, query: &str) -> Vec<Value> {
    s.get(&format!("/api/admin/audit-logs?limit=1000&{query}")).await["items"]
        .as_array()
        .expect("items")
        .clone()
}

#[tokio::test]
async fn whatever_somebody_does_is_in_the_log_with_before_and_after() {
    let s = Server::start().await;
    let name = unique();
    let id = s.enqueue("gate", json!({ "name": name })).await;
    s.until(&id, "running").await;
    assert_eq!(s.act(&id, "cancel").await.0, StatusCode::OK);
    gate(&name).add_permits(1);
    s.until(&id, "cancelled").await;
    assert_eq!(
        s.act(&id, "cancel").await.0,
        StatusCode::CONFLICT,
        "what was refused is no deed"
    );
    let entries = log(&s, &format!("name={id}")).await;
    let actions: Vec<&Value> = entries.iter().map(|e| &e["action"]).collect();
    assert_eq!(actions, ["job.cancel", "job.enqueue"]);
    let cancel = &entries[0];
    assert_eq!(cancel["actor"], ADMIN.0);
    assert_eq!(
        (&cancel["via"], &cancel["address"]),
        (&json!("session"), &json!("127.0.0.1"))
    );
    assert_eq!(cancel["before"]["cancel_requested"], false);
    assert_eq!(cancel["after"]["cancel_requested"], true);
    let bulk = json!([{ "type": "echo" }, { "type": "echo" }]);
    assert_eq!(s.post("/api/jobs/bulk?batch=two", bulk).await.0, StatusCode::ACCEPTED);
    assert_eq!(log(&s, "action=batch.enqueue").await[0]["after"]["jobs"], 2);
    // A second call with the same key changes nothing, and is no deed.
    let before = log(&s, "").await.len();
    let key = unique();
    for _ in 0..2 {
        s.post(
            "/api/jobs",
            json!({ "type": "gate", "args": { "name": key }, "unique_key": key }),
        )
        .await;
    }
    assert_eq!(log(&s, "").await.len(), before + 1);
    gate(&key).add_permits(1);
    s.stop().await;
}

#[tokio::test]
async fn entries_say_which_token_acted() {
    let s = Server::start().await;
    // Two of one person, and one that acts for itself: all three are called the same.
    let mut ids = Vec::new();
    for (path, actor) in [
        ("/api/me/tokens", ADMIN.0),
        ("/api/me/tokens", ADMIN.0),
        ("/api/tokens", "token:ci"),
    ] {
        let body = json!({ "name": "ci", "scopes": ["jobs:read", "jobs:write"] });
        let (status, made) = s.post(path, body).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let token = made["token"]["id"].as_str().expect("id").to_string();
        let request = s
            .nobody()
            .post(format!("{}/api/jobs", s.base))
            .bearer_auth(made["secret"].as_str().expect("secret"))
            .json(&json!({ "type": "echo" }));
        let (status, job) = read(request.send().await.expect("answer")).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{job}");
        let entry = &log(&s, &format!("name={}", job["id"].as_str().expect("id"))).await[0];
        assert_eq!(
            (&entry["actor"], &entry["via"], &entry["token"]),
            (&json!(actor), &json!("token"), &json!({ "id": token, "name": "ci" })),
            "{entry}"
        );
        ids.push(token);
    }
    let own = s.enqueue("echo", json!({})).await;
    assert_eq!(log(&s, &format!("name={own}")).await[0]["token"], Value::Null);
    let text = async |path: &str| {
        let answer = s.ask(reqwest::Method::GET, path).send().await.expect("answer");
        answer.text().await.expect("text")
    };
    let lines = text("/api/admin/audit-logs/export?action=job.enqueue").await;
    let table = text("/api/admin/audit-logs/export?action=job.enqueue&format=csv").await;
    let page = text("/audit-log?action=job.enqueue").await;
    for id in &ids {
        let count = |text: &str, part: String| text.matches(&part).count();
        assert_eq!(count(&lines, format!("\"token\":{{\"id\":\"{id}\"")), 1, "{lines}");
        assert_eq!(count(&table, format!(",token,{id},ci,")), 1, "{table}");
        assert!(count(&page, format!("title=\"{id}\"")) >= 1, "{page}");
    }
    let dir = s.stop().await;
    if arrangement() != "sqlite" {
        return;
    }
    // Nor can it be said afterwards that it was another one.
    let other = format!(
        "UPDATE audit SET body = replace(body, '{}', '{}') WHERE action = 'job.enqueue'",
        ids[0], ids[1]
    );
    tampered(dir.path(), &other).await;
    let (well, said) = audit(dir.path(), &["verify"]);
    assert!(!well && said.contains("was changed"), "{said}");
}

#[tokio::test]
async fn all_of_a_schedule_is_noted_before_and_after_and_none_of_its_secrets() {
    let s = Server::start().await;
    let (name, secret, other) = (unique(), unique(), unique());
    let body = |cron: &str, queue: &str, password: &str| {
        json!({
            "name": name, "cron": cron, "time_zone": "Europe/Berlin", "type": "login", "queue": queue, "misfire": "skip",
            "args": { "user": "ada", "password": password },
        })
    };
    let (status, made) = s.post("/api/schedules", body("0 3 1 1 *", "default", &secret)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let id = made["id"].as_str().expect("id").to_string();
    let path = format!("/api/schedules/{id}");
    let change = s
        .ask(reqwest::Method::PUT, &path)
        .json(&body("0 4 1 1 *", "mail", &other));
    let (status, changed) = read(change.send().await.expect("answer")).await;
    assert_eq!(status, StatusCode::OK, "{changed}");
    // What changes nothing is not noted.
    for action in ["pause", "pause", "resume", "resume"] {
        let (status, told) = s.post(&format!("{path}/{action}"), json!({})).await;
        assert_eq!((status, &told["paused"]), (StatusCode::OK, &json!(action == "pause")));
    }
    let gone = s.ask(reqwest::Method::DELETE, &path).send().await.expect("answer");
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    let entries = log(&s, &format!("name={id}")).await;
    let actions: Vec<&str> = entries.iter().rev().filter_map(|e| e["action"].as_str()).collect();
    let expected = ["create", "change", "pause", "resume", "delete"].map(|action| format!("schedule.{action}"));
    assert_eq!(actions, expected);
    let (create, change, delete) = (&entries[4], &entries[3], &entries[0]);
    for (entry, paused) in [(&entries[2], true), (&entries[1], false)] {
        assert_eq!(
            (&entry["before"], &entry["after"]),
            (&json!({ "paused": !paused }), &json!({ "paused": paused }))
        );
    }
    let told = |cron: &str, queue: &str, args: &Value| {
        json!({
            "name": name, "cron": cron, "time_zone": "Europe/Berlin", "type": "login", "queue": queue, "misfire": "skip",
            "args": args, "priority": "normal", "owner": ADMIN.0, "paused": false,
        })
    };
    assert_eq!(create["before"], Value::Null);
    assert_eq!(create["after"], told("0 3 1 1 *", "default", &made["args"]));
    assert_eq!(change["before"], create["after"]);
    assert_eq!(change["after"], told("0 4 1 1 *", "mail", &changed["args"]));
    assert_eq!((&delete["before"], &delete["after"]), (&change["after"], &Value::Null));
    assert_eq!(change["after"]["args"]["password"], MASK);
    let all = json!(entries).to_string();
    assert!(!all.contains(&secret) && !all.contains(&other), "{all}");
    s.stop().await;
}

#[tokio::test]
async fn a_batch_that_is_cancelled_is_noted_with_what_came_of_it() {
    let s = Server::start().await;
    let held = json!({ "type": "gate", "args": { "name": unique() } });
    let later = json!({ "type": "echo", "delay": 3_600 });
    let (status, begun) = s.post("/api/jobs/bulk?batch=long", json!([held, later, later])).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{begun}");
    let batch = begun["batch"].as_str().expect("batch").to_string();
    let jobs: Vec<&str> = begun["ids"]
        .as_array()
        .expect("ids")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    s.until(jobs[0], "running").await;
    let path = format!("/api/batches/{batch}/cancel");
    let (status, done) = s.post(&path, json!({ "reason": "it was the wrong file" })).await;
    assert_eq!(status, StatusCode::OK, "{done}");
    let noted = log(&s, "action=batch.cancel").await;
    assert_eq!(noted.len(), 1, "{noted:?}");
    assert_eq!(
        (&noted[0]["name"], &noted[0]["reason"], &noted[0]["after"]),
        (
            &json!(batch),
            &json!("it was the wrong file"),
            &json!({ "cancelled": 2, "asked": 1, "left": 0 })
        )
    );
    // Each of its jobs has an entry of its own, in the transaction that cancels it.
    for job in &jobs {
        let own = &log(&s, &format!("action=job.cancel&name={job}")).await[0];
        assert_eq!(own["reason"], format!("with batch {batch}: it was the wrong file"));
        assert!(own["seq"].as_u64() < noted[0]["seq"].as_u64(), "{own}");
    }
    for job in &jobs {
        s.until(job, "cancelled").await;
    }
    let (status, done) = s.post(&path, json!({})).await;
    assert_eq!(
        (status, done),
        (StatusCode::OK, json!({ "cancelled": 0, "asked": 0, "left": 0 }))
    );
    assert_eq!(log(&s, "action=batch.cancel").await.len(), 1, "nothing was cancelled");
    s.stop().await;
}

#[tokio::test]
async fn the_reason_of_an_action_is_kept_where_people_look() {
    let s = Server::start().await;
    let why = "nobody needs it\nany more";
    let because = json!({ "reason": why });
    let (_, waits) = s.post("/api/jobs", json!({ "type": "echo", "delay": 3_600 })).await;
    let waits = waits["id"].as_str().expect("id").to_string();
    let runs = s.enqueue("gate", json!({ "name": unique() })).await;
    let fails = s.enqueue("flaky", json!({ "times": 1, "permanent": true })).await;
    s.until(&runs, "running").await;
    s.until(&fails, "failed").await;
    for (id, action) in [(&waits, "cancel"), (&runs, "abort"), (&fails, "retry")] {
        let (status, job) = s.post(&format!("/api/jobs/{id}/{action}"), because.clone()).await;
        assert_eq!(status, StatusCode::OK, "{job}");
        let entry = &log(&s, &format!("action=job.{action}&name={id}")).await[0];
        assert_eq!(entry["reason"], why, "{entry}");
        let history = s.get(&format!("/api/jobs/{id}/history")).await;
        let told = format!("by {}: {why}", ADMIN.0);
        let transitions = history["transitions"].as_array().expect("transitions");
        let says = |t: &&Value| t["reason"].as_str().is_some_and(|reason| reason.ends_with(&told));
        assert_eq!(transitions.iter().filter(says).count(), 1, "{history}");
    }
    s.until(&fails, "completed").await;
    let gone = s.ask(reqwest::Method::DELETE, &format!("/api/jobs/{fails}?reason=tidy%20up"));
    assert_eq!(gone.send().await.expect("answer").status(), StatusCode::OK);
    assert_eq!(
        log(&s, &format!("action=job.delete&name={fails}")).await[0]["reason"],
        "tidy up"
    );
    for action in ["pause", "resume"] {
        let (status, queue) = s.post(&format!("/api/queues/mail/{action}"), because.clone()).await;
        assert_eq!(status, StatusCode::OK, "{queue}");
        let entry = &log(&s, &format!("action=queue.{action}")).await[0];
        let paused = action == "pause";
        assert_eq!(
            (&entry["reason"], &entry["before"], &entry["after"]),
            (&json!(why), &json!({ "paused": !paused }), &json!({ "paused": paused }))
        );
    }
    // What can't be taken changes nothing.
    let (_, begun) = s
        .post("/api/jobs/bulk?batch=b", json!([{ "type": "echo", "delay": 3_600 }]))
        .await;
    let job = begun["ids"][0].as_str().expect("id");
    let before = log(&s, "").await.len();
    let long = "x".repeat(501);
    for bad in ["a\u{0}b", "\u{1b}[31m", &long] {
        for path in [
            format!("/api/jobs/{job}/cancel"),
            format!("/api/jobs/{job}/pause"),
            format!("/api/jobs/{job}/retry"),
            "/api/queues/mail/pause".into(),
            format!("/api/batches/{}/cancel", begun["batch"].as_str().expect("batch")),
        ] {
            let (status, problem) = s.post(&path, json!({ "reason": bad })).await;
            assert_eq!(
                (status, &problem["field"]),
                (StatusCode::BAD_REQUEST, &json!("reason")),
                "{path}: {problem}"
            );
        }
        let call = json!({ "id": job, "action": "cancel", "options": { "reason": bad } });
        let (status, problem) = s.post("/rpc/act", call).await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!("reason")),
            "{problem}"
        );
    }
    let delete = s.ask(reqwest::Method::DELETE, &format!("/api/jobs/{job}?reason={long}"));
    assert_eq!(delete.send().await.expect("answer").status(), StatusCode::BAD_REQUEST);
    let (status, problem) = s
        .post(&format!("/api/jobs/{job}/cancel"), json!({ "reasn": "x" }))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    assert_eq!(s.job(job).await["status"], "scheduled");
    assert_eq!(log(&s, "").await.len(), before);
    // The document says so.
    let document = s.get("/api/openapi.json").await;
    assert!(document["components"]["schemas"]["Reason"]["properties"]["reason"].is_object());
    for path in [
        "/api/jobs/{id}/cancel",
        "/api/queues/{name}/pause",
        "/api/batches/{id}/cancel",
    ] {
        assert!(document["paths"][path]["post"]["requestBody"].is_object(), "{path}");
    }
    s.stop().await;
}

/// What can be done to a table by whoever has the database, past everything that guards it.
async fn tampered(s: &std::path::Path, statement: &str) {
    let mut db = sqlx::SqliteConnection::connect(&format!("sqlite://{}", s.join("windlass.db").display()))
        .await
        .expect("database");
    for trigger in ["audit_keeps_rows", "audit_keeps_texts", "audit_keeps_places"] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("DROP TRIGGER IF EXISTS {trigger}")))
            .execute(&mut db)
            .await
            .expect("drop");
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_string()))
        .execute(&mut db)
        .await
        .expect("tamper");
    db.close().await.expect("close");
}

#[tokio::test]
async fn every_change_removal_and_other_order_of_the_log_is_found() {
    if arrangement() != "sqlite" {
        return;
    }
    let mut others = Vec::new();
    for _ in 0..2 {
        let s = Server::start().await;
        for _ in 0..6 {
            s.enqueue("echo", json!({})).await;
        }
        others.push(s);
    }
    let s = others.pop().expect("a server");
    let another = others.pop().expect("another one").stop().await;
    let head: AuditHead = serde_json::from_value(s.get("/api/admin/audit-logs/head").await).expect("head");
    let dir = s.stop().await;
    let settings = config(dir.path());
    let verify = async |heads: &[AuditHead]| {
        let store = Store::open_beside(&settings).await.expect("store");
        let verdict = store.verify_audit(heads).await.expect("verdict");
        store.close().await;
        verdict
    };
    let whole = verify(std::slice::from_ref(&head)).await;
    assert!(whole.findings.is_empty(), "{:?}", whole.findings);
    assert!(whole.entries >= 7, "{}", whole.entries);
    let original = dir.path().join("windlass.db");
    let copy = std::fs::read(&original).expect("read");
    let mut tried = 0;
    let columns = [
        "at = at + 1",
        "actor = 'eve'",
        "action = 'job.retry'",
        "object = object || 's'",
        "name = 'x'",
        "hash = 'x'",
    ];
    let mut attacks: Vec<String> = Vec::new();
    for seq in 1..=whole.entries {
        attacks.extend(
            columns
                .iter()
                .map(|change| format!("UPDATE audit SET {change} WHERE seq = {seq}")),
        );
        attacks.push(format!(
            "UPDATE audit SET body = replace(body, '\"via\"', '\"vie\"') WHERE seq = {seq}"
        ));
        attacks.push(format!("DELETE FROM audit WHERE seq = {seq}"));
        attacks.push(format!(
            "DELETE FROM audit WHERE seq = {seq}; UPDATE audit SET seq = seq - 1 WHERE seq > {seq}"
        ));
        if seq < whole.entries {
            attacks.push(format!(
                "UPDATE audit SET seq = -1 WHERE seq = {seq}; UPDATE audit SET seq = {seq} WHERE seq = {seq} + 1; \
                 UPDATE audit SET seq = {seq} + 1 WHERE seq = -1"
            ));
        }
    }
    attacks.push("DELETE FROM audit".into());
    // An entry that is sound by itself, since a server wrote it as that number of another log.
    attacks.push(format!(
        "ATTACH '{}' AS another; UPDATE audit SET (at, actor, action, object, name, body, hash) = \
         (SELECT at, actor, action, object, name, body, hash FROM another.audit AS theirs WHERE theirs.seq = 4) WHERE seq = 4",
        another.path().join("windlass.db").display()
    ));
    attacks.push(format!("DELETE FROM audit WHERE seq > {}", whole.entries / 2));
    attacks.push(format!(
        "INSERT INTO audit SELECT seq + 1, at, actor, action, object, name, body, hash FROM audit WHERE seq = {}",
        whole.entries
    ));
    for attack in attacks {
        for suffix in ["db-wal", "db-shm"] {
            // They may not be there.
            let _ = std::fs::remove_file(original.with_extension(suffix));
        }
        std::fs::write(&original, &copy).expect("restore");
        tampered(dir.path(), &attack).await;
        let verdict = verify(std::slice::from_ref(&head)).await;
        assert!(!verdict.findings.is_empty(), "not found: {attack}");
        tried += 1;
    }
    println!("{tried} ways of tampering, all found");
}

/// What `windlass audit` with these arguments says, and whether it ends well.
fn audit(dir: &std::path::Path, args: &[&str]) -> (bool, String) {
    let args: Vec<&str> = ["audit"].iter().chain(args).copied().collect();
    command(dir, &args)
}

/// The same of any command.
fn command(dir: &std::path::Path, args: &[&str]) -> (bool, String) {
    let out = windlass(dir, args, "127.0.0.1:0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.success(), text)
}

#[tokio::test]
async fn kept_heads_show_that_the_end_of_the_log_was_cut_off() {
    if arrangement() != "sqlite" {
        return;
    }
    let s = Server::start().await;
    for _ in 0..4 {
        s.enqueue("echo", json!({})).await;
    }
    let head: AuditHead = serde_json::from_value(s.get("/api/admin/audit-logs/head").await).expect("head");
    let by_hand = format!("{}:{}", head.seq, head.hash);
    let dir = s.stop().await;
    let (dir, kept) = (dir.path(), dir.path().join("audit-heads"));
    let lines = std::fs::read_to_string(&kept).expect("kept heads");
    let last = lines.lines().last().expect("a line");
    assert!(
        last.starts_with(&format!("{by_hand} ")),
        "the end of a process is kept: {lines}"
    );
    let (well, said) = audit(dir, &["verify"]);
    assert!(well && said.contains("heads fit"), "{said}");
    // What is printed to be kept elsewhere is that same head; nothing new, so no new line.
    let (well, said) = audit(dir, &["head"]);
    assert!(well && said.lines().any(|line| line == by_hand), "{said}");
    assert_eq!(std::fs::read_to_string(&kept).expect("kept heads"), lines);

    tampered(dir, &format!("DELETE FROM audit WHERE seq = {}", head.seq)).await;
    let (well, said) = audit(dir, &["verify"]);
    assert!(!well && said.contains("its end was cut off"), "{said}");
    let (well, said) = audit(dir, &["head"]);
    assert!(!well && said.contains("was cut off or changed"), "{said}");
    assert_eq!(
        std::fs::read_to_string(&kept).expect("kept heads"),
        lines,
        "the evidence stays"
    );

    // Whoever can change the file as well is found out by what was kept elsewhere.
    std::fs::rename(&kept, dir.join("elsewhere")).expect("moved");
    let (well, said) = audit(dir, &["verify"]);
    assert!(
        well && said.contains("0 heads fit"),
        "without any head nothing is missed: {said}"
    );
    let (well, said) = audit(dir, &["verify", "--head", &by_hand]);
    assert!(!well && said.contains("its end was cut off"), "{said}");
    let elsewhere = dir.join("elsewhere").display().to_string();
    let (well, said) = audit(dir, &["verify", "--heads", &elsewhere]);
    assert!(!well && said.contains("its end was cut off"), "{said}");

    // The file itself.
    let forged = |seq: u64, digit: &str| format!("{seq}:{} 2026-03-01T10:00:00Z\n", digit.repeat(64));
    for (text, why) in [
        (forged(1, "0"), "entry 1: not the one whose hash was kept elsewhere"),
        (
            format!("{}{}", forged(2, "1"), forged(1, "0")),
            "line 2: entry 1 stands behind entry 2",
        ),
        (
            format!("something else\n{lines}"),
            "line 1: \"something else\" is no head",
        ),
    ] {
        std::fs::write(&kept, text).expect("write");
        let (well, said) = audit(dir, &["verify"]);
        assert!(!well && said.contains(why), "{why}: {said}");
    }
}

/// An entry is written in the transaction of what it speaks of: while none can be written, nothing is done.
#[tokio::test]
async fn what_can_not_be_noted_does_not_happen() {
    let s = Server::start().await;
    let (_, later) = s.post("/api/jobs", json!({ "type": "echo", "delay": 3_600 })).await;
    let later = later["id"].as_str().expect("id");
    let failed = s.enqueue("flaky", json!({ "times": 9, "permanent": true })).await;
    s.until(&failed, "failed").await;
    let done = s.enqueue("echo", json!({})).await;
    s.until(&done, "completed").await;
    let yearly = json!({ "name": "yearly", "cron": "0 0 1 1 *", "type": "echo" });
    let (status, schedule) = s.post("/api/schedules", yearly).await;
    assert_eq!(status, StatusCode::CREATED, "{schedule}");
    let schedule = format!("/api/schedules/{}", schedule["id"].as_str().expect("id"));
    let told = async || {
        let mut told = Vec::new();
        for path in [
            "/api/jobs",
            "/api/batches",
            "/api/queues",
            "/api/schedules",
            "/api/users/links",
        ] {
            told.push(s.get(path).await);
        }
        for path in ["/api/tokens", "/api/me/sessions"] {
            // They say when they were last used.
            told.push(json!(s.get(path).await.as_array().map(Vec::len)));
        }
        told.push(json!(log(&s, "").await.len()));
        told
    };
    let before = told().await;
    sql(
        s.dir.path(),
        "CREATE TRIGGER refusing BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'refused'); END",
        "ALTER TABLE audit ADD CONSTRAINT refusing CHECK (seq < 0) NOT VALID",
    )
    .await;
    let job = |rest: &str| format!("/api/jobs/{later}{rest}");
    let deeds = [
        (
            Method::POST,
            "/api/jobs".to_string(),
            json!({ "type": "echo", "delay": 3_600 }),
        ),
        (
            Method::POST,
            "/api/jobs/bulk?batch=x".into(),
            json!([{ "type": "echo", "delay": 3_600 }]),
        ),
        (Method::POST, job("/run-now"), json!({})),
        (Method::POST, job("/cancel"), json!({})),
        (Method::DELETE, job("?purge=true"), json!({})),
        (Method::POST, format!("/api/jobs/{failed}/retry"), json!({})),
        (Method::POST, format!("/api/jobs/{done}/run-again"), json!({})),
        (Method::POST, "/api/queues/default/pause".into(), json!({})),
        (Method::POST, format!("{schedule}/pause"), json!({})),
        (Method::POST, format!("{schedule}/run-now"), json!({})),
        (
            Method::PUT,
            schedule.clone(),
            json!({ "name": "other", "cron": "0 0 2 1 *", "type": "echo" }),
        ),
        (Method::DELETE, schedule.clone(), json!({})),
        (
            Method::POST,
            "/api/users".into(),
            json!({ "email": "ada@example.org", "role": "admin" }),
        ),
        (
            Method::POST,
            "/api/tokens".into(),
            json!({ "name": "test", "scopes": ["jobs:read"] }),
        ),
    ];
    for (method, path, body) in &deeds {
        let request = s.ask(method.clone(), path).json(body);
        let (status, answer) = read(request.send().await.expect("answer")).await;
        assert!(status.is_server_error(), "{method} {path}: {status} {answer}");
        assert_eq!(told().await, before, "{method} {path}");
    }
    sql(
        s.dir.path(),
        "DROP TRIGGER refusing",
        "ALTER TABLE audit DROP CONSTRAINT refusing",
    )
    .await;
    assert_eq!(s.act(later, "cancel").await.0, StatusCode::OK);
    s.stop().await;
}

#[tokio::test]
async fn the_database_itself_only_lets_the_log_grow() {
    if arrangement() != "sqlite" {
        return;
    }
    let s = Server::start().await;
    s.enqueue("echo", json!({})).await;
    let dir = s.stop().await;
    let mut db = sqlx::SqliteConnection::connect(&format!("sqlite://{}", dir.path().join("windlass.db").display()))
        .await
        .expect("database");
    for statement in [
        "DELETE FROM audit",
        "UPDATE audit SET actor = 'eve'",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit",
    ] {
        let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_string()))
            .execute(&mut db)
            .await;
        let refused = refused.expect_err(statement).to_string();
        assert!(refused.contains("only added to"), "{refused}");
    }
    let n: i64 = sqlx::query("SELECT COUNT(*) AS n FROM audit")
        .fetch_one(&mut db)
        .await
        .expect("count")
        .get("n");
    assert!(n >= 2);
    db.close().await.expect("close");
}

#[tokio::test]
async fn the_log_is_had_as_a_file_with_the_same_filters_and_that_is_noted() {
    let s = Server::start().await;
    let id = s.enqueue("echo", json!({})).await;
    s.until(&id, "completed").await;
    let (status, copy) = s.act(&id, "run-again").await;
    assert_eq!(status, StatusCode::OK, "{copy}");
    let again = &log(&s, "action=job.run_again").await[0];
    assert_eq!(again["after"]["job"], copy["id"], "the copy is named, too");
    // Somebody's name that a spreadsheet would take for a formula.
    let (status, _) = s
        .post("/api/users", json!({ "email": "=1+1@example.org", "role": "viewer" }))
        .await;
    assert_eq!(status, StatusCode::CREATED);
    let file = async |query: &str| {
        let path = format!("/api/admin/audit-logs/export?{query}");
        let answer = s.ask(reqwest::Method::GET, &path).send().await.expect("answer");
        let status = answer.status();
        let header = |name: &str| {
            let value = answer.headers().get(name).and_then(|v| v.to_str().ok());
            value.unwrap_or_default().to_string()
        };
        let (media, how) = (header("content-type"), header("content-disposition"));
        (status, media, how, answer.text().await.expect("text"))
    };
    let (status, media, how, text) = file(&format!("format=csv&name={id}")).await;
    assert_eq!((status, media.as_str()), (StatusCode::OK, "text/csv; charset=utf-8"));
    assert!(how.contains("attachment") && how.contains("audit-log.csv"), "{how}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "seq,at,actor,via,token,token_name,address,action,object,name,reason,before,after,hash"
    );
    assert_eq!(lines.len(), 3, "{text}");
    assert!(
        lines[1].contains(",job.run_again,job,") && lines[2].contains(",job.enqueue,job,"),
        "{text}"
    );
    let (_, _, _, text) = file("format=csv&action=user.invite").await;
    assert!(text.contains(",\"'=1+1@example.org\","), "{text}");
    let (_, media, _, text) = file("object=job&since=2020-01-01T00:00:00Z").await;
    assert_eq!(media, "application/x-ndjson");
    assert_eq!(text.lines().count(), 2, "{text}");
    assert_eq!(file("until=2020-01-01T00:00:00Z").await.3, "");
    for bad in ["format=xml", "since=yesterday", "limit=1"] {
        assert_eq!(file(bad).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
    let noted = log(&s, "action=audit.export").await;
    assert_eq!(noted.len(), 4, "what was refused is not noted");
    assert_eq!(noted[3]["after"]["filter"]["name"], id.as_str());
    s.stop().await;
}

#[test]
fn a_command_that_meets_no_database_says_that_it_made_one() {
    let dir = tempfile::TempDir::new().expect("folder");
    let made = format!("{} was made", dir.path().join("windlass.db").display());
    let create = [
        "token",
        "create",
        "resizer",
        "--scope",
        "worker",
        "--kinds",
        "images.resize",
    ];
    let (done, said) = command(dir.path(), &create);
    assert!(done && said.contains(&made), "{said}");
    let (done, said) = command(dir.path(), &["token", "list"]);
    assert!(done && !said.contains("was made"), "{said}");
    assert!(said.contains("resizer") && said.contains("images.resize"), "{said}");
}
