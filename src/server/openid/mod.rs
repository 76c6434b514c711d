//! Sign-in by an OpenID provider: the authorization code flow with PKCE (OpenID Connect Core 1.0 §3.1, RFC 7636). This part speaks
//! with the provider and says who somebody is to it; what that gives them here, the service decides.

mod token;
mod web;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreClaimName, CoreClaimType, CoreClientAuthMethod,
    CoreErrorResponseType, CoreGenderClaim, CoreGrantType, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm, CoreJwsSigningAlgorithm, CoreResponseMode, CoreResponseType, CoreRevocableToken,
    CoreRevocationErrorResponse, CoreSubjectIdentifierType, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AccessToken, AccessTokenHash, AdditionalProviderMetadata, AuthType, AuthorizationCode, ClientId, ClientSecret,
    CsrfToken, DiscoveryError, EmptyExtraTokenFields, EndUserName, EndpointMaybeSet, EndpointNotSet, EndpointSet,
    IdTokenFields, IssuerUrl, LocalizedClaim, Nonce, OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier,
    ProviderMetadata, RedirectUrl, RequestTokenError, Scope, StandardErrorResponse, StandardTokenResponse,
    SubjectIdentifier, TokenResponse, UserInfoClaims, UserInfoError,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::token::{Claims, More, Refused, Token};
use self::web::Web;
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
type Tokens = StandardTokenResponse<
    IdTokenFields<
        More,
        EmptyExtraTokenFields,
        CoreGenderClaim,
        CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm,
    >,
    CoreTokenType,
>;
type TokenError = RequestTokenError<OpenidError, StandardErrorResponse<CoreErrorResponseType>>;
type Client = openidconnect::Client<
    More,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// The provider as it described itself, with the keys that it had.
