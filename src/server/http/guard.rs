//! Keeps other sites out: a page from elsewhere must not be able to act through a browser that is signed in, nor to read by
//! pointing a name of its own at this server.

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN, UPGRADE};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;

use super::{AppState, Site, page};
use crate::domain::error::{Problem, ProblemCode, truncate};

/// Refuses requests to foreign host names, and changes and WebSockets that come from other sites.
pub async fn guard(State(state): State<AppState>, request: Request, next: Next) -> Response {
    match check(&state.site, request.method(), request.headers(), request.uri().host()) {
        Ok(()) => next.run(request).await,
        Err(problem) => page::refusal(request.headers(), problem),
    }
}

fn check(site: &Site, method: &Method, headers: &HeaderMap, uri_host: Option<&str>) -> Result<(), Problem> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|v: &axum::http::HeaderValue| v.to_str().ok())
    };
    let host = text(HOST).or(uri_host).unwrap_or_default();
    if !is_own(site, host) {
        return Err(refuse(format!(
            "Host \"{}\" is not a name of this server; set PUBLIC_URL to the address that people reach it by",
            shown(host)
        )));
    }
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    // A link on another site may lead here; its scripts may read nothing, streams included.
    let link =
        reads && !headers.contains_key(UPGRADE) && header(headers, "sec-fetch-mode").is_none_or(|m| m == "navigate");
    if !link
        && let Some(from) = header(headers, "sec-fetch-site")
        && !matches!(from, "same-origin" | "none")
    {
        return Err(refuse("this request was sent by a page of another site".into()));
    }
    // Browsers name the origin of whatever changes something, of WebSockets, and of scripts that read from elsewhere.
    if let Some(origin) = text(ORIGIN) {
        let own = match site.host() {
            // Where people reach it by TLS, a page that came without is another site.
            Some(own) if own.eq_ignore_ascii_case(host) => {
                origin.eq_ignore_ascii_case(site.public_url.trim_end_matches('/'))
            }
            _ => origin.split_once("://").map(|(_, rest)| rest) == Some(host),
        };
        if !own {
            return Err(refuse(format!(
                "Origin \"{}\" is not this server, {host}",
                shown(origin)
            )));
        }
    }
    Ok(())
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

fn refuse(detail: String) -> Problem {
    Problem::new(ProblemCode::CrossSite, detail)
}

fn shown(text: &str) -> String {
    let mut text = text.to_string();
    truncate(&mut text, 80);
    text
}

/// Whether a host, with or without a port, is one of this server's: where people are told to reach it, this machine, or an
/// address in numbers, which nobody can point elsewhere.
fn is_own(site: &Site, host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    site.host().is_some_and(|own| own.eq_ignore_ascii_case(host))
        || name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: Method, pairs: &[(&'static str, &'static str)]) -> Result<(), ProblemCode> {
        let headers = pairs.iter().map(|(k, v)| {
            let name: axum::http::HeaderName = k.parse().expect("name");
            (name, axum::http::HeaderValue::from_static(v))
        });
        let site = Site {
            public_url: "https://jobs.example.org".into(),
            ..Site::default()
        };
        check(&site, &method, &headers.collect(), None).map_err(|p| p.code)
    }

    #[test]
    fn programs_and_own_pages_pass() {
        let own = [
            ("host", "127.0.0.1:3000"),
            ("origin", "http://127.0.0.1:3000"),
            ("sec-fetch-site", "same-origin"),
        ];
        assert_eq!(ask(Method::POST, &own), Ok(()));
        assert_eq!(ask(Method::POST, &[("host", "localhost:1")]), Ok(()));
        assert_eq!(ask(Method::DELETE, &[("host", "[::1]:3000")]), Ok(()));
        assert_eq!(ask(Method::POST, &[("host", "192.0.2.7:3000")]), Ok(()));
        assert_eq!(ask(Method::POST, &[("host", "jobs.example.org")]), Ok(()));
        assert_eq!(
            ask(Method::GET, &[("host", "127.0.0.1"), ("sec-fetch-site", "cross-site")]),
            Ok(())
        );
    }

    #[test]
    fn other_sites_do_not() {
        let no = Err(ProblemCode::CrossSite);
        assert_eq!(ask(Method::GET, &[("host", "evil.example")]), no);
        assert_eq!(ask(Method::GET, &[]), no);
        assert_eq!(
            ask(Method::POST, &[("host", "localhost"), ("sec-fetch-site", "cross-site")]),
            no
        );
        assert_eq!(
            ask(Method::POST, &[("host", "localhost"), ("sec-fetch-site", "same-site")]),
            no
        );
        assert_eq!(
            ask(
                Method::POST,
                &[("host", "localhost:3000"), ("origin", "http://localhost:4000")]
            ),
            no
        );
        assert_eq!(ask(Method::POST, &[("host", "localhost:3000"), ("origin", "null")]), no);
        let script = |mode| {
            let from = ("sec-fetch-site", "cross-site");
            ask(Method::GET, &[("host", "localhost"), from, ("sec-fetch-mode", mode)])
        };
        assert_eq!((script("cors"), script("no-cors")), (no, no), "streams, too");
        assert_eq!(script("navigate"), Ok(()), "a link");
        let stream = [("host", "localhost:1"), ("origin", "http://localhost:2")];
        assert_eq!(ask(Method::GET, &stream), no);
        let without_tls = [("host", "jobs.example.org"), ("origin", "http://jobs.example.org")];
        assert_eq!(ask(Method::POST, &without_tls), no);
        let with_tls = [("host", "jobs.example.org"), ("origin", "https://jobs.example.org")];
        assert_eq!(ask(Method::POST, &with_tls), Ok(()));
        let socket = [
            ("host", "localhost"),
            ("upgrade", "websocket"),
            ("origin", "https://evil.example"),
        ];
        assert_eq!(ask(Method::GET, &socket), no);
    }
}
