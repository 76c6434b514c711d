//! The built site: script, WASM, styles, icons. It lies in the binary, compressed beforehand; a development build reads it
//! from the target folder instead.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "target/site"]
#[allow_missing = true]
struct Site;

/// Encodings that a file may lie beside itself in, best first.
const ENCODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

/// Whether there is a file at this path.
pub fn has(path: &str) -> bool {
    Site::get(path.trim_start_matches('/')).is_some()
}

/// The file at this path, in the best encoding that the browser takes; `None` when there is none.
pub fn serve(path: &str, headers: &HeaderMap) -> Option<Response> {
    let path = path.trim_start_matches('/');
    if path.ends_with(".br") || path.ends_with(".gz") {
        return None;
    }
    let plain = Site::get(path)?;
    let accepted = headers
        .get(ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let packed = ENCODINGS
        .iter()
        .filter(|(name, _)| accepts(accepted, name))
        .find_map(|(name, suffix)| Site::get(&format!("{path}{suffix}")).map(|file| (*name, file)));
    let etag: String = plain.metadata.sha256_hash()[..12]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let etag = HeaderValue::from_str(&format!("W/\"{etag}\"")).ok()?;
    let mut answer = if headers.get(IF_NONE_MATCH) == Some(&etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let (encoding, file) = packed.map_or((None, plain), |(name, file)| (Some(name), file));
        let mut answer = Response::new(Body::from(file.data));
        if let Some(name) = encoding {
            answer
                .headers_mut()
                .insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        let media = mime_guess::from_path(path).first_or_octet_stream();
        answer
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_str(media.as_ref()).ok()?);
        answer
    };
    let headers = answer.headers_mut();
    headers.insert(ETAG, etag);
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    // The names stay the same from one version to the next: a browser asks each time and is told "not modified".
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Some(answer)
}

/// Whether an Accept-Encoding takes an encoding (RFC 9110 §12.5.3, as far as browsers use it).
fn accepts(header: &str, name: &str) -> bool {
    header.split(',').any(|part| {
        let mut words = part.split(';').map(str::trim);
        let named = words.next().is_some_and(|n| n.eq_ignore_ascii_case(name));
        named && !words.any(|q| matches!(q, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

#[cfg(test)]
mod tests {
    use super::accepts;

    #[test]
    fn encodings_are_taken_as_the_browser_says() {
        assert!(accepts("gzip, deflate, br", "br"));
        assert!(accepts("br;q=0.5", "br"));
        assert!(!accepts("br;q=0, gzip", "br"));
        assert!(!accepts("", "br") && !accepts("brotli", "br"));
    }
}
