//! Sign-in by an OpenID provider: the authorization code flow with PKCE (OpenID Connect Core 1.0 §3.1, RFC 7636). This part speaks
//! with the provider and says who somebody is to it; what that gives them here, the service decides.

mod keys;
mod token;
mod web;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use url::Url;

use self::keys::KeySet;
use self::token::Expected;
use self::web::Web;
use super::config::{OpenidSettings, is_private};

/// Where the provider sends people back to, below the public address.
pub const CALLBACK: &str = "/session/oidc/callback";
/// All that a sign-in asks of the provider on one of its two steps is answered by then, or the step has failed.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long what the provider says about itself, and its keys, are taken as they were.
const KEPT: Duration = Duration::from_secs(3_600);
/// Keys that are not older than this are not fetched anew for a token that none of them fits.
const KEYS_MIN: Duration = Duration::from_secs(10);
/// Bytes of a subject (OpenID Connect Core §2).
const SUBJECT_MAX: usize = 255;

/// Why a sign-in with the provider failed. For the server's log: strangers are told less.
#[derive(Debug, thiserror::Error)]
pub enum OpenidError {
    #[error("{url}: {reason}")]
    Away { url: String, reason: String },
    #[error("the provider did not answer within {} s", PATIENCE.as_secs())]
    Slow,
    #[error("the provider's description of itself can't be used: {0}")]
    Description(String),
    #[error("the provider took the code for no good: {0}")]
    Code(String),
    #[error("the ID token is not to be trusted: {0}")]
    Token(String),
    #[error("no connection by TLS can be made: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the system gives no random numbers")]
    Random,
}

/// A sign-in that has begun: the browser is sent to `url`, and has to come back with `state`.
#[derive(Clone, Debug)]
pub struct Begun {
    pub url: String,
    pub state: String,
    pub nonce: String,
    /// What proves that the one who hands in the code is the one who asked for it.
    pub verifier: String,
}

/// Who somebody is to the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub issuer: String,
    pub subject: String,
    pub email: Option<String>,
    /// Whether the provider has seen to it that the address is theirs; none: it does not say.
    pub email_verified: Option<bool>,
    pub name: String,
    pub groups: Vec<String>,
}

/// What the provider says about itself (OpenID Connect Discovery 1.0 §3).
#[derive(Clone, Debug, Deserialize)]
struct Description {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// What the token endpoint answers.
#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    access_token: Option<String>,
}

/// What was learnt of the provider, and when.
#[derive(Default)]
struct Learnt {
    description: Option<(Instant, Arc<Description>)>,
    keys: Option<(Instant, Arc<KeySet>)>,
}

/// A client of one provider.
pub struct Openid {
    settings: OpenidSettings,
    redirect: String,
    web: Web,
    learnt: Mutex<Learnt>,
}

