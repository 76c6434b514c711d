//! What an ID token has to be to count (OpenID Connect Core 1.0 §3.1.3.7). The signature, the issuer, the audience, the nonce and
//! the time are checked by the library; here is said which of all that it can do is wanted.

use chrono::{DateTime, TimeDelta, Utc};
use openidconnect::core::{
    CoreGenderClaim, CoreIdTokenVerifier, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm,
};
use openidconnect::{
    AdditionalClaims, ClaimsVerificationError, ClientId, IdToken, IdTokenClaims, Nonce, SignatureVerificationError,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How ID tokens may be signed. Never by a shared secret, and never not at all.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// That the provider's clock and this one's may differ.
const SKEW: TimeDelta = TimeDelta::seconds(60);

/// The claims that no standard names: of these are groups.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct More {
    #[serde(flatten)]
    pub all: Map<String, Value>,
}

impl AdditionalClaims for More {}

pub type Token = IdToken<More, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;
pub type Claims = IdTokenClaims<More, CoreGenderClaim>;

/// Why a token is not believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the provider publishes no key that it could be signed with")]
    UnknownKey,
    #[error("{0}")]
    Claims(ClaimsVerificationError),
    #[error("{0} is not what it has to be")]
    Claim(&'static str),
}

impl From<ClaimsVerificationError> for Refused {
    fn from(error: ClaimsVerificationError) -> Self {
        match error {
            ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey) => {
                Self::UnknownKey
            }
            error => Self::Claims(error),
        }
    }
}

