//! The settings of sign-ins that somebody else vouches for: an OpenID provider, or a proxy in front.

use axum::http::HeaderName;
use axum::http::header::{AUTHORIZATION, COOKIE, FORWARDED, HOST, ORIGIN};
use url::{Host, Url};

use super::{ConfigError, Secret, Source, bad};
use crate::domain::groups::RoleMap;

const ROLES: &str = "GROUP=ROLE, … with the roles admin, manager, member and viewer, like ops=admin, dev=manager, *=member (* is \
    everybody else; a group is named once)";

/// Sign-in by an OpenID provider.
#[derive(Clone, Debug)]
pub struct OpenidSettings {
    /// Exactly as the provider calls itself.
    pub issuer: String,
    pub client_id: String,
    pub client_secret: Secret,
    /// What people call it: "Sign in with NAME".
    pub name: String,
    /// Between spaces; `openid` among them.
    pub scopes: String,
    /// The claim that holds the groups; a dot leads into an object.
    pub groups_claim: String,
    pub roles: RoleMap,
}

/// Sign-in by a header that a trusted proxy sets.
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// Holds an e-mail address.
    pub user: HeaderName,
    /// Holds groups with commas between them; none: the role is given once, at first sight.
    pub groups: Option<HeaderName>,
    pub roles: RoleMap,
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// Whether a provider's address keeps what is sent there to itself: by TLS, or within this machine.
pub fn is_private(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return false,
    };
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    plain && (url.scheme() == "https" || url.scheme() == "http" && here)
}

impl<E: Fn(&str) -> Option<String>> Source<E> {
    /// `OIDC_…`
    pub(super) fn openid(&self) -> Result<Option<OpenidSettings>, ConfigError> {
        let some = |key: &str, allowed: &str| {
            self.parse(key, allowed, |v| {
                let fits = (1..=200).contains(&v.len()) && !v.chars().any(char::is_control);
                fits.then(|| v.to_string())
            })
        };
        let issuer = self.parse(
            "oidc_issuer",
            "empty, or the provider's https:// address (http:// within this machine only), as it calls itself",
            |v| (v.is_empty() || is_private(v) && !v.contains('?')).then(|| v.to_string()),
        )?;
        let settings = OpenidSettings {
            client_id: self.text("oidc_client_id")?.trim().into(),
            client_secret: Secret::from(""),
            name: some("oidc_name", "what people call the provider, at most 200 bytes")?,
            scopes: self.parse("oidc_scopes", "NAME, …, openid among them", |v| {
                let names: Vec<&str> = v.split([',', ' ']).filter(|name| !name.is_empty()).collect();
                let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
                (names.contains(&"openid") && names.concat().chars().all(fits)).then(|| names.join(" "))
            })?,
            groups_claim: some(
                "oidc_groups_claim",
                "the name of a claim, like groups or realm_access.roles",
            )?,
            roles: self.parse("oidc_roles", ROLES, RoleMap::parse)?,
            issuer,
        };
        if settings.issuer.is_empty() {
            return Ok(None);
        }
        let missing = |name: &str, allowed: &str| bad(name, "", &format!("OIDC_ISSUER needs it: {allowed}"));
        if self.text("public_url")?.trim().is_empty() {
            let allowed = "the provider has to know where people come back to, like https://jobs.example.org";
            return Err(missing("PUBLIC_URL", allowed));
        }
        if settings.client_id.is_empty() {
            return Err(missing("OIDC_CLIENT_ID", "what the provider calls this client"));
        }
        if settings.roles.is_empty() {
            return Err(missing("OIDC_ROLES", ROLES));
        }
        Ok(Some(OpenidSettings {
            client_secret: self.client_secret()?,
            ..settings
        }))
    }

    /// From the environment alone, or from the file that it names.
    fn client_secret(&self) -> Result<Secret, ConfigError> {
        let (told, file) = ("OIDC_CLIENT_SECRET", "OIDC_CLIENT_SECRET_FILE");
        let secret = match (
            self.env_only("OIDC_CLIENT_SECRET"),
            self.env_only("OIDC_CLIENT_SECRET_FILE"),
        ) {
            (Some(secret), None) => secret,
            (None, Some(path)) => std::fs::read_to_string(path.trim())
                .map_err(|error| bad(file, &path, &format!("allowed is a file that can be read ({error})")))?,
            _ => {
                let allowed = "OIDC_ISSUER needs one of the two: the secret that the provider gave this client";
                return Err(bad(&format!("{told} or {file}"), "", allowed));
            }
        };
        match secret.trim() {
            "" => Err(bad(
                file,
                "",
                "the file is empty; allowed is one with the client's secret",
            )),
            secret => Ok(Secret::from(secret)),
        }
    }

