//! Secrets: args that are encrypted wherever they lie ([`Secrets::seal`]), the keys for that, and what is left out of logs and
//! errors ([`redact`]).

pub mod keys;
mod places;
pub mod redact;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, NONCE_LEN, Nonce};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};

use keys::Keys;
pub use keys::SecretKey;
pub use places::{Places, field, position};
pub use redact::{Redactor, Veil};

use crate::domain::secret::{MASK, SEALED, sealed};

/// How ciphertexts begin that this version writes.
const VERSION: &str = "v1";

/// Why a secret can't be encrypted or read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("there is no key for secrets: set SECRET_KEY or SECRET_KEY_FILE")]
    NoKey,
    #[error("the key {0} that it was encrypted with is not here: give it as SECRET_KEY_OLD")]
    UnknownKey(String),
    /// Changed, moved here from elsewhere, or encrypted with another key of the same name.
    #[error("what is stored is not what was encrypted for this place")]
    Refused,
    #[error("what is stored is not in a form that this version reads")]
    Malformed,
    #[error("{} holds no key; allowed: {}", .0.display(), keys::ALLOWED)]
    BadFile(PathBuf),
    #[error("{what}: {source}")]
    File {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the system gives no random numbers")]
    Random,
    #[error("the cipher can't be used")]
    Cipher,
}

/// A place in args whose secret can't be read, and why.
#[derive(Debug, thiserror::Error)]
#[error("{field} can't be read: {source}")]
pub struct Unreadable {
    /// As errors name it: `args.password`.
    pub field: String,
    #[source]
    pub source: SecretError,
}

/// The secrets of this process: its keys, and what is left out of logs. Cheap to clone.
#[derive(Clone)]
pub struct Secrets {
    keys: Arc<Keys>,
    redactor: Redactor,
}

impl Secrets {
    /// `current` encrypts; `old` ones decrypt, too. `file`: where a key is found or made when there is no `current` one; none:
    /// nowhere.
    pub fn new(
        current: Option<&SecretKey>,
        old: &[SecretKey],
        file: Option<PathBuf>,
        redactor: Redactor,
    ) -> Result<Self, SecretError> {
        Ok(Self {
            keys: Arc::new(Keys::new(current, old, file)?),
            redactor,
        })
    }

    /// Whether new secrets can be encrypted.
    pub fn can_seal(&self) -> bool {
        self.keys.can_seal()
    }

    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Encrypts the secrets in `args` of a `kind`: those at its `places`, and at `more` pointers. What is null stays so.
    pub fn seal(
        &self,
        kind: &str,
        places: Option<&Places>,
        more: Vec<String>,
        args: &mut Value,
    ) -> Result<(), SecretError> {
        let found = places.map(|places| places.find(args)).unwrap_or_default();
        for pointer in places::together(found, more) {
            let Some(value) = args.pointer_mut(&pointer).filter(|value| !value.is_null()) else {
                continue;
            };
            *value = self.encrypt(kind, &pointer, value)?;
        }
        Ok(())
    }

    /// Decrypts all secrets in stored `args` of a `kind`. Answers with pointers to them.
    pub fn open(&self, kind: &str, args: &mut Value) -> Result<Vec<String>, Unreadable> {
        let pointers = places::find_sealed(args);
        for pointer in &pointers {
            let Some(value) = args.pointer_mut(pointer) else {
                continue;
            };
            let text = sealed(value).unwrap_or_default();
            *value = self.decrypt(kind, pointer, text).map_err(|source| Unreadable {
                field: field(pointer),
                source,
            })?;
        }
        Ok(pointers)
    }

    fn encrypt(&self, kind: &str, pointer: &str, value: &Value) -> Result<Value, SecretError> {
        let key = self.keys.to_seal()?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SecretError::Random)?;
        let mut text = value.to_string().into_bytes();
        let nonced = Nonce::assume_unique_for_key(nonce);
        key.cipher
            .seal_in_place_append_tag(nonced, Aad::from(place(kind, pointer)), &mut text)
            .map_err(|_| SecretError::Cipher)?;
        let mut bytes = nonce.to_vec();
        bytes.append(&mut text);
        let text = format!("{VERSION}.{}.{}", key.id, URL_SAFE_NO_PAD.encode(bytes));
        Ok(json!({ SEALED: text }))
    }

    fn decrypt(&self, kind: &str, pointer: &str, text: &str) -> Result<Value, SecretError> {
        let mut parts = text.splitn(3, '.');
        let (Some(VERSION), Some(id), Some(bytes)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(SecretError::Malformed);
        };
        let mut bytes = URL_SAFE_NO_PAD.decode(bytes).map_err(|_| SecretError::Malformed)?;
        let key = self.keys.to_open(id)?;
        let (nonce, text) = bytes.split_at_mut_checked(NONCE_LEN).ok_or(SecretError::Malformed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SecretError::Malformed)?;
        let plain = key
            .cipher
            .open_in_place(nonce, Aad::from(place(kind, pointer)), text)
            .map_err(|_| SecretError::Refused)?;
        serde_json::from_slice(plain).map_err(|_| SecretError::Malformed)
    }
}

/// What a ciphertext is bound to. Names of kinds have no line breaks.
fn place(kind: &str, pointer: &str) -> Vec<u8> {
    format!("windlass secret {VERSION}\n{kind}\n{pointer}").into_bytes()
}

/// Stored `args` of a kind with these `places` as they may be shown: a mask for each secret, encrypted or not.
pub fn mask(places: Option<&Places>, args: &mut Value) {
    for pointer in places::find_sealed(args) {
        if let Some(value) = args.pointer_mut(&pointer) {
            *value = MASK.into();
        }
    }
    for pointer in places.map(|places| places.find(args)).unwrap_or_default() {
        if let Some(value) = args.pointer_mut(&pointer) {
            *value = MASK.into();
        }
    }
}

/// Puts the secrets of args that were there before into `given` ones, wherever these show the mask as they were given it:
/// `masked` are the old args as they are shown, `open` the same with their secrets.
///
/// An item of a list takes its secrets from the old item that it is equal to, as far as that is shown, and that stands at the
/// same place of a list as long, or else is the only such one. What could be another's secret is not guessed at.
pub fn restore(given: &mut Value, masked: &Value, open: &Value) {
    if given == MASK && masked == MASK {
        *given = open.clone();
        return;
    }
    match (given, masked, open) {
        (Value::Object(given), Value::Object(masked), Value::Object(open)) => {
            for (name, value) in given {
                if let (Some(masked), Some(open)) = (masked.get(name), open.get(name)) {
                    restore(value, masked, open);
                }
            }
        }
        (Value::Array(given), Value::Array(masked), Value::Array(open)) => {
            let as_long = given.len() == masked.len();
            for (i, item) in given.iter_mut().enumerate() {
                let here = masked
                    .get(i)
                    .zip(open.get(i))
                    .filter(|(masked, _)| as_long && **masked == *item);
                let mut same = masked.iter().zip(open).filter(|(masked, _)| **masked == *item);
                let only = match (same.next(), same.next()) {
                    (one, None) => one,
                    _ => None,
                };
                if let Some((_, open)) = here.or(only) {
                    *item = open.clone();
                }
            }
        }
        _ => {}
    }
}