struct Provider {
    at: Instant,
    client: Client,
    issuer: String,
    /// Whether it says by its name that it sends a browser back.
    says_iss: bool,
    tells_more: bool,
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
            .request_async(&self.web)
            .await
            .map_err(|error| no_tokens(error, &provider))?;
        let Some(token) = tokens.id_token() else {
            return Err(OpenidError::Token("the answer has none".into()));
        };
        let nonce = Nonce::new(begun.nonce.into());
        // A key that is not known yet may be a new one.
        let (provider, said) = match believed(&provider, &tokens, token, &nonce) {
            Err(Refused::UnknownKey) if provider.at.elapsed() > KEYS_MIN => {
                let provider = self.provider(KEYS_MIN).await?;
                let said = believed(&provider, &tokens, token, &nonce);
                (provider, said)
            }
            said => (provider, said),
        };
        let mut said = said.map_err(|refused| OpenidError::Token(plain(&refused.to_string())))?;
        let subject = said.subject.as_str();
        if subject.is_empty() || subject.len() > SUBJECT_MAX || subject.chars().any(char::is_control) {
            return Err(OpenidError::Token(format!("sub has {} bytes", subject.len())));
        }
        let groups = self.settings.groups_claim.as_str();
        let complete = said.email.is_some() && claim(&said.more, groups).is_some();
        if provider.tells_more && !complete {
            said.complement(self.userinfo(&provider, tokens.access_token(), subject).await?);
        }
        Ok(Person {
            issuer: provider.issuer.clone(),
            groups: claim(&said.more, groups).map(names).unwrap_or_default(),
            subject: said.subject,
            email: said.email,
            email_verified: said.email_verified,
            name: said.name,
        })
    }

    /// What the provider says more of somebody than the ID token.
    async fn userinfo(&self, provider: &Provider, access: &AccessToken, subject: &str) -> Result<Said, OpenidError> {
        if !access.secret().bytes().all(|b| b.is_ascii_graphic()) {
            return Err(OpenidError::Token("the access token can't be sent".into()));
        }
        // Without the subject, somebody else's could be put in their place (OpenID Connect Core §5.3.2).
        let subject = SubjectIdentifier::new(subject.into());
        let request = provider.client.user_info(access.clone(), Some(subject));
        let request = request.map_err(|_| OpenidError::Description("it names no userinfo_endpoint".into()))?;
        let told: Result<UserInfoClaims<More, CoreGenderClaim>, _> = request.request_async(&self.web).await;
        told.map(|claims| Said {
            subject: claims.subject().to_string(),
            email: claims.email().map(|email| email.to_string()),
            email_verified: claims.email_verified(),
            name: name(claims.name()),
            more: claims.additional_claims().all.clone(),
        })
        .map_err(|error| match error {
            UserInfoError::Request(error) => error,
            UserInfoError::Parse(error) => OpenidError::Token(unreadable("userinfo", &error)),
            error => OpenidError::Token(plain(&format!("userinfo: {error}"))),
        })
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
            tells_more: told.userinfo_endpoint().is_some(),
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

/// What is said of somebody.
#[derive(Debug, PartialEq)]
struct Said {
    subject: String,
    email: Option<String>,
    email_verified: Option<bool>,
    name: String,
    more: Map<String, Value>,
}

impl Said {
    /// Adds what is not there yet: the ID token's own claims are signed.
    fn complement(&mut self, more: Self) {
        // The address and whether it is verified belong together.
        if self.email.is_none() {
            (self.email, self.email_verified) = (more.email, more.email_verified);
        }
        if self.name.is_empty() {
            self.name = more.name;
        }
        for (name, value) in more.more {
            self.more.entry(name).or_insert(value);
        }
    }
}

/// What an ID token says that holds.
fn believed(provider: &Provider, tokens: &Tokens, token: &Token, nonce: &Nonce) -> Result<Said, Refused> {
    let now = Utc::now();
    let verifier = token::strict(provider.client.id_token_verifier(), now);
    let claims: &Claims = token::claims(token, &verifier, provider.client.client_id(), nonce, now)?;
    // That the access token belongs to it (OpenID Connect Core §3.1.3.8).
    if let Some(hash) = claims.access_token_hash() {
        let made = token
            .signing_alg()
            .and_then(|alg| Ok((alg, token.signing_key(&verifier)?)));
        let own = made
            .ok()
            .and_then(|(alg, key)| AccessTokenHash::from_token(tokens.access_token(), alg, key).ok());
        if own.as_ref() != Some(hash) {
            return Err(Refused::Claim("at_hash"));
        }
    }
    Ok(Said {
        subject: claims.subject().to_string(),
        email: claims.email().map(|email| email.to_string()),
        email_verified: claims.email_verified(),
        name: name(claims.name()),
        more: claims.additional_claims().all.clone(),
    })
}

fn name(claim: Option<&LocalizedClaim<EndUserName>>) -> String {
    let name = claim.and_then(|names| names.get(None));
    name.map(|name| name.to_string()).unwrap_or_default()
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

    fn said(email: Option<&str>, email_verified: Option<bool>, name: &str, more: Value) -> Said {
        Said {
            subject: "1".into(),
            email: email.map(str::to_string),
            email_verified,
            name: name.into(),
            more: object(more),
        }
    }

    #[test]
    fn what_is_signed_is_not_replaced() {
        let more = || {
            said(
                Some("eve@example.org"),
                Some(true),
                "Eve",
                json!({ "groups": ["ops"], "x": 2 }),
            )
        };
        let mut own = said(Some("ada@example.org"), None, "Ada", json!({ "x": 1 }));
        own.complement(more());
        assert_eq!(
            own,
            said(
                Some("ada@example.org"),
                None,
                "Ada",
                json!({ "groups": ["ops"], "x": 1 })
            )
        );
        let mut nothing = said(None, Some(true), "", json!({}));
        nothing.complement(more());
        assert_eq!(nothing, more());
    }

    #[test]
    fn what_others_wrote_fits_a_line() {
        assert_eq!(plain("a\nb\u{1b}[31mc"), "ab[31mc");
        assert_eq!(plain(&"x".repeat(1_000)).len(), 300);
    }
}
