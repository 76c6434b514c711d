//! Who asks: the session's cookie or a token, looked up before anything else is done, and compared with what the matched
//! route wants.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HeaderValue};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::callers::{Callers, Counted, Party};
use super::doors::{Door, door, is_path};
use super::extract::ApiError;
use super::{AppState, assets, proxied};
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::user::Actor;
use crate::server::config::{Config, ProxySettings};
use crate::server::openid::{Openid, OpenidError};
use crate::server::service::Service;
use crate::server::service::identity::{Credential, FRESH, Known, Origin};

/// How long a stream may go on that a proxy has let through. Whom it would let through no more, or who has lost all of their groups,
/// the database does not know; the next request, by which the browser goes on, tells.
const VOUCHED_FOR: Duration = Duration::from_secs(300);

/// Who this server is to browsers, and whom it believes.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Where people reach it, like `https://jobs.example.org`; empty: wherever it listens.
    pub public_url: String,
    /// Proxies whose word about the client's address counts.
    pub trusted: Vec<IpAddr>,
    /// Whether the first admin's link works from elsewhere than this machine.
    pub setup_anywhere: bool,
    /// How long a session's cookie is kept.
    pub session_age: Duration,
    /// How much each caller may ask for.
    pub callers: Arc<Callers>,
    /// How long a body may stall; none: for as long as it likes.
    pub patience: Option<Duration>,
    /// The provider that people may sign in by.
    pub openid: Option<Arc<Openid>>,
    /// The header in which a trusted proxy says who asks.
    pub proxy: Option<ProxySettings>,
}

impl Site {
    /// As the settings say.
    pub fn of(config: &Config) -> Result<Self, OpenidError> {
        let openid = config
            .openid
            .clone()
            .map(|settings| Openid::new(settings, &config.public_url));
        Ok(Self {
            public_url: config.public_url.clone(),
            trusted: config.trusted_proxies.clone(),
            setup_anywhere: config.setup_anywhere,
            session_age: config.session_age,
            callers: Arc::new(Callers::new(&config.edge)),
            patience: Some(config.edge.client_timeout),
            openid: openid.transpose()?.map(Arc::new),
            proxy: config.proxy.clone(),
        })
    }

    /// Whether people reach it by TLS.
    pub fn secure(&self) -> bool {
        self.public_url.starts_with("https://")
    }

    /// The host and port that people reach it by, where that is set.
    pub fn host(&self) -> Option<&str> {
        let (_, rest) = self.public_url.split_once("://")?;
        Some(rest.trim_end_matches('/'))
    }

    /// The cookie's name: behind TLS, browsers see to it that no other host has set it.
    fn cookie(&self) -> &'static str {
        if self.secure() { "__Host-windlass" } else { "windlass" }
    }

    /// Hands the browser the key of its session.
    pub fn set_cookie(&self, key: &str) -> HeaderValue {
        self.cookie_of(self.cookie(), key, self.session_age.as_secs())
    }

    /// Takes it away again.
    pub fn clear_cookie(&self) -> HeaderValue {
        self.cookie_of(self.cookie(), "", 0)
    }

    /// A cookie that scripts don't see and other sites' forms don't send. `age`: seconds.
    pub(super) fn cookie_of(&self, name: &str, value: &str, age: u64) -> HeaderValue {
        let secure = if self.secure() { "; Secure" } else { "" };
        let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}{secure}");
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
    }
}

/// A cookie's value.
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|v| v.to_str().ok());
    cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(n, _)| *n == name)
        .map(|(_, value)| value)
}

/// Who asks, as far as the request tells, and where from.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub known: Option<Known>,
    credential: Option<Credential>,
    /// Whom their requests and streams are counted for.
    party: Party,
    /// The browser's or program's address.
    pub address: String,
    /// Whether that is this machine.
    pub local: bool,
}

impl Visitor {
    /// What a sign-in of theirs is recorded with.
    pub fn origin(&self, headers: &HeaderMap) -> Origin {
        let agent = headers.get("user-agent").and_then(|v| v.to_str().ok());
        Origin {
            address: self.address.clone(),
            agent: agent.unwrap_or_default().into(),
            session: self.known.as_ref().and_then(|known| known.session.clone()),
        }
    }

    /// Refuses when this caller is known no more, or may do something else than when the request came: what is sent by and by
    /// asks again before each part.
    pub async fn still(&self, service: &Service) -> Result<(), Problem> {
        let (Some(credential), Some(known)) = (&self.credential, &self.known) else {
            return Err(nobody());
        };
        match service.is_still(credential, known).await? {
            true => Ok(()),
            false => Err(nobody()),
        }
    }

    /// A place for one more stream, to be kept for as long as it is open.
    pub fn stream(&self, site: &Site) -> Result<Counted<Party>, Problem> {
        site.callers.stream(&self.party)
    }

