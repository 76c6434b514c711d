//! Which role the groups give somebody that an OpenID provider, or a proxy in front, says they are in.

use super::user::Role;

/// Group names and their roles, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleMap {
    pairs: Vec<(String, Role)>,
    /// Of those in none of these groups; none: they may not come in.
    others: Option<Role>,
}

impl RoleMap {
    /// Understands `ops=admin, dev=manager, *=member`; `None`: it is something else, or a group is named twice.
    pub fn parse(text: &str) -> Option<Self> {
        let mut map = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            // A group's name may have a = in it.
            let (group, role) = part.rsplit_once('=')?;
            let (group, role) = (group.trim(), Role::parse(role.trim())?);
            match group {
                "" => return None,
                "*" if map.others.is_some() => return None,
                "*" => map.others = Some(role),
                _ if map.pairs.iter().any(|(known, _)| known == group) => return None,
                _ => map.pairs.push((group.into(), role)),
            }
        }
        Some(map)
    }

    /// Whether it gives nobody a role.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.others.is_none()
    }

    /// Whether a group has a role of its own.
    pub fn names_groups(&self) -> bool {
        !self.pairs.is_empty()
    }

    /// The role of somebody in these groups: the first pair that fits counts, then what all others get.
    pub fn role_of<S: AsRef<str>>(&self, groups: &[S]) -> Option<Role> {
        let is_in = |name: &str| groups.iter().any(|group| group.as_ref() == name);
        let found = self.pairs.iter().find(|(name, _)| is_in(name));
        found.map(|(_, role)| *role).or(self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_group_that_fits_gives_the_role() {
        let map = RoleMap::parse("*=viewer, ops=admin, dev = manager, cn=x=member").expect("map");
        assert_eq!(map.role_of(&["dev", "ops"]), Some(Role::Admin));
        assert_eq!(map.role_of(&["dev"]), Some(Role::Manager));
        assert_eq!(map.role_of(&["cn=x"]), Some(Role::Member));
        assert_eq!(map.role_of(&["Dev"]), Some(Role::Viewer), "names are exact");
        assert_eq!(map.role_of::<&str>(&[]), Some(Role::Viewer));
        let closed = RoleMap::parse("ops=admin").expect("map");
        assert_eq!(closed.role_of(&["*", "dev"]), None);
        assert!(closed.names_groups() && !closed.is_empty());
        assert!(RoleMap::parse(" , ").is_some_and(|map| map.is_empty()));
    }

    #[test]
    fn what_is_no_mapping_is_refused() {
        for bad in ["ops", "ops=king", "=admin", "ops=admin,ops=viewer", "*=member,*=viewer"] {
            assert_eq!(RoleMap::parse(bad), None, "{bad}");
        }
    }
}
