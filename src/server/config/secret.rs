//! Settings that are secrets, and how settings with secrets in them are shown.

use super::{ConfigError, Source, bad};
use crate::server::secrets::{Redactor, SecretKey, keys};

/// Something that is shown to nobody.
#[derive(Clone)]
pub struct Secret(pub(super) String);

impl Secret {
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl<E: Fn(&str) -> Option<String>> Source<E> {
    /// The key of secrets, from the environment or a file. Nothing of it is ever said.
    pub(super) fn secret_key(&self) -> Result<Option<SecretKey>, ConfigError> {
        let file = self.text("secret_key_file")?;
        match (self.env_only("SECRET_KEY"), file.trim()) {
            (None, "") => Ok(None),
            (Some(text), "") => secret_key("SECRET_KEY", &text).map(Some),
            (Some(_), _) => Err(bad(
                "SECRET_KEY_FILE",
                file.trim(),
                "SECRET_KEY is set as well; give one of them",
            )),
            (None, file) => {
                let name = "SECRET_KEY_FILE";
                let allowed =
                    |why: String| bad(name, file, &format!("{why}; allowed is a file with {}", keys::ALLOWED));
                let text = std::fs::read_to_string(file).map_err(|e| allowed(format!("it can't be read ({e})")))?;
                let key = SecretKey::parse(&text).ok_or_else(|| allowed("it holds no key".into()))?;
                Ok(Some(key))
            }
        }
    }

    /// The keys that were used before.
    pub(super) fn secret_key_old(&self) -> Result<Vec<SecretKey>, ConfigError> {
        let text = self.env_only("SECRET_KEY_OLD").unwrap_or_default();
        let keys = text.split(',').filter(|key| !key.trim().is_empty());
        keys.map(|key| secret_key("SECRET_KEY_OLD", key)).collect()
    }

    /// What is left out of logs, besides what is always.
    pub(super) fn log_redact(&self) -> Result<Redactor, ConfigError> {
        let patterns = self.text("log_redact")?;
        Redactor::new(&patterns).map_err(|why| bad("LOG_REDACT", &patterns, &why))
    }
}

fn secret_key(name: &str, text: &str) -> Result<SecretKey, ConfigError> {
    let allowed = format!("allowed is {}", keys::ALLOWED);
    SecretKey::parse(text).ok_or_else(|| bad(name, "(not shown)", &allowed))
}

/// A URL's password is nobody's business, whether it stands before the host or in the query.
pub(super) fn without_password(value: &str) -> String {
    let secret = value.split_once("://").and_then(|(scheme, rest)| {
        let (user, host) = rest.rsplit_once('@')?;
        let user = user.split([':', '?']).next().unwrap_or_default();
        Some(format!("{scheme}://{user}:***@{host}"))
    });
    let shown = secret.unwrap_or_else(|| value.to_string());
    let Some((address, query)) = shown.split_once('?') else {
        return shown;
    };
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if name.to_lowercase().contains("password") => format!("{name}=***"),
        _ => pair.to_string(),
    };
    let pairs: Vec<String> = query.split('&').map(pair).collect();
    format!("{address}?{}", pairs.join("&"))
}