    /// Resolves when this caller is known no more, or may do something else than before, or has to be vouched for again: streams
    /// end then.
    pub async fn until_changed(self, service: Service) {
        let (Some(credential), Some(known)) = (self.credential, self.known) else {
            return;
        };
        let changed = async {
            let mut tick = tokio::time::interval(FRESH);
            loop {
                tick.tick().await;
                // Without a database nobody can be looked up, and nothing is told either.
                if let Ok(false) = service.is_still(&credential, &known).await {
                    return;
                }
            }
        };
        in_time(&credential, changed).await;
    }
}

/// Waits for `changed`, and for those whom a proxy vouches for no longer than [`VOUCHED_FOR`].
async fn in_time(credential: &Credential, changed: impl Future<Output = ()>) {
    match credential {
        Credential::Proxy(..) => {
            // Either way it is time to ask again.
            let _ = tokio::time::timeout(VOUCHED_FOR, changed).await;
        }
        Credential::Session(_) | Credential::Token(_) => changed.await,
    }
}

/// The caller of a request, as an extractor.
pub struct Caller(pub Actor);

/// The same with the person and session behind it.
pub struct Person(pub Known);

pub(super) fn nobody() -> Problem {
    Problem::new(
        ProblemCode::Unauthorized,
        "Sign in, or send an API token as \"Authorization: Bearer …\".",
    )
}

/// The caller of the request that these are the parts of.
pub fn visitor(parts: &Parts) -> Option<&Visitor> {
    parts.extensions.get::<Visitor>()
}

fn known(parts: &Parts) -> Result<Known, ApiError> {
    let known = visitor(parts).and_then(|visitor| visitor.known.clone());
    known.ok_or_else(|| nobody().into())
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Ok(Self(known(parts)?.actor))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Person {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Ok(Self(known(parts)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        visitor(parts).cloned().ok_or_else(|| nobody().into())
    }
}

/// What the request brings along: a token before a proxy's word, and both before a cookie, since a browser sends cookies unasked.
pub(super) fn credential(site: &Site, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<Credential> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let text = value.to_str().unwrap_or_default();
        let token = text
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        return Some(Credential::Token(
            token.map(|(_, t)| t.trim()).unwrap_or_default().into(),
        ));
    }
    proxied::credential(site, peer, headers)
        .or_else(|| cookie(headers, site.cookie()).map(|key| Credential::Session(key.into())))
}

/// Where the request comes from: the nearest address that is no trusted proxy's.
pub(super) fn client(site: &Site, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
    let peer = peer?.to_canonical();
    if !site.trusted.contains(&peer) {
        return Some(peer);
    }
    let told = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|v| v.to_str().ok());
    let told: Vec<&str> = told.flat_map(|line| line.split(',')).map(str::trim).collect();
    let mut nearest = peer;
    for text in told.iter().rev() {
        let Ok(address) = text.parse::<IpAddr>() else { break };
        nearest = address.to_canonical();
        if !site.trusted.contains(&nearest) {
            break;
        }
    }
    Some(nearest)
}

/// What whoever watches the process asks for is not counted.
const FREE: [&str; 2] = ["/healthz", "/readyz"];

/// Looks the caller up, and lets them through the door that the route has.
pub async fn authenticate(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let peer = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map(|peer| peer.0.ip());
    let client = client(&state.site, peer, request.headers());
    let address = client.map(|ip| ip.to_string()).unwrap_or_default();
    let path = request.uri().path();
    let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let free = reads && (matched.is_some_and(|path| FREE.contains(&path)) || matched.is_none() && assets::has(path));
    // Nothing of what is free depends on who asks.
    let credential = credential(&state.site, peer, request.headers()).filter(|_| !free);
    // Guesses wait for their network's turn before the database is asked. Who was known before is looked up whatever others of
    // their network do, and each request is counted once, below.
    if credential
        .as_ref()
        .is_some_and(|credential| state.service.is_guess(credential))
        && let Err(problem) = state.site.callers.turn(&Party::of(None, client))
    {
        return ApiError(problem).into_response();
    }
    let (known, kept_out) = match &credential {
        Some(credential) => match state.service.who(credential, &address).await {
            Ok(known) => (known, None),
            // Somebody whom the proxy vouches for in vain is nobody here, and told why.
            Err(problem) if problem.code == ProblemCode::Forbidden => (None, Some(problem)),
            Err(problem) => return ApiError(problem).into_response(),
        },
        None => (None, None),
    };
    let party = Party::of(known.as_ref().map(|known| &known.actor), client);
    if !free && let Err(problem) = state.site.callers.request(&party) {
        return ApiError(problem).into_response();
    }
    let door = match matched {
        Some(matched) => door(request.method(), matched),
        // What has no route is a file of the site, for everybody, or nothing.
        None if assets::has(path) => Door::Public,
        None => Door::SignedIn,
    };
    let refused = match (&known, door) {
        (_, Door::Public) => None,
        // The router says how it may be called.
        (Some(_), Door::Closed) if matched.is_some_and(is_path) => None,
        (_, Door::Closed) => Some(ApiError(Problem::not_found(format_args!("{path}"))).into_response()),
        (None, _) => Some(unknown(request.method(), request.uri(), kept_out)),
        (Some(known), door) => door
            .refuses(&known.actor)
            .map(|problem| ApiError(problem).into_response()),
    };
    if let Some(refused) = refused {
        return refused;
    }
    let visitor = Visitor {
        known,
        credential,
        party,
        local: client.is_some_and(|ip| ip.is_loopback()),
        address,
    };
    request.extensions_mut().insert(visitor);
    next.run(request).await
}

