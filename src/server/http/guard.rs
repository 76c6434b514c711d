//! Keeps other sites out: a page from elsewhere must not be able to act through a browser that is signed in, nor to read by
//! pointing a name of its own at this server. No other site is let in by CORS either: nothing here sends its headers.

use axum::extract::{Request, State};
use axum::http::header::UPGRADE;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::extract::ApiError;
use super::{AppState, Site, page};
use crate::domain::error::{Problem, ProblemCode, truncate};

/// Refuses requests to foreign host names, and whatever comes from other sites but the visit of a page by a link.
pub async fn guard(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (method, uri) = (request.method(), request.uri());
    match check(&state.site, method, uri.path(), request.headers(), uri.host()) {
        Ok(()) => next.run(request).await,
        // The API speaks in problems, whatever the caller would rather read.
        Err(problem) if request.uri().path().starts_with("/api/") => ApiError(problem).into_response(),
        Err(problem) => page::refusal(request.headers(), problem),
    }
}

/// What browsers say of a request by themselves (Fetch Metadata); no script can change it.
const FETCH_SITE: &str = "sec-fetch-site";
const FETCH_MODE: &str = "sec-fetch-mode";
const FETCH_DEST: &str = "sec-fetch-dest";

/// What no link of another site leads to: it is called by pages of this one and by programs, and the audit log notes some of it
/// in the name of whoever is led there.
const NO_VISITS: &str = "/api/admin/";

pub(super) fn check(
    site: &Site,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    uri_host: Option<&str>,
) -> Result<(), Problem> {
    // What can't be read is not trusted either.
    let text = |name: &str| Some(headers.get(name)?.to_str().unwrap_or("(unreadable)"));
    let host = text("host").or(uri_host).unwrap_or_default();
    if !is_own(site, host) {
        return Err(refuse(format!(
            "Host \"{}\" is not a name of this server; set PUBLIC_URL to the address that people reach it by",
            shown(host)
        )));
    }
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let streams =
        headers.contains_key(UPGRADE) || text("accept").is_some_and(|types| types.contains("text/event-stream"));
    // A link from elsewhere is followed by a navigation of the whole window; all else that another site's page asks for is to
    // be used there. Browsers that don't say, and programs, are left to what follows.
    let navigates = text(FETCH_MODE).is_none_or(|mode| mode == "navigate") && !framed(text(FETCH_DEST));
    let visits = reads && !streams && navigates && !path.starts_with(NO_VISITS);
    if let Some(site) = text(FETCH_SITE)
        && !matches!(site, "same-origin" | "none")
        && !visits
    {
        return Err(refuse("this request was sent by a page of another site".into()));
    }
    // Named for whatever changes something, for WebSockets, and for what scripts read from elsewhere.
    if let Some(origin) = text("origin")
        && !is_origin(site, origin, host)
    {
        return Err(refuse(format!(
            "Origin \"{}\" is not this server, {host}",
            shown(origin)
        )));
    }
    Ok(())
}

/// Whether what is navigated is a part of another page.
fn framed(destination: Option<&str>) -> bool {
    destination.is_some_and(|d| matches!(d, "iframe" | "frame" | "embed" | "object" | "fencedframe"))
}

/// Whether a page from there is one of this server's. Where people are told an address, the same name without TLS is another
/// site: whoever is on the network can speak for it.
fn is_origin(site: &Site, origin: &str, host: &str) -> bool {
    match site.host().is_some_and(|own| own.eq_ignore_ascii_case(host)) {
        true => origin.eq_ignore_ascii_case(site.public_url.trim_end_matches('/')),
        false => origin.split_once("://").is_some_and(|(_, rest)| rest == host),
    }
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
        ask_for(method, "/jobs", pairs)
    }

    fn ask_for(method: Method, path: &str, pairs: &[(&'static str, &'static str)]) -> Result<(), ProblemCode> {
        let headers = pairs.iter().map(|(k, v)| {
            let name: axum::http::HeaderName = k.parse().expect("name");
            (name, axum::http::HeaderValue::from_static(v))
        });
        let site = Site {
            public_url: "https://jobs.example.org".into(),
            ..Site::default()
        };
        check(&site, &method, path, &headers.collect(), None).map_err(|p| p.code)
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
    #[test]
    fn what_another_sites_page_embeds_or_reads_is_refused_and_links_are_followed() {
        let no = Err(ProblemCode::CrossSite);
        let from_elsewhere = |mode: &'static str, dest: &'static str, site: &'static str| {
            ask(
                Method::GET,
                &[
                    ("host", "localhost:3000"),
                    ("sec-fetch-site", site),
                    ("sec-fetch-mode", mode),
                    ("sec-fetch-dest", dest),
                ],
            )
        };
        assert_eq!(from_elsewhere("navigate", "document", "cross-site"), Ok(()));
        assert_eq!(from_elsewhere("no-cors", "script", "same-origin"), Ok(()));
        for (mode, dest) in [
            ("no-cors", "image"),
            ("no-cors", "script"),
            ("cors", "empty"),
            ("navigate", "iframe"),
            ("navigate", "object"),
            ("websocket", "empty"),
        ] {
            for site in ["cross-site", "same-site"] {
                assert_eq!(from_elsewhere(mode, dest, site), no, "{mode} {dest}");
            }
        }
    }

    #[test]
    fn links_of_other_sites_lead_to_no_call_for_admins() {
        let follow = |path: &str, site: &'static str| {
            let pairs = [
                ("host", "localhost:3000"),
                ("sec-fetch-site", site),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ];
            ask_for(Method::GET, path, &pairs)
        };
        let export = "/api/admin/audit-logs/export";
        for site in ["cross-site", "same-site"] {
            assert_eq!(follow(export, site), Err(ProblemCode::CrossSite), "{site}");
            assert_eq!(follow("/admin/audit-logs", site), Ok(()), "a page, by {site}");
        }
        for site in ["same-origin", "none"] {
            assert_eq!(follow(export, site), Ok(()), "{site}");
        }
    }

    #[test]
    fn streams_are_no_other_sites_to_read() {
        let stream = |pairs: &[(&'static str, &'static str)]| {
            let mut all = vec![("host", "localhost:3000"), ("accept", "text/event-stream")];
            all.extend_from_slice(pairs);
            ask(Method::GET, &all)
        };
        assert_eq!(stream(&[]), Ok(()));
        assert_eq!(stream(&[("origin", "http://localhost:3000")]), Ok(()));
        assert_eq!(
            stream(&[("origin", "http://localhost:4000")]),
            Err(ProblemCode::CrossSite)
        );
        assert_eq!(stream(&[("sec-fetch-site", "cross-site")]), Err(ProblemCode::CrossSite));
    }

    #[test]
    fn behind_tls_the_same_name_without_it_is_another_site() {
        let from = |origin| ask(Method::POST, &[("host", "jobs.example.org"), ("origin", origin)]);
        assert_eq!(from("https://jobs.example.org"), Ok(()));
        assert_eq!(from("http://jobs.example.org"), Err(ProblemCode::CrossSite));
        assert_eq!(from("https://jobs.example.org:444"), Err(ProblemCode::CrossSite));
    }
}