impl std::fmt::Debug for Openid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Openid")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Openid {
    /// `public_url`: where people reach this server. Asks nothing of the provider yet, which may be away.
    pub fn new(settings: OpenidSettings, public_url: &str) -> Result<Self, OpenidError> {
        Ok(Self {
            redirect: format!("{}{CALLBACK}", public_url.trim_end_matches('/')),
            web: Web::new(settings.issuer.starts_with("https://"))?,
            settings,
            learnt: Mutex::default(),
        })
    }

    /// What is known of the provider from the settings.
    pub fn settings(&self) -> &OpenidSettings {
        &self.settings
    }

    /// Something that nobody guesses, for the browser to keep.
    pub fn key(&self) -> Result<String, OpenidError> {
        random()
    }

    /// Begins a sign-in.
    pub async fn begin(&self) -> Result<Begun, OpenidError> {
        let description = self.patiently(self.description()).await?;
        let (state, nonce, verifier) = (random()?, random()?, random()?);
        let mut url = Url::parse(&description.authorization_endpoint)
            .map_err(|e| OpenidError::Description(format!("authorization_endpoint: {e}")))?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", self.settings.client_id.as_str()),
            ("redirect_uri", self.redirect.as_str()),
            ("scope", self.settings.scopes.as_str()),
            ("state", state.as_str()),
            ("nonce", nonce.as_str()),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ]);
        Ok(Begun {
            url: url.into(),
            state,
            nonce,
            verifier,
        })
    }

    /// Hands the code in and says whose it is. `iss`: who says that it sends the browser back (RFC 9207).
    pub async fn finish(&self, code: &str, iss: Option<&str>, begun: &Began<'_>) -> Result<Person, OpenidError> {
        self.patiently(self.exchange(code, iss, begun)).await
    }

    async fn patiently<T>(&self, asking: impl Future<Output = Result<T, OpenidError>>) -> Result<T, OpenidError> {
        tokio::time::timeout(PATIENCE, asking)
            .await
            .unwrap_or(Err(OpenidError::Slow))
    }

    async fn exchange(&self, code: &str, iss: Option<&str>, begun: &Began<'_>) -> Result<Person, OpenidError> {
        let description = self.description().await?;
        let promised = description.authorization_response_iss_parameter_supported;
        if iss.map_or(promised, |iss| iss != description.issuer) {
            return Err(OpenidError::Code("another provider sent the browser back".into()));
        }
        let tokens = self.tokens(&description, code, begun.verifier).await?;
        let expected = Expected {
            issuer: &description.issuer,
            client: &self.settings.client_id,
            nonce: begun.nonce,
            now: chrono::Utc::now().timestamp(),
        };
        let mut claims = self.claims(&description, &tokens.id_token, &expected).await?;
        let subject = text(&claims, "sub").unwrap_or_default();
        if subject.is_empty() || subject.len() > SUBJECT_MAX || subject.chars().any(char::is_control) {
            return Err(OpenidError::Token(format!("sub has {} bytes", subject.len())));
        }
        let complete = claims.contains_key("email") && claim(&claims, &self.settings.groups_claim).is_some();
        if let (false, Some(url), Some(access)) = (complete, &description.userinfo_endpoint, &tokens.access_token) {
            let more = self.web.with_token(url, access).await?;
            let Value::Object(more) = more else {
                return Err(OpenidError::Token("userinfo is no object".into()));
            };
            // Without this, somebody else's could be put in their place (OpenID Connect Core §5.3.2).
            if text(&more, "sub").as_deref() != Some(&subject) {
                return Err(OpenidError::Token("userinfo is about another subject".into()));
            }
            complement(&mut claims, more);
        }
        Ok(Person {
            issuer: description.issuer.clone(),
            subject,
            email: text(&claims, "email"),
            // Some providers write it as text.
            email_verified: claims.get("email_verified").map(|v| *v == true || *v == "true"),
            name: text(&claims, "name").unwrap_or_default(),
            groups: claim(&claims, &self.settings.groups_claim)
                .map(names)
                .unwrap_or_default(),
        })
    }

    /// The claims of an ID token that holds. A key that is not known yet may be a new one.
    async fn claims(
        &self,
        description: &Description,
        text: &str,
        expected: &Expected<'_>,
    ) -> Result<Map<String, Value>, OpenidError> {
        let (since, keys) = self.keys(description, KEPT).await?;
        let claims = match token::claims(text, &keys, expected) {
            Err(token::Refused::UnknownKey) if since.elapsed() > KEYS_MIN => {
                let (_, keys) = self.keys(description, KEYS_MIN).await?;
                token::claims(text, &keys, expected)
            }
            answer => answer,
        };
        claims.map_err(|refused| OpenidError::Token(refused.to_string()))
    }

    async fn tokens(&self, description: &Description, code: &str, verifier: &str) -> Result<Tokens, OpenidError> {
        let OpenidSettings {
            client_id,
            client_secret,
            ..
        } = &self.settings;
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", self.redirect.as_str()),
            ("code_verifier", verifier),
        ];
        let methods = description.token_endpoint_auth_methods_supported.as_deref();
        let can = |name: &str| methods.is_none_or(|all| all.iter().any(|method| method == name));
        let basic = if can("client_secret_basic") || !can("client_secret_post") {
            // Each is encoded as in a form before they are put together (RFC 6749 §2.3.1).
            let part = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            Some(STANDARD.encode(format!("{}:{}", part(client_id), part(client_secret.reveal()))))
        } else {
            form.push(("client_id", client_id.as_str()));
            form.push(("client_secret", client_secret.reveal()));
            None
        };
        let answer = self
            .web
            .post(&description.token_endpoint, &form, basic.as_deref())
            .await;
        let answer = answer.map_err(|error| match error {
            // The status and what RFC 6749 §5.2 calls it: the code was used, is too old, or is another client's.
            OpenidError::Away { reason, .. } if reason.starts_with("400") => OpenidError::Code(reason),
            error => error,
        })?;
        serde_json::from_value(answer).map_err(|e| OpenidError::Token(format!("the answer has none: {e}")))
    }

    async fn description(&self) -> Result<Arc<Description>, OpenidError> {
        if let Some((at, description)) = &self.learnt().description
            && at.elapsed() < KEPT
        {
            return Ok(description.clone());
        }
        let issuer = &self.settings.issuer;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let told: Description = serde_json::from_value(self.web.get(&url).await?)
            .map_err(|e| OpenidError::Description(format!("{url}: {e}")))?;
        if told.issuer != *issuer {
            let detail = format!("it calls itself \"{}\"; OIDC_ISSUER is \"{issuer}\"", told.issuer);
            return Err(OpenidError::Description(detail));
        }
        let urls = [&told.authorization_endpoint, &told.token_endpoint, &told.jwks_uri];
        let more = told.userinfo_endpoint.iter();
        // What goes to a provider by TLS goes on by TLS.
        let fits = |url: &str| is_private(url) && (url.starts_with("https://") || issuer.starts_with("http://"));
        if let Some(url) = urls.into_iter().chain(more).find(|url| !fits(url)) {
            return Err(OpenidError::Description(format!("\"{url}\" is not reached by TLS")));
        }
        let told = Arc::new(told);
        self.learnt().description = Some((Instant::now(), told.clone()));
        Ok(told)
    }

    /// The provider's keys, not older than this.
    async fn keys(&self, description: &Description, age: Duration) -> Result<(Instant, Arc<KeySet>), OpenidError> {
        if let Some((at, keys)) = &self.learnt().keys
            && at.elapsed() < age
        {
            return Ok((*at, keys.clone()));
        }
        let keys = Arc::new(KeySet::read(&self.web.get(&description.jwks_uri).await?));
        let at = Instant::now();
        self.learnt().keys = Some((at, keys.clone()));
        Ok((at, keys))
    }

    fn learnt(&self) -> std::sync::MutexGuard<'_, Learnt> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was kept of a sign-in that has begun.