/// What somebody is answered who is not known: a page leads to the sign-in and back. `why`: a proxy vouches for them in vain.
fn unknown(method: &Method, uri: &axum::http::Uri, why: Option<Problem>) -> Response {
    let path = uri.path();
    let program = ["/api", "/rpc", "/pkg", "/metrics"]
        .iter()
        .any(|p| path == *p || path.starts_with(&format!("{p}/")));
    if program || !matches!(*method, Method::GET | Method::HEAD) {
        return ApiError(why.unwrap_or_else(nobody)).into_response();
    }
    let here = uri.path_and_query().map_or("/jobs", |p| p.as_str());
    let why = why.and_then(|problem| problem.field);
    let pairs = [("next", here)]
        .into_iter()
        .chain(why.iter().map(|why| ("problem", why.as_str())));
    let next = serde_urlencoded::to_string(pairs.collect::<Vec<_>>()).unwrap_or_default();
    Redirect::to(&format!("/sign-in?{next}")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("address");
        let site = Site {
            trusted: vec![ip("10.0.0.1"), ip("10.0.0.2")],
            ..Site::default()
        };
        let from = |peer: &str, told: &'static str| {
            let headers = HeaderMap::from_iter([(
                axum::http::HeaderName::from_static("x-forwarded-for"),
                HeaderValue::from_static(told),
            )]);
            client(&site, Some(ip(peer)), &headers).expect("address").to_string()
        };
        assert_eq!(from("192.0.2.1", "198.51.100.7"), "192.0.2.1");
        assert_eq!(from("10.0.0.1", "203.0.113.9, 198.51.100.7"), "198.51.100.7");
        assert_eq!(from("10.0.0.1", "198.51.100.7, 10.0.0.2"), "198.51.100.7");
        assert_eq!(from("10.0.0.1", "198.51.100.7, nonsense"), "10.0.0.1");
        assert_eq!(from("::ffff:10.0.0.1", "198.51.100.7"), "198.51.100.7");
    }

    #[test]
    fn a_token_goes_before_a_cookie_and_cookies_are_told_apart() {
        let site = Site::default();
        let mut headers = HeaderMap::new();
        headers.insert(
            COOKIE,
            HeaderValue::from_static("xwindlass=no; windlass=key; theme=dark"),
        );
        assert_eq!(
            credential(&site, None, &headers),
            Some(Credential::Session("key".into()))
        );
        headers.insert(AUTHORIZATION, HeaderValue::from_static("bearer abc"));
        assert_eq!(credential(&site, None, &headers), Some(Credential::Token("abc".into())));
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Basic abc"));
        assert_eq!(
            credential(&site, None, &headers),
            Some(Credential::Token(String::new()))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_a_proxy_let_through_ends_by_itself() {
        let began = tokio::time::Instant::now();
        in_time(
            &Credential::Proxy("ada@example.org".into(), None, true),
            std::future::pending(),
        )
        .await;
        assert!(began.elapsed() >= VOUCHED_FOR);
        let session = Credential::Session("key".into());
        let signed_in = in_time(&session, std::future::pending());
        assert!(tokio::time::timeout(VOUCHED_FOR * 10, signed_in).await.is_err());
    }

    #[test]
    fn behind_tls_the_cookie_is_bound_to_the_host() {
        let plain = Site {
            session_age: Duration::from_secs(60),
            ..Site::default()
        };
        assert_eq!(
            plain.set_cookie("k"),
            "windlass=k; Path=/; HttpOnly; SameSite=Lax; Max-Age=60"
        );
        let site = Site {
            public_url: "https://jobs.example.org/".into(),
            ..plain
        };
        assert_eq!(
            site.set_cookie("k"),
            "__Host-windlass=k; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure"
        );
        assert_eq!(site.host(), Some("jobs.example.org"));
    }
}