/// A verifier that knows the provider and the client, told what else is wanted.
pub fn strict(verifier: CoreIdTokenVerifier<'_>, now: DateTime<Utc>) -> CoreIdTokenVerifier<'_> {
    verifier
        .set_allowed_algs(ALGORITHMS)
        // Of several audiences one is the party that it was made for: `claims` looks at that.
        .set_other_audience_verifier_fn(|_| true)
        .set_time_fn(move || now - SKEW)
        .set_issue_time_verifier_fn(move |at| match at <= now + SKEW {
            true => Ok(()),
            false => Err("iat is to come".into()),
        })
}

/// The claims of a token that holds. `verifier`: as `strict` gives it.
pub fn claims<'t>(
    token: &'t Token,
    verifier: &CoreIdTokenVerifier<'_>,
    client: &ClientId,
    nonce: &Nonce,
    now: DateTime<Utc>,
) -> Result<&'t Claims, Refused> {
    let claims = token.claims(verifier, nonce)?;
    let ours = claims.authorized_party().map(|party| party == client);
    if !ours.unwrap_or(claims.audiences().len() == 1) {
        return Err(Refused::Claim("azp"));
    }
    // RFC 7519 §4.1.5; no standard of OpenID names it.
    let begins = claims.additional_claims().all.get("nbf");
    let latest = (now + SKEW).timestamp() as f64;
    if begins.is_some_and(|at| at.as_f64().is_none_or(|at| at > latest)) {
        return Err(Refused::Claim("nbf"));
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use openidconnect::core::CoreJsonWebKeySet;
    use openidconnect::{ClientSecret, IssuerUrl};
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::json;

    use super::*;

    const ISSUER: &str = "https://id.example.org";
    const NOW: i64 = 1_000_000;
    const MINUTE: i64 = SKEW.num_seconds();

    struct Signer {
        pair: EcdsaKeyPair,
        keys: CoreJsonWebKeySet,
    }

    impl Signer {
        fn new() -> Self {
            let random = SystemRandom::new();
            let how = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let document = EcdsaKeyPair::generate_pkcs8(how, &random).expect("key");
            let pair = EcdsaKeyPair::from_pkcs8(how, document.as_ref(), &random).expect("key");
            let point = pair.public_key().as_ref().to_vec();
            let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
            let key =
                json!({ "kty": "EC", "crv": "P-256", "kid": "a", "use": "sig", "x": part(1..33), "y": part(33..65) });
            // Keys of a kind that is not known are left out, as RFC 7517 §5 asks.
            let keys = serde_json::from_value(json!({ "keys": [{ "kty": "new" }, key] })).expect("keys");
            Self { pair, keys }
        }

        fn sign(&self, header: Value, claims: &Value) -> String {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let signed = format!("{}.{}", part(&header), part(claims));
            let signature = self
                .pair
                .sign(&SystemRandom::new(), signed.as_bytes())
                .expect("signature");
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
        }

        /// Whose token this is; nothing where it can't even be read.
        fn read(&self, text: &str) -> Option<Result<String, Refused>> {
            let (client, now) = (ClientId::new("windlass".into()), DateTime::from_timestamp(NOW, 0)?);
            let issuer = IssuerUrl::new(ISSUER.into()).expect("url");
            // With a secret, as in use: a token could be signed by it.
            let secret = ClientSecret::new("secret".into());
            let keys = self.keys.clone();
            let verifier = CoreIdTokenVerifier::new_confidential_client(client.clone(), secret, issuer, keys);
            let token = text.parse::<Token>().ok()?;
            let nonce = Nonce::new("n".into());
            let held = claims(&token, &strict(verifier, now), &client, &nonce, now);
            Some(held.map(|claims| claims.subject().to_string()))
        }
    }

    fn good() -> Value {
        json!({ "iss": ISSUER, "aud": "windlass", "exp": NOW + 300, "iat": NOW, "nonce": "n", "sub": "1" })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = good();
        claims[name] = value;
        claims
    }

    #[test]
    fn a_token_holds_when_all_of_it_does() {
        let signer = Signer::new();
        let read = |claims: &Value| signer.read(&signer.sign(json!({ "alg": "ES256", "kid": "a" }), claims));
        assert_eq!(read(&good()), Some(Ok("1".into())));
        let also = [
            ("aud", json!(["windlass"])),
            ("azp", json!("windlass")),
            ("exp", json!(NOW - MINUTE + 1)),
            ("iat", json!(NOW + MINUTE)),
            ("nbf", json!(NOW + MINUTE)),
        ];
        for (name, value) in also {
            let claims = with(name, value);
            assert!(matches!(read(&claims), Some(Ok(_))), "{claims}");
        }
        let never = [
            ("iss", json!("https://other.example.org")),
            ("aud", json!("other")),
            ("aud", json!(["other"])),
            ("aud", json!([])),
            ("aud", json!(["windlass", "other"])),
            ("azp", json!("other")),
            ("exp", json!(NOW - MINUTE - 1)),
            ("iat", json!(NOW + MINUTE + 1)),
            ("nbf", json!(NOW + MINUTE + 1)),
            ("nbf", json!("soon")),
            ("nonce", json!("m")),
            ("nonce", Value::Null),
        ];
        for (name, value) in never {
            let claims = with(name, value);
            assert!(matches!(read(&claims), Some(Err(_))), "{claims}: {:?}", read(&claims));
        }
        let mut several = with("aud", json!(["windlass", "other"]));
        several["azp"] = json!("windlass");
        assert_eq!(read(&several), Some(Ok("1".into())));
        assert_eq!(read(&with("exp", json!("soon"))), None);
    }

    #[test]
    fn only_the_providers_own_signature_counts() {
        let (signer, other) = (Signer::new(), Signer::new());
        let header = |alg: &str| json!({ "alg": alg, "kid": "a" });
        let refused = |text: &str| signer.read(text).expect("read").expect_err("refused");
        let forged = refused(&other.sign(header("ES256"), &good()));
        let ours = ClaimsVerificationError::SignatureVerification;
        assert!(
            matches!(
                &forged,
                Refused::Claims(ClaimsVerificationError::SignatureVerification(
                    SignatureVerificationError::CryptoError(_)
                ))
            ),
            "{forged:?}"
        );
        let unknown = json!({ "alg": "ES256", "kid": "b" });
        assert_eq!(refused(&signer.sign(unknown, &good())), Refused::UnknownKey);
        assert_eq!(refused(&signer.sign(header("RS256"), &good())), Refused::UnknownKey);
        let nothing = refused(&signer.sign(header("none"), &good()));
        assert_eq!(nothing, Refused::Claims(ours(SignatureVerificationError::NoSignature)));
        let shared = refused(&signer.sign(header("HS256"), &good()));
        assert!(
            matches!(
                &shared,
                Refused::Claims(ClaimsVerificationError::SignatureVerification(
                    SignatureVerificationError::DisallowedAlg(_)
                ))
            ),
            "{shared:?}"
        );
        let critical = json!({ "alg": "ES256", "kid": "a", "crit": ["x"] });
        let critical = refused(&signer.sign(critical, &good()));
        assert!(
            matches!(critical, Refused::Claims(ClaimsVerificationError::Unsupported(_))),
            "{critical:?}"
        );
        let whole = signer.sign(header("ES256"), &good());
        let (signed, _) = whole.rsplit_once('.').expect("parts");
        assert!(matches!(signer.read(&format!("{signed}.")), None | Some(Err(_))));
        for text in ["", "a.b", "a.b.c", "....", signed] {
            assert_eq!(signer.read(text), None, "{text}");
        }
        for alg in ["es256", ""] {
            assert_eq!(signer.read(&signer.sign(header(alg), &good())), None, "{alg}");
        }
    }
}