pub struct Began<'a> {
    pub nonce: &'a str,
    pub verifier: &'a str,
}

/// Thirty-two bytes that nobody guesses, as text that fits into a URL.
fn random() -> Result<String, OpenidError> {
    let mut bytes = [0u8; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| OpenidError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn text(claims: &Map<String, Value>, name: &str) -> Option<String> {
    claims.get(name)?.as_str().map(str::to_string)
}

/// The claim of this name or, where there is none, at this path of names with dots between them.
fn claim<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    claims.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        claim(claims.get(first)?.as_object()?, rest)
    })
}

/// Adds what is not there yet: the ID token's own claims are signed.
fn complement(claims: &mut Map<String, Value>, more: Map<String, Value>) {
    // The address and whether it is verified belong together.
    let about_email = claims.contains_key("email");
    for (name, value) in more {
        if !(about_email && name == "email_verified") {
            claims.entry(name).or_insert(value);
        }
    }
}

/// The groups of a claim: texts in a list, or one alone.
fn names(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(all) => all.iter().filter_map(|v| v.as_str().map(str::to_string)).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("object")
    }

    #[test]
    fn groups_are_found_by_name_and_by_path() {
        let claims = object(json!({ "groups": ["a", 1, "b"], "realm": { "roles": "c" }, "x.y": ["d"] }));
        let of = |name: &str| claim(&claims, name).map(names);
        assert_eq!(of("groups"), Some(vec!["a".into(), "b".into()]));
        assert_eq!(of("realm.roles"), Some(vec!["c".into()]));
        assert_eq!(of("x.y"), Some(vec!["d".into()]));
        assert_eq!((of("none"), of("realm.none"), of("groups.a")), (None, None, None));
    }

    #[test]
    fn what_is_signed_is_not_replaced() {
        let mut claims = object(json!({ "sub": "1", "email": "ada@example.org" }));
        let more = json!({ "email": "eve@example.org", "email_verified": true, "groups": ["ops"] });
        complement(&mut claims, object(more));
        assert_eq!(
            Value::Object(claims),
            json!({ "sub": "1", "email": "ada@example.org", "groups": ["ops"] })
        );
    }

    #[test]
    fn what_nobody_may_guess_is_never_the_same() {
        let (one, two) = (random().expect("random"), random().expect("random"));
        assert!(one.len() == 43 && one != two);
    }
}
