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

/// A URL's password is nobody's business, whether it stands before the host or in the query. What can be meant in several ways
/// is hidden rather than shown: `@` and `?` may stand in a password that nobody encoded.
pub(super) fn without_password(value: &str) -> String {
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if HIDDEN.iter().any(|part| name.to_lowercase().contains(part)) => format!("{name}=***"),
        _ => pair.to_string(),
    };
    let pairs: Vec<String> = value
        .split_inclusive(['?', '&'])
        .map(|part| {
            let end = part.len() - usize::from(part.ends_with(['?', '&']));
            format!("{}{}", pair(&part[..end]), &part[end..])
        })
        .collect();
    let shown = pairs.concat();
    let secret = shown.split_once("://").and_then(|(scheme, rest)| {
        let (user, host) = rest.rsplit_once('@')?;
        let user = user.split([':', '?', '/']).next().unwrap_or_default();
        Some(format!("{scheme}://{user}:***@{host}"))
    });
    secret.unwrap_or(shown)
}

/// Parts of the names of what is a secret in a query: `password`, `sentinelPassword`, `sslkey`.
const HIDDEN: [&str; 4] = ["password", "secret", "key", "token"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_password_is_shown() {
        for (url, shown) in [
            ("postgres://me:hid@db:5433/jobs", "postgres://me:***@db:5433/jobs"),
            (
                "postgres://db/jobs?sslmode=require",
                "postgres://db/jobs?sslmode=require",
            ),
            (
                "postgres://db/jobs?user=me&password=hid",
                "postgres://db/jobs?user=me&password=***",
            ),
            (
                "postgres://me@db/jobs?sslkey=-----BEGIN hid=",
                "postgres://me:***@db/jobs?sslkey=***",
            ),
            (
                "redis-sentinel://:hid@one:26379,two:26379?sentinelServiceName=a&sentinelPassword=hid",
                "redis-sentinel://:***@one:26379,two:26379?sentinelServiceName=a&sentinelPassword=***",
            ),
            ("sqlite:/var/lib/windlass.db", "sqlite:/var/lib/windlass.db"),
            ("", ""),
        ] {
            assert_eq!(without_password(url), shown);
        }
        for url in [
            "postgres://db/jobs?user=me@srv&password=hid",
            "postgres://db/jobs?user=me@srv&password=hid@hid",
            "postgres://me:hid@hid@db/jobs",
            "postgres://me:hid?hid@db/jobs",
            "postgres://me:hid/hid@db/jobs",
            "postgres://me:hid&hid@db/jobs?sslmode=require",
            "redis-sentinel://one?sentinelUsername=a@b&sentinelPassword=hid",
            "rediss://cache:6380/2?PASSWORD=hid",
        ] {
            let shown = without_password(url);
            assert!(!shown.contains("hid") && shown.contains("***"), "{url}: {shown}");
        }
    }
}
