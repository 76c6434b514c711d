//! Sign-in by an OpenID provider: the authorization code flow with PKCE (OpenID Connect Core 1.0 §3.1, RFC 7636). This part speaks
//! with the provider and says who somebody is to it; what that gives them here, the service decides.

mod token;
mod web;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::header::{ACCEPT, AUTHORIZATION};
use chrono::Utc;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthenticationFlow, CoreClaimName, CoreClaimType, CoreClient, CoreClientAuthMethod,
    CoreErrorResponseType, CoreGrantType, CoreIdToken, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType, CoreSubjectIdentifierType,
};
use openidconnect::{
    AccessToken, AdditionalProviderMetadata, AuthType, AuthorizationCode, ClientId, ClientSecret, CsrfToken,
    DiscoveryError, EndpointMaybeSet, EndpointNotSet, EndpointSet, IssuerUrl, Nonce, OAuth2TokenResponse,
    PkceCodeChallenge, PkceCodeVerifier, ProviderMetadata, RedirectUrl, RequestTokenError, Scope,
    StandardErrorResponse, TokenResponse,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::token::Refused;
use self::web::{ForTokens, Web, causes};
use super::config::OpenidSettings;

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
/// Random bytes in what nobody may guess.
const RANDOM: u32 = 32;

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

/// What else is asked of what the provider says about itself (RFC 9207 §3).
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Promises {
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for Promises {}

type Description = ProviderMetadata<
    Promises,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;
type TokenError = RequestTokenError<OpenidError, StandardErrorResponse<CoreErrorResponseType>>;
type Client =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

/// The provider as it described itself, with the keys that it had.
struct Provider {
    at: Instant,
    client: Client,
    issuer: String,
    /// Whether it says by its name that it sends a browser back.
    says_iss: bool,
    /// Where it says more of somebody than the ID token.
    userinfo: Option<String>,
}

/// A client of one provider.
pub struct Openid {
    settings: OpenidSettings,
    redirect: String,
    web: Web,
    learnt: Mutex<Option<Arc<Provider>>>,
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
    pub fn key(&self) -> String {
        CsrfToken::new_random_len(RANDOM).into_secret()
    }

    /// Begins a sign-in.
    pub async fn begin(&self) -> Result<Begun, OpenidError> {
        let provider = self.patiently(self.provider(KEPT)).await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let scopes = self.settings.scopes.split_whitespace();
        let (url, state, nonce) = provider
            .client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                || CsrfToken::new_random_len(RANDOM),
                || Nonce::new_random_len(RANDOM),
            )
            .add_scopes(scopes.map(|scope| Scope::new(scope.into())))
            .set_pkce_challenge(challenge)
            .url();
        Ok(Begun {
            url: url.into(),
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            verifier: verifier.into_secret(),
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
        let provider = self.provider(KEPT).await?;
        if iss.map_or(provider.says_iss, |iss| iss != provider.issuer) {
            return Err(OpenidError::Code("another provider sent the browser back".into()));
        }
        let request = provider.client.exchange_code(AuthorizationCode::new(code.into()));
        let tokens = request
            .map_err(|_| OpenidError::Description("it names no token_endpoint".into()))?
            .set_pkce_verifier(PkceCodeVerifier::new(begun.verifier.into()))
            .request_async(&ForTokens(&self.web))
            .await
            .map_err(|error| no_tokens(error, &provider))?;
        let Some(token) = tokens.id_token() else {
            return Err(OpenidError::Token("the answer has none".into()));
        };
        let access = Some(tokens.access_token()).filter(|access| !access.secret().is_empty());
        let nonce = Nonce::new(begun.nonce.into());
        // A key that is not known yet may be a new one.
        let (provider, claims) = match believed(&provider, token, access, &nonce) {
            Err(Refused::UnknownKey) if provider.at.elapsed() > KEYS_MIN => {
                let provider = self.provider(KEYS_MIN).await?;
                let claims = believed(&provider, token, access, &nonce);
                (provider, claims)
            }
            claims => (provider, claims),
        };
        let mut claims = claims.map_err(|refused| OpenidError::Token(plain(&causes(&refused))))?;
        let subject = text(&claims, "sub").unwrap_or_default();
        if subject.is_empty() || subject.len() > SUBJECT_MAX || subject.chars().any(char::is_control) {
            return Err(OpenidError::Token(format!("sub has {} bytes", subject.len())));
        }
        let complete = claims.contains_key("email") && claim(&claims, &self.settings.groups_claim).is_some();
        if let (false, Some(url), Some(access)) = (complete, &provider.userinfo, access) {
            let more = self.userinfo(url, access).await?;
            // Without this, somebody else's could be put in their place (OpenID Connect Core §5.3.2).
            if text(&more, "sub").as_deref() != Some(&subject) {
                return Err(OpenidError::Token("userinfo is about another subject".into()));
            }
            complement(&mut claims, more);
        }
        Ok(Person {
            issuer: provider.issuer.clone(),
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

    /// What the provider says of the bearer of this token. Asked without the library, which takes no answer in which any of the
    /// claims that it knows is not as their standard has it, needed or not.
    async fn userinfo(&self, url: &str, access: &AccessToken) -> Result<Map<String, Value>, OpenidError> {
        let request = axum::http::Request::get(url)
            .header(ACCEPT, "application/json")
            .header(AUTHORIZATION, format!("Bearer {}", access.secret()))
            .body(Vec::new());
        let request = request.map_err(|e| OpenidError::Token(format!("userinfo can't be asked: {e}")))?;
        let answer = self.web.send(request).await?;
        if !answer.status().is_success() {
            return Err(OpenidError::Token(format!("userinfo answers {}", answer.status())));
        }
        serde_json::from_slice(answer.body()).map_err(|_| OpenidError::Token("userinfo is no object".into()))
    }

    /// The provider as it described itself not longer ago than this.
    async fn provider(&self, age: Duration) -> Result<Arc<Provider>, OpenidError> {
        if let Some(provider) = &*self.learnt()
            && provider.at.elapsed() < age
        {
            return Ok(provider.clone());
        }
        let unfit = |what: &str, error: url::ParseError| OpenidError::Description(format!("{what}: {error}"));
        let issuer = IssuerUrl::new(self.settings.issuer.clone()).map_err(|e| unfit("OIDC_ISSUER", e))?;
        let told = Description::discover_async(issuer, &self.web)
            .await
            .map_err(undescribed)?;
        let more = [
            Some(told.authorization_endpoint().as_str()),
            told.token_endpoint().map(|url| url.as_str()),
            told.userinfo_endpoint().map(|url| url.as_str()),
        ];
        for url in more.into_iter().flatten() {
            self.web.private(url)?;
        }
        // Never by a key that others could have found.
        let keys = token::strong(told.jwks());
        let told = told.set_jwks(keys);
        let methods = told.token_endpoint_auth_methods_supported();
        let can = |method: CoreClientAuthMethod| methods.is_none_or(|all| all.contains(&method));
        let basic = can(CoreClientAuthMethod::ClientSecretBasic) || !can(CoreClientAuthMethod::ClientSecretPost);
        let redirect = RedirectUrl::new(self.redirect.clone()).map_err(|e| unfit("PUBLIC_URL", e))?;
        let provider = Provider {
            at: Instant::now(),
            issuer: self.settings.issuer.clone(),
            says_iss: told
                .additional_metadata()
                .authorization_response_iss_parameter_supported,
            userinfo: told.userinfo_endpoint().map(|url| url.to_string()),
            client: Client::from_provider_metadata(
                told,
                ClientId::new(self.settings.client_id.clone()),
                Some(ClientSecret::new(self.settings.client_secret.reveal().into())),
            )
            // The settings name it, with the others.
            .disable_openid_scope()
            .set_auth_type(if basic {
                AuthType::BasicAuth
            } else {
                AuthType::RequestBody
            })
            .set_redirect_uri(redirect),
        };
        let provider = Arc::new(provider);
        *self.learnt() = Some(provider.clone());
        Ok(provider)
    }

    fn learnt(&self) -> std::sync::MutexGuard<'_, Option<Arc<Provider>>> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was kept of a sign-in that has begun.
pub struct Began<'a> {
    pub nonce: &'a str,
    pub verifier: &'a str,
}

/// What an ID token says that holds.
fn believed(
    provider: &Provider,
    token: &CoreIdToken,
    access: Option<&AccessToken>,
    nonce: &Nonce,
) -> Result<Map<String, Value>, Refused> {
    let now = Utc::now();
    let verifier = token::strict(provider.client.id_token_verifier(), now);
    token::claims(token, access, &verifier, provider.client.client_id(), nonce, now)
}

/// Why the provider gave no tokens.
fn no_tokens(error: TokenError, provider: &Provider) -> OpenidError {
    match error {
        RequestTokenError::Request(error) => error,
        // The code was used, is too old, or is another client's (RFC 6749 §5.2).
        RequestTokenError::ServerResponse(told) if *told.error() == CoreErrorResponseType::InvalidGrant => {
            OpenidError::Code(plain(told.error().as_ref()))
        }
        RequestTokenError::ServerResponse(told) => OpenidError::Away {
            url: provider
                .client
                .token_uri()
                .map(|url| url.to_string())
                .unwrap_or_default(),
            reason: plain(told.error().as_ref()),
        },
        RequestTokenError::Parse(error, _) => OpenidError::Token(unreadable("the answer", &error)),
        RequestTokenError::Other(reason) => OpenidError::Token(plain(&reason)),
    }
}

/// Why what the provider says about itself could not be had.
fn undescribed(error: DiscoveryError<OpenidError>) -> OpenidError {
    match error {
        DiscoveryError::Request(error) => error,
        DiscoveryError::Parse(error) => OpenidError::Description(unreadable("it", &error)),
        error => OpenidError::Description(plain(&error.to_string())),
    }
}

/// Where JSON could not be read: never what stood there, which may be a secret.
fn unreadable(what: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    plain(&format!(
        "{what} can't be read at {}: {:?}",
        error.path(),
        error.inner().classify()
    ))
}

/// What others wrote, for a line of the log.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

fn text(claims: &Map<String, Value>, name: &str) -> Option<String> {
    claims.get(name)?.as_str().map(str::to_string)
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

/// The claim of this name or, where there is none, at this path of names with dots between them.
fn claim<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    claims.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        claim(claims.get(first)?.as_object()?, rest)
    })
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
    fn what_others_wrote_fits_a_line() {
        assert_eq!(plain("a\nb\u{1b}[31mc"), "ab[31mc");
        assert_eq!(plain(&"x".repeat(1_000)).len(), 300);
    }
}
