//! Networks: what callers who are not known are told apart by.

use std::net::{IpAddr, Ipv6Addr};

/// What one household or machine has: an address, of IPv6 the network of 64 bits that addresses can be chosen from at will.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

/// [`network`] of an address that is written out; what is no address stays as it is.
pub fn network_of(address: &str) -> String {
    match address.parse() {
        Ok(address) => network(address).to_string(),
        Err(_) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_one_machine_can_choose_from_are_one_network() {
        assert_eq!(network_of("2001:db8::1"), network_of("2001:db8::ffff:3"));
        assert_ne!(network_of("2001:db8::1"), network_of("2001:db8:0:1::1"));
        assert_ne!(network_of("192.0.2.1"), network_of("192.0.2.2"));
        assert_eq!(network_of("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(network_of(""), "");
    }
}
