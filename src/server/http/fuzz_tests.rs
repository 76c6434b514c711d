//! What comes in a request's head, in all the shapes that nobody thought of.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::rest::artifacts::disposition;
use super::{Site, auth, guard, page, session};
use crate::mutate::Fuzz;

fn site() -> Site {
    Site {
        public_url: "https://jobs.example.org".into(),
        trusted: vec![
            "10.0.0.1".parse().expect("address"),
            "fd00::1".parse().expect("address"),
        ],
        ..Site::default()
    }
}

/// Fields from lines of `name: value`; what can't be a field is left out, as the server below leaves it.
fn headers(case: &[u8]) -> HeaderMap {
    let fields = case.split(|b| *b == b'\n').filter_map(|line| {
        let colon = line.iter().position(|b| *b == b':')?;
        let name = HeaderName::from_bytes(line[..colon].trim_ascii()).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        Some((name, value))
    });
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(name, value);
    }
    map
}

#[test]
fn fuzz_cookies() {
    let seeds = [
        "cookie: windlass=key; theme=dark",
        "cookie: a=b\ncookie: __Host-windlass=k=v; theme=\"x\"",
    ];
    for case in Fuzz::new(
        "cookies",
        &seeds,
        &["windlass", "__Host-windlass", "theme", "=", ";", "; "],
    ) {
        let map = headers(&case);
        for name in ["windlass", "__Host-windlass", "theme"] {
            let Some(value) = auth::cookie(&map, name) else {
                continue;
            };
            let pair = format!("{name}={value}");
            let given = map.get_all("cookie").iter().filter_map(|v| v.to_str().ok());
            assert!(given.into_iter().any(|line| line.contains(&pair)), "{pair}");
            assert!(!value.contains(';'), "{value}");
        }
    }
}

#[test]
fn fuzz_authorization() {
    let seeds = [
        "authorization: Bearer windlass_0123456789abcdef",
        "authorization: Basic YTpi\ncookie: windlass=key",
        "cookie: __Host-windlass=key",
    ];
    for case in Fuzz::new(
        "authorization",
        &seeds,
        &["Bearer", "bearer ", "authorization:", "cookie:", "\n"],
    ) {
        let map = headers(&case);
        let found = auth::credential(&site(), None, &map);
        // A browser sends cookies unasked: beside the header they count for nothing.
        if map.contains_key("authorization") {
            let token = matches!(found, Some(crate::server::service::identity::Credential::Token(_)));
            assert!(token, "{found:?}");
        }
    }
}

#[test]
fn fuzz_forwarded_addresses() {
    let seeds = [
        "x-forwarded-for: 203.0.113.9, 198.51.100.7",
        "x-forwarded-for: 2001:db8::1, 10.0.0.1\nx-forwarded-for: ::1",
    ];
    let site = site();
    let ip = |text: &str| text.parse::<IpAddr>().expect("address");
    for case in Fuzz::new(
        "forwarded addresses",
        &seeds,
        &["10.0.0.1", "127.0.0.1", "::ffff:10.0.0.1", ", ", "x-forwarded-for:"],
    ) {
        let map = headers(&case);
        // Who comes straight is who they are, whatever they say.
        assert_eq!(auth::client(&site, Some(ip("192.0.2.1")), &map), Some(ip("192.0.2.1")));
        let through = auth::client(&site, Some(ip("10.0.0.1")), &map).expect("address");
        let told = map.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok());
        let told = told
            .flat_map(|line| line.split(','))
            .filter_map(|text| text.trim().parse::<IpAddr>().ok());
        let peer = ip("10.0.0.1");
        assert!(
            through == peer || told.map(|ip| ip.to_canonical()).any(|ip| ip == through),
            "{through}"
        );
        assert_eq!(auth::client(&site, None, &map), None);
    }
}

