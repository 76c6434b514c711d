//! A provider's public keys (RFC 7517, 7518), and whether a signature is by one of them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

/// How ID tokens may be signed. Never by a shared secret, and never not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &RSA_PSS_2048_8192_SHA512,
            Self::Es256 | Self::Es384 | Self::EdDsa => return None,
        })
    }
}

/// A key as it is published.
#[derive(Debug, Deserialize)]
struct Key {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The keys of a provider.
#[derive(Debug, Default)]
pub struct KeySet(Vec<Key>);

impl KeySet {
    /// Keys of kinds that are not known here are left out, as RFC 7517 §5 asks.
    pub fn read(document: &Value) -> Self {
        let keys = document["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
        let read = keys.iter().filter_map(|key| serde_json::from_value(key.clone()).ok());
        Self(read.collect())
    }

    /// Whether the signature is by the key of this name (`None`: by any); nothing: no such key is known.
    pub fn verify(&self, algorithm: Algorithm, kid: Option<&str>, message: &[u8], signature: &[u8]) -> Option<bool> {
        let mut fitting = self.0.iter().filter(|key| key.fits(algorithm, kid)).peekable();
        fitting.peek()?;
        Some(fitting.any(|key| key.verifies(algorithm, message, signature)))
    }
}

impl Key {
    fn fits(&self, algorithm: Algorithm, kid: Option<&str>) -> bool {
        let kind = match algorithm {
            Algorithm::Es256 => self.kty == "EC" && self.crv.as_deref() == Some("P-256"),
            Algorithm::Es384 => self.kty == "EC" && self.crv.as_deref() == Some("P-384"),
            Algorithm::EdDsa => self.kty == "OKP" && self.crv.as_deref() == Some("Ed25519"),
            _ => self.kty == "RSA",
        };
        let named = kid.zip(self.kid.as_deref()).is_none_or(|(wanted, own)| wanted == own);
        let alg = self.alg.as_deref();
        kind && named
            && self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && alg.is_none_or(|alg| Algorithm::parse(alg) == Some(algorithm))
    }

    fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.checked(algorithm, message, signature).is_some()
    }

    fn checked(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Option<()> {
        let part = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        if let Some(parameters) = algorithm.rsa() {
            let (n, e) = (part(&self.n)?, part(&self.e)?);
            let key = RsaPublicKeyComponents {
                n: without_zeros(&n),
                e: without_zeros(&e),
            };
            return key.verify(parameters, message, signature).ok();
        }
        let x = part(&self.x)?;
        match algorithm {
            Algorithm::EdDsa => UnparsedPublicKey::new(&ED25519, x).verify(message, signature).ok(),
            _ => {
                // Uncompressed, as SEC 1 §2.3.3 writes a point.
                let point = [&[4][..], &x, &part(&self.y)?].concat();
                let how = match algorithm {
                    Algorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
                    _ => &ECDSA_P256_SHA256_FIXED,
                };
                UnparsedPublicKey::new(how, point).verify(message, signature).ok()
            }
        }
    }
}

/// A number without leading zeros, of which some providers write one.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    &bytes[zeros..]
}
