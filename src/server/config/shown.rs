//! The settings as people see them.

use super::{DEFAULTS, Source};
use crate::domain::setting::{Origin, Setting};

use super::secret::without_password;

/// What is taken from the environment alone, what it is for, and whether it is shown to nobody.
const ENVIRONMENT_ONLY: [(&str, &str, bool); 6] = [
    ("ADMIN_EMAIL", "Whom the first start makes the first admin.", false),
    ("ADMIN_PASSWORD", "The first admin's password at that start.", true),
    (
        "OIDC_CLIENT_SECRET",
        "What proves this server to the OpenID provider.",
        true,
    ),
    (
        "OIDC_CLIENT_SECRET_FILE",
        "A file with the same, instead of OIDC_CLIENT_SECRET.",
        false,
    ),
    (
        "SECRET_KEY",
        "The key that encrypts secret args; without it SECRET_KEY_FILE, or secret.key in the data directory.",
        true,
    ),
    (
        "SECRET_KEY_OLD",
        "Keys that were used before: what they encrypted can still be read.",
        true,
    ),
];

/// Of the annotated ones: those that may have passwords in them, and those that people may write secrets into.
const URLS: [&str; 2] = ["database_url", "redis_url"];
const SECRETS: [&str; 1] = ["log_redact"];

impl<E: Fn(&str) -> Option<String>> Source<E> {
    /// All settings, in the order of the annotated defaults.
    pub(super) fn shown(&self) -> Vec<Setting> {
        let annotated = annotated().into_iter().map(|(key, about)| {
            let secret = SECRETS.contains(&key);
            // It was read before, or the start had failed.
            let value = self.text(key).unwrap_or_default();
            let value = match URLS.contains(&key) {
                true => without_password(value.trim()),
                false => value,
            };
            Setting {
                about,
                value: (!secret).then_some(value),
                default: (!secret).then(|| self.default(key)),
                origin: self.origin(key),
                secret,
                name: key.to_uppercase(),
            }
        });
        let alone = ENVIRONMENT_ONLY.into_iter().map(|(name, about, secret)| {
            let value = || self.env_only(name).unwrap_or_default();
            Setting {
                name: name.into(),
                about: about.into(),
                value: (!secret).then(value),
                default: (!secret).then(String::new),
                origin: self.origin(&name.to_lowercase()),
                secret,
            }
        });
        annotated.chain(alone).collect()
    }

    fn origin(&self, key: &str) -> Origin {
        let name = key.to_uppercase();
        // A file that says what is so anyway gives nothing: the one that comes along says it of all.
        let file = || {
            self.file
                .get_string(&format!("windlass.{key}"))
                .is_ok_and(|v| v != self.default(key))
        };
        match self.env_only(&name) {
            Some(_) if self.dotenv.contains(&name) => Origin::DotEnv,
            Some(_) => Origin::Environment,
            None if file() => Origin::File,
            None => Origin::Default,
        }
    }

    fn default(&self, key: &str) -> String {
        self.defaults.get_string(&format!("windlass.{key}")).unwrap_or_default()
    }
}

/// The settings of [`DEFAULTS`], each with the comment above it.
fn annotated() -> Vec<(&'static str, String)> {
    let (mut settings, mut about) = (Vec::new(), Vec::new());
    let lines = DEFAULTS.lines().skip_while(|line| *line != "[windlass]").skip(1);
    for line in lines.take_while(|line| !line.starts_with('[')) {
        if let Some(comment) = line.strip_prefix('#') {
            about.push(comment.trim());
        } else if let Some((key, _)) = line.split_once('=') {
            settings.push((key.trim(), std::mem::take(&mut about).join(" ")));
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::load;
    use super::*;

    #[test]
    fn every_setting_is_shown_with_what_it_is_for() {
        let shown = load(&[]).expect("settings").settings;
        let names: BTreeSet<&str> = shown.iter().map(|s| s.name.as_str()).collect();
        assert!(names.len() == shown.len() && names.contains("LISTEN") && names.contains("LOG_LEVEL"));
        let mute: Vec<_> = shown.iter().filter(|s| s.about.len() < 10).collect();
        assert!(mute.is_empty(), "{mute:?}");
        assert!(
            shown
                .iter()
                .all(|s| s.origin == Origin::Default && (s.secret || s.value == s.default))
        );
        // What the code takes from the environment alone is in the list, too.
        let sources = [
            include_str!("../config.rs"),
            include_str!("secret.rs"),
            include_str!("sign_in.rs"),
        ];
        let taken = sources.iter().flat_map(|text| text.split("env_only(\"").skip(1));
        for name in taken.filter_map(|rest| rest.split('"').next()) {
            assert!(names.contains(name), "{name} is not shown");
        }
    }

    #[test]
    fn a_setting_says_where_it_comes_from_and_a_secret_never_what_it_is() {
        let given = [
            ("DATABASE_URL", "postgres://me:hidden-1@db/jobs"),
            ("ADMIN_EMAIL", "ada@example.org"),
            ("ADMIN_PASSWORD", "hidden-2 is long enough"),
            ("SECRET_KEY", &"0123456789abcdef".repeat(4)),
            ("WORKER_CONCURRENCY", "3"),
            ("LOG_REDACT", "hidden-3"),
        ];
        let shown = load(&given).expect("settings").settings;
        let of = |name: &str| shown.iter().find(|s| s.name == name).cloned().expect("setting");
        let slots = of("WORKER_CONCURRENCY");
        assert_eq!(
            (slots.value.as_deref(), slots.default.as_deref()),
            (Some("3"), Some("10"))
        );
        assert_eq!(
            (slots.origin, of("LISTEN").origin),
            (Origin::Environment, Origin::Default)
        );
        assert_eq!(of("DATABASE_URL").value.as_deref(), Some("postgres://me:***@db/jobs"));
        assert_eq!(of("ADMIN_EMAIL").value.as_deref(), Some("ada@example.org"));
        for name in ["ADMIN_PASSWORD", "SECRET_KEY", "LOG_REDACT"] {
            let secret = of(name);
            assert!(
                secret.secret && secret.is_given() && secret.value.is_none(),
                "{secret:?}"
            );
        }
        assert!(!of("OIDC_CLIENT_SECRET").is_given());
        let whole = serde_json::to_string(&shown).expect("json");
        assert!(
            !whole.contains("hidden") && !whole.contains("0123456789abcdef"),
            "{whole}"
        );
    }
}
