//! ID tokens (OpenID Connect Core 1.0 §2, RFC 7515): read, and believed only when everything about them holds.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::{Algorithm, KeySet};

/// Seconds that the provider's clock and this one's may differ.
const SKEW: i64 = 60;

/// What a token has to say.
pub struct Expected<'a> {
    pub issuer: &'a str,
    /// The audience.
    pub client: &'a str,
    pub nonce: &'a str,
    /// Seconds since 1970.
    pub now: i64,
}

/// Why a token is not believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it is no signed JSON token")]
    Malformed,
    #[error("alg is \"{0}\"; allowed are RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA")]
    Algorithm(String),
    #[error("it asks for extensions that are not known here")]
    Critical,
    #[error("the provider publishes no key that it could be signed with")]
    UnknownKey,
    #[error("the signature is not by the provider's key")]
    Signature,
    #[error("{0} is not what it has to be")]
    Claim(&'static str),
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// The claims of a token that holds.
pub fn claims(text: &str, keys: &KeySet, expected: &Expected<'_>) -> Result<Map<String, Value>, Refused> {
    let mut parts = text.split('.');
    let (Some(header), Some(body), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refused::Malformed);
    };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Refused::Malformed);
    let Header { alg, kid, crit } = serde_json::from_slice(&decode(header)?).map_err(|_| Refused::Malformed)?;
    if crit.is_some() {
        return Err(Refused::Critical);
    }
    let algorithm = Algorithm::parse(&alg).ok_or(Refused::Algorithm(alg))?;
    let signed = &text[..header.len() + 1 + body.len()];
    match keys.verify(algorithm, kid.as_deref(), signed.as_bytes(), &decode(signature)?) {
        Some(true) => {}
        Some(false) => return Err(Refused::Signature),
        None => return Err(Refused::UnknownKey),
    }
    let claims: Map<String, Value> = serde_json::from_slice(&decode(body)?).map_err(|_| Refused::Malformed)?;
    check(&claims, expected)?;
    Ok(claims)
}

/// OpenID Connect Core §3.1.3.7.
fn check(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), Refused> {
    let says = |name: &str, what: &str| claims.get(name).and_then(Value::as_str) == Some(what);
    let seconds = |name: &str| claims.get(name).and_then(Value::as_f64).map(|s| s as i64);
    let ours = match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().any(|one| one == expected.client),
        Some(one) => one == expected.client,
        None => false,
    };
    let several = claims
        .get("aud")
        .and_then(Value::as_array)
        .is_some_and(|all| all.len() > 1);
    let held = [
        ("iss", says("iss", expected.issuer)),
        ("aud", ours),
        (
            "azp",
            says("azp", expected.client) || !several && !claims.contains_key("azp"),
        ),
        ("exp", seconds("exp").is_some_and(|at| at > expected.now - SKEW)),
        ("iat", seconds("iat").is_some_and(|at| at <= expected.now + SKEW)),
        ("nbf", seconds("nbf").is_none_or(|at| at <= expected.now + SKEW)),
        ("nonce", says("nonce", expected.nonce)),
    ];
    match held.into_iter().find(|(_, holds)| !holds) {
        None => Ok(()),
        Some((name, _)) => Err(Refused::Claim(name)),
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::json;

    use super::*;

    const EXPECTED: Expected<'static> = Expected {
        issuer: "https://id.example.org",
        client: "windlass",
        nonce: "n",
        now: 1_000_000,
    };

    struct Signer {
        pair: EcdsaKeyPair,
        keys: KeySet,
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
            let keys = KeySet::read(&json!({ "keys": [{ "kty": "new" }, key] }));
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
    }

    fn good() -> Value {
        json!({ "iss": EXPECTED.issuer, "aud": "windlass", "exp": 1_000_300, "iat": 1_000_000, "nonce": "n", "sub": "1" })
    }

    #[test]
    fn a_token_holds_when_all_of_it_does() {
        let signer = Signer::new();
        let header = json!({ "alg": "ES256", "kid": "a" });
        let read = |claims: &Value| super::claims(&signer.sign(header.clone(), claims), &signer.keys, &EXPECTED);
        assert_eq!(read(&good()).expect("claims")["sub"], "1");
        let also = [
            ("aud", json!(["windlass"])),
            ("azp", json!("windlass")),
            ("exp", json!(EXPECTED.now - SKEW + 1)),
            ("iat", json!(EXPECTED.now + SKEW)),
        ];
        for (name, value) in also {
            let mut claims = good();
            claims[name] = value;
            assert!(read(&claims).is_ok(), "{claims}");
        }
        let never = [
            ("iss", json!("https://other.example.org")),
            ("aud", json!("other")),
            ("aud", json!(["other"])),
            ("azp", json!("other")),
            ("exp", json!(EXPECTED.now - SKEW)),
            ("exp", json!("soon")),
            ("iat", json!(EXPECTED.now + SKEW + 1)),
            ("nbf", json!(EXPECTED.now + SKEW + 1)),
            ("nonce", json!("m")),
            ("nonce", Value::Null),
        ];
        for (name, value) in never {
            let mut claims = good();
            claims[name] = value;
            assert_eq!(read(&claims), Err(Refused::Claim(name)), "{claims}");
        }
        let mut several = good();
        several["aud"] = json!(["windlass", "other"]);
        assert_eq!(read(&several), Err(Refused::Claim("azp")));
    }

    #[test]
    fn only_the_providers_own_signature_counts() {
        let (signer, other) = (Signer::new(), Signer::new());
        let read = |text: &str| super::claims(text, &signer.keys, &EXPECTED).expect_err("refused");
        let header = |alg: &str| json!({ "alg": alg, "kid": "a" });
        assert_eq!(read(&other.sign(header("ES256"), &good())), Refused::Signature);
        let unknown = json!({ "alg": "ES256", "kid": "b" });
        assert_eq!(read(&signer.sign(unknown, &good())), Refused::UnknownKey);
        assert_eq!(read(&signer.sign(header("RS256"), &good())), Refused::UnknownKey);
        for alg in ["none", "HS256", "es256", ""] {
            assert_eq!(read(&signer.sign(header(alg), &good())), Refused::Algorithm(alg.into()));
        }
        let critical = json!({ "alg": "ES256", "kid": "a", "crit": ["x"] });
        assert_eq!(read(&signer.sign(critical, &good())), Refused::Critical);
        let whole = signer.sign(header("ES256"), &good());
        let (signed, _) = whole.rsplit_once('.').expect("parts");
        assert_eq!(read(&format!("{signed}.")), Refused::Signature);
        for text in ["", "a.b", "a.b.c", "....", signed] {
            assert_eq!(read(text), Refused::Malformed, "{text}");
        }
    }
}
