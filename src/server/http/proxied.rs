//! Whom a proxy in front vouches for, by a header of its own. Only the word of an address in `TRUSTED_PROXIES` counts: anybody can
//! send a header.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName};

use super::auth::Site;
use crate::server::service::identity::Credential;

/// Whom the proxy that sent this request says it is from. `peer`: who is at the other end of the connection, whatever headers say.
pub fn credential(site: &Site, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<Credential> {
    let settings = site.proxy.as_ref()?;
    if !site.trusted.contains(&peer?.to_canonical()) {
        return None;
    }
    let user = match values(headers, &settings.user).as_slice() {
        [] | [""] => return None,
        [one] => *one,
        // Two of them: the proxy has left the client's own in. Nobody has that name.
        _ => "",
    };
    let groups = settings.groups.as_ref().map(|name| groups(headers, name));
    let role = settings.roles.role_of(groups.as_deref().unwrap_or_default());
    Some(Credential::Proxy(user.into(), role, groups.is_some()))
}

/// What a header holds, each time that it was sent; what is no text, as nothing.
fn values<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Vec<&'h str> {
    headers
        .get_all(name)
        .iter()
        .map(|v| v.to_str().unwrap_or_default().trim())
        .collect()
}

fn groups<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Vec<&'h str> {
    let all = values(headers, name).into_iter().flat_map(|line| line.split(','));
    all.map(str::trim).filter(|group| !group.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::domain::groups::RoleMap;
    use crate::domain::user::Role;
    use crate::server::config::ProxySettings;

    fn site(groups: bool) -> Site {
        Site {
            trusted: vec![IpAddr::from([10, 0, 0, 1])],
            proxy: Some(ProxySettings {
                user: HeaderName::from_static("x-user"),
                groups: groups.then_some(HeaderName::from_static("x-groups")),
                roles: RoleMap::parse("ops=admin,*=member").expect("map"),
            }),
            ..Site::default()
        }
    }

    fn ask(site: &Site, peer: &str, pairs: &[(&'static str, &'static str)]) -> Option<Credential> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        credential(site, peer.parse().ok(), &headers)
    }

    #[test]
    fn a_header_counts_from_a_trusted_peer_alone() {
        let user = [("x-user", "ada@example.org"), ("x-forwarded-for", "10.0.0.1")];
        let ada = |role, renew| Some(Credential::Proxy("ada@example.org".into(), Some(role), renew));
        assert_eq!(ask(&site(false), "10.0.0.1", &user), ada(Role::Member, false));
        assert_eq!(ask(&site(false), "::ffff:10.0.0.1", &user), ada(Role::Member, false));
        assert_eq!(ask(&site(false), "10.0.0.2", &user), None);
        assert_eq!(ask(&site(false), "", &user), None, "who the peer is, is not known");
        assert_eq!(ask(&Site::default(), "10.0.0.1", &user), None);
        assert_eq!(ask(&site(false), "10.0.0.1", &[]), None);
        let with = [user[0], ("x-groups", "dev, ops")];
        assert_eq!(ask(&site(true), "10.0.0.1", &with), ada(Role::Admin, true));
        assert_eq!(ask(&site(false), "10.0.0.1", &with), ada(Role::Member, false));
    }

    #[test]
    fn two_names_are_nobodys() {
        let twice = [("x-user", "ada@example.org"), ("x-user", "eve@example.org")];
        let nobody = Some(Credential::Proxy(String::new(), Some(Role::Member), false));
        assert_eq!(ask(&site(false), "10.0.0.1", &twice), nobody);
    }
}