    /// `PROXY_…`
    pub(super) fn proxy(&self) -> Result<Option<ProxySettings>, ConfigError> {
        let header = |key: &str| {
            let allowed = "empty, or the name of a header that only the proxy sets, like X-Forwarded-Email";
            self.parse(key, allowed, |v| match v {
                "" => Some(None),
                name => {
                    let taken = [AUTHORIZATION, COOKIE, FORWARDED, HOST, ORIGIN];
                    let name = HeaderName::try_from(name).ok()?;
                    let free = !taken.contains(&name) && name != "x-forwarded-for";
                    free.then_some(Some(name))
                }
            })
        };
        let (user, groups) = (header("proxy_user_header")?, header("proxy_groups_header")?);
        let roles = self.parse("proxy_roles", ROLES, RoleMap::parse)?;
        let Some(user) = user else { return Ok(None) };
        if self.text("trusted_proxies")?.trim().is_empty() {
            let allowed = "PROXY_USER_HEADER needs it: the addresses of the proxies that may set that header";
            return Err(bad("TRUSTED_PROXIES", "", allowed));
        }
        if roles.is_empty() {
            return Err(bad("PROXY_ROLES", "", &format!("PROXY_USER_HEADER needs it: {ROLES}")));
        }
        if groups.is_none() && roles.names_groups() {
            let allowed =
                "PROXY_ROLES names groups: set the header that holds them, or give everybody one role, like *=member";
            return Err(bad("PROXY_GROUPS_HEADER", "", allowed));
        }
        Ok(Some(ProxySettings { user, groups, roles }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    const OPENID: [(&str, &str); 5] = [
        ("PUBLIC_URL", "https://jobs.example.org"),
        ("OIDC_ISSUER", "https://id.example.org"),
        ("OIDC_CLIENT_ID", "windlass"),
        ("OIDC_CLIENT_SECRET", "hidden-words"),
        ("OIDC_ROLES", "ops=admin"),
    ];

    #[test]
    fn a_provider_needs_all_of_its_settings_and_the_secret_is_not_shown() {
        let config = load(&OPENID).expect("settings");
        let shown = format!("{config:?}");
        assert!(
            shown.contains("id.example.org") && !shown.contains("hidden-words"),
            "{shown}"
        );
        let scopes = config.openid.expect("a provider").scopes;
        assert_eq!(scopes, "openid email profile");
        assert!(load(&[]).expect("settings").openid.is_none());
        for i in 0..OPENID.len() {
            let mut less = OPENID.to_vec();
            let (name, _) = less.remove(i);
            match (name, load(&less)) {
                ("OIDC_ISSUER", without) => assert!(without.expect("settings").openid.is_none()),
                (name, without) => assert!(without.expect_err(name).to_string().contains(name)),
            }
        }
    }

    #[test]
    fn providers_are_asked_by_tls_or_within_the_machine() {
        for good in [
            "https://id.example.org/realms/a",
            "http://127.0.0.1:4000",
            "http://[::1]:4000",
            "http://localhost",
        ] {
            assert!(is_private(good), "{good}");
        }
        for bad in [
            "http://id.example.org",
            "ftp://127.0.0.1",
            "id.example.org",
            "https://me:secret@id.example.org",
            "",
        ] {
            assert!(!is_private(bad), "{bad}");
        }
    }

    #[test]
    fn a_header_is_only_believed_with_trusted_proxies() {
        let header = ("PROXY_USER_HEADER", "X-Forwarded-Email");
        let proxies = ("TRUSTED_PROXIES", "10.0.0.1");
        let refused = |pairs: &[(&str, &str)]| load(pairs).expect_err("refused").to_string();
        assert!(load(&[proxies]).expect("settings").proxy.is_none());
        assert!(load(&[header, proxies]).expect("settings").proxy.is_some());
        assert!(refused(&[header]).contains("TRUSTED_PROXIES"));
        assert!(refused(&[("PROXY_USER_HEADER", "cookie"), proxies]).contains("PROXY_USER_HEADER"));
        assert!(refused(&[header, proxies, ("PROXY_ROLES", "ops=admin")]).contains("PROXY_GROUPS_HEADER"));
        assert!(refused(&[header, proxies, ("PROXY_ROLES", "ops=king")]).contains("ops=king"));
    }
}
