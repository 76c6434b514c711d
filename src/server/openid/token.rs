//! What an ID token has to be to count (OpenID Connect Core 1.0 §3.1.3.7). The signature, the issuer, the audience, the nonce and
//! the time are checked by the library; here is said which of all that it can do is wanted.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use openidconnect::core::{
    CoreIdToken, CoreIdTokenVerifier, CoreJsonWebKey, CoreJsonWebKeySet, CoreJwsSigningAlgorithm,
};
use openidconnect::{
    AccessToken, AccessTokenHash, ClaimsVerificationError, ClientId, JsonWebKeySet, Nonce, SignatureVerificationError,
};
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

/// The least bits of an RSA key (NIST SP 800-131A rev. 2, table 2).
const RSA_MIN: usize = 2_048;

/// Why a token is not believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the provider publishes no key that it could be signed with")]
    UnknownKey,
    #[error(transparent)]
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

/// All claims of a token that holds, as they were signed. `verifier`: as `strict` gives it; `access`: the token that came with it.
pub fn claims(
    token: &CoreIdToken,
    access: Option<&AccessToken>,
    verifier: &CoreIdTokenVerifier<'_>,
    client: &ClientId,
    nonce: &Nonce,
    now: DateTime<Utc>,
) -> Result<Map<String, Value>, Refused> {
    let read = token.claims(verifier, nonce)?;
    let ours = read.authorized_party().map(|party| party == client);
    if !ours.unwrap_or(read.audiences().len() == 1) {
        return Err(Refused::Claim("azp"));
    }
    // That the access token belongs to it (§3.1.3.8).
    if let (Some(hash), Some(access)) = (read.access_token_hash(), access) {
        let (algorithm, key) = (token.signing_alg(), token.signing_key(verifier));
        let own = algorithm.ok().zip(key.ok());
        let own = own.and_then(|(algorithm, key)| AccessTokenHash::from_token(access, algorithm, key).ok());
        if own.as_ref() != Some(hash) {
            return Err(Refused::Claim("at_hash"));
        }
    }
    let all = signed(token)?;
    // RFC 7519 §4.1.5; no standard of OpenID names it.
    let latest = (now + SKEW).timestamp() as f64;
    if all
        .get("nbf")
        .is_some_and(|at| at.as_f64().is_none_or(|at| at > latest))
    {
        return Err(Refused::Claim("nbf"));
    }
    Ok(all)
}

/// What the signature is about: the library reads the claims that it knows, and of these only as their standard has them.
fn signed(token: &CoreIdToken) -> Result<Map<String, Value>, Refused> {
    let text = token.to_string();
    let body = text
        .split('.')
        .nth(1)
        .and_then(|body| URL_SAFE_NO_PAD.decode(body).ok());
    body.and_then(|body| serde_json::from_slice(&body).ok())
        .ok_or(Refused::Claim("the payload"))
}

/// The keys that are long enough.
pub fn strong(keys: &CoreJsonWebKeySet) -> CoreJsonWebKeySet {
    let keys = keys
        .keys()
        .iter()
        .filter(|key| bits(key).is_none_or(|bits| bits >= RSA_MIN));
    JsonWebKeySet::new(keys.cloned().collect())
}

/// Bits of an RSA key's modulus; none for other keys.
fn bits(key: &CoreJsonWebKey) -> Option<usize> {
    let published = serde_json::to_value(key).ok()?;
    let modulus = URL_SAFE_NO_PAD.decode(published.get("n")?.as_str()?).ok()?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(zeros)?;
    Some((modulus.len() - zeros) * 8 - first.leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use openidconnect::{ClientSecret, IssuerUrl};
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::json;

    use super::*;

    const ISSUER: &str = "https://id.example.org";
    const NOW: i64 = 1_000_000;
    const AT_HASH: &str = "oFYf1knNtrqnhAVfBRuteQ";
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
            let token = text.parse::<CoreIdToken>().ok()?;
            let (nonce, access) = (Nonce::new("n".into()), AccessToken::new("access".into()));
            let held = claims(&token, Some(&access), &strict(verifier, now), &client, &nonce, now);
            Some(held.map(|claims| claims["sub"].as_str().unwrap_or_default().to_string()))
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
            // The left half of the SHA-256 of "access".
            ("at_hash", json!(AT_HASH)),
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
            ("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA")),
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
    fn a_key_that_is_too_short_signs_nothing() {
        let rsa = |bytes: usize| json!({ "kty": "RSA", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode(vec![0x80; bytes]) });
        let short =
            json!({ "kty": "RSA", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([vec![0], vec![0x7f; 256]].concat()) });
        let published = json!({ "keys": [rsa(64), rsa(255), short, rsa(256), rsa(512)] });
        let keys: CoreJsonWebKeySet = serde_json::from_value(published).expect("keys");
        let left: Vec<_> = strong(&keys).keys().iter().map(bits).collect();
        assert_eq!(left, [Some(2_048), Some(4_096)]);
        assert_eq!(
            strong(&Signer::new().keys).keys().len(),
            1,
            "other kinds have other lengths"
        );
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
