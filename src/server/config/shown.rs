//! The settings as people see them.

use super::{DEFAULTS, Source};
use crate::domain::setting::{Origin, Setting};

use super::secret::without_password;

/// What is taken from the environment alone, what it is for, and whether it is shown to nobody.
const ENVIRONMENT_ONLY: [(&str, &str, bool); 5] = [
    ("ADMIN_EMAIL", "Whom the first start makes the first admin.", false),
    ("ADMIN_PASSWORD", "The first admin's password at that start.", true),
    (
        "OIDC_CLIENT_SECRET",
        "What proves this server to the OpenID provider.",
        true,
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

impl<E: Fn(&str) -> Option<String>> Source<E> {
    /// All settings, in the order of the annotated defaults.
    pub(super) fn shown(&self) -> Vec<Setting> {
        let public = annotated().into_iter().map(|(key, about)| {
            let name = key.to_uppercase();
            let default = self.defaults.get_string(&format!("windlass.{key}")).unwrap_or_default();
            Setting {
                about,
                // It was read before, or the start had failed.
                value: self.text(key).ok().map(|value| without_password(value.trim())),
                default: Some(default),
                origin: self.origin(key),
                secret: false,
                name,
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
        public.chain(alone).collect()
    }

    fn origin(&self, key: &str) -> Origin {
        let name = key.to_uppercase();
        let file = || self.file.get_string(&format!("windlass.{key}")).is_ok();
        match self.env_only(&name) {
            Some(_) if self.dotenv.contains(&name) => Origin::DotEnv,
            Some(_) => Origin::Environment,
            None if file() => Origin::File,
            None => Origin::Default,
        }
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
        for name in ["ADMIN_PASSWORD", "SECRET_KEY"] {
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