#[test]
fn fuzz_origins_and_hosts() {
    let seeds = [
        "host: jobs.example.org\norigin: https://jobs.example.org",
        "host: localhost:3000\norigin: http://localhost:3000\nsec-fetch-site: same-origin",
        "host: [::1]:3000\nsec-fetch-site: cross-site\nsec-fetch-mode: navigate\nsec-fetch-dest: document",
        "host: 192.0.2.7\nupgrade: websocket\norigin: http://192.0.2.7",
        "host: localhost\naccept: text/event-stream\norigin: null",
    ];
    let words = [
        "host:",
        "origin:",
        "sec-fetch-site:",
        "evil.example",
        "https://",
        "http://",
        "@",
        ":80",
        "null",
        "localhost",
        "\n",
    ];
    let site = site();
    for case in Fuzz::new("origins and hosts", &seeds, &words) {
        let map = headers(&case);
        let text = |name: &str| map.get(name).map(|v| v.to_str().unwrap_or_default().to_string());
        for method in [Method::GET, Method::POST, Method::DELETE] {
            if guard::check(&site, &method, "/jobs", &map, None).is_err() {
                continue;
            }
            let host = text("host").unwrap_or_default();
            let name = host.trim_start_matches('[').to_ascii_lowercase();
            let own = name.starts_with("localhost") || name.starts_with("jobs.example.org");
            assert!(
                own || name.starts_with(|c: char| c.is_ascii_hexdigit() || c == ':'),
                "{host} is let in"
            );
            if method == Method::GET {
                continue;
            }
            let fetched = text("sec-fetch-site");
            assert!(
                fetched.is_none_or(|s| s == "same-origin" || s == "none"),
                "{method} from another site"
            );
            if let Some(origin) = text("origin") {
                assert!(
                    origin
                        .to_ascii_lowercase()
                        .ends_with(&format!("://{}", host.to_ascii_lowercase())),
                    "{origin} at {host}"
                );
            }
        }
        // Whatever the host is called, the page's policy says what it says.
        let policy = page::policy(map.get("host"), "nonce");
        let directives: Vec<&str> = policy
            .split(';')
            .map(|d| d.split_whitespace().next().unwrap_or_default())
            .collect();
        assert_eq!(directives.iter().filter(|d| **d == "script-src").count(), 1, "{policy}");
        assert_eq!(directives.len(), 11, "{policy}");
        assert!(HeaderValue::from_str(&policy).is_ok(), "{policy}");
    }
}

#[test]
fn fuzz_where_to_go_on() {
    let seeds = [
        "/jobs?status=failed",
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "/a\r\nb",
    ];
    for case in Fuzz::new(
        "where to go on",
        &seeds,
        &["/", "\\", "//", ":", "@", "javascript:", "\t"],
    ) {
        let text = String::from_utf8_lossy(&case);
        let to = session::inside(&text);
        assert!(
            to.starts_with('/') && !to.starts_with("//") && !to.contains('\\'),
            "{to}"
        );
        assert!(to.len() <= 2_000 && !to.chars().any(char::is_control), "{to}");
    }
}

#[test]
fn fuzz_names_of_downloads() {
    let seeds = [
        "events.csv",
        "a\"\r\nb.csv",
        "ü \u{202E}gpj.exe",
        "../../etc/passwd",
        "a;b=c",
    ];
    for case in Fuzz::new(
        "names of downloads",
        &seeds,
        &["\"", ";", "\r\n", "filename=", "'", "%"],
    ) {
        let header = disposition(&String::from_utf8_lossy(&case));
        let value = HeaderValue::from_str(&header).expect("a header's value");
        let value = value.to_str().expect("ASCII");
        assert!(value.starts_with("attachment; filename=\""), "{value}");
        // One name in quotes that nothing in it ends, and one encoded.
        assert_eq!(value.matches('"').count(), 2, "{value}");
        assert_eq!(value.matches(';').count(), 2, "{value}");
    }
}
