//! Settings, as people see them: what this process was started with, and where each value comes from.

use serde::{Deserialize, Serialize};

/// Where a value comes from; what stands later wins over what stands before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Default,
    /// `Leptos.toml` in the working folder.
    File,
    /// `.env` in the working folder or one above it.
    DotEnv,
    Environment,
}

impl Origin {
    pub fn label(self) -> &'static str {
        match self {
            Self::Default => "Default",
            Self::File => "Leptos.toml",
            Self::DotEnv => ".env",
            Self::Environment => "Environment",
        }
    }
}

/// One setting. Changed only by a start with another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Setting {
    /// As it is set in the environment: `LISTEN`.
    pub name: String,
    /// What it is for.
    pub about: String,
    /// As it was given, without passwords; empty: not set. Of a secret never.
    pub value: Option<String>,
    /// What it is when nothing is given; empty: nothing. Secrets have none.
    pub default: Option<String>,
    pub origin: Origin,
    /// Whether it is shown to nobody.
    pub secret: bool,
}

impl Setting {
    /// Whether it was given at all.
    pub fn is_given(&self) -> bool {
        self.origin != Origin::Default
    }

    /// Whether it speaks of all these words.
    pub fn matches(&self, words: &str) -> bool {
        let text = [&self.name, &self.about, self.value.as_deref().unwrap_or_default()]
            .join("\n")
            .to_lowercase();
        words.to_lowercase().split_whitespace().all(|word| text.contains(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_found_by_its_name_its_value_and_what_it_is_for() {
        let setting = Setting {
            name: "JOB_TIMEOUT".into(),
            about: "The longest that one attempt may run.".into(),
            value: Some("90s".into()),
            default: Some("600s".into()),
            origin: Origin::DotEnv,
            secret: false,
        };
        for words in ["", "timeout", "job ATTEMPT", "90s"] {
            assert!(setting.matches(words), "{words}");
        }
        assert!(!setting.matches("timeout lease") && setting.is_given());
    }
}
