//! Networks of addresses, as operators write them.

use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;

/// An address, or a network such as `10.1.0.0/16` or `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A network cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a network; write an address, or a network such as 10.1.0.0/16")]
pub struct ParseNetworkError(String);

impl Network {
    /// An IPv4-mapped address counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (address.to_canonical(), self.address) {
            (IpAddr::V4(a), IpAddr::V4(n)) => within(a.to_bits().into(), n.to_bits().into(), self.prefix, 32),
            (IpAddr::V6(a), IpAddr::V6(n)) => within(a.to_bits(), n.to_bits(), self.prefix, 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        let error = || ParseNetworkError(text.to_owned());
        let width = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => {
                (address.parse().map_err(|_| error())?, Some(prefix.parse().map_err(|_| error())?))
            }
            None => (text.parse::<IpAddr>().map_err(|_| error())?.to_canonical(), None),
        };
        let prefix = prefix.unwrap_or_else(|| width(address));
        if prefix <= width(address) { Ok(Self { address, prefix }) } else { Err(error()) }
    }
}

impl TryFrom<String> for Network {
    type Error = ParseNetworkError;

    fn try_from(text: String) -> Result<Self, ParseNetworkError> {
        text.parse()
    }
}

/// Whether the first `prefix` bits of two addresses of `width` bits are equal.
pub(super) fn within(address: u128, network: u128, prefix: u8, width: u8) -> bool {
    // A shift by the whole width of the type would overflow, and a prefix of 0 covers everything.
    prefix == 0 || (address ^ network) >> (width - prefix) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        // Columns: network, address, whether it is inside.
        let table = [
            ("10.1.0.0/16", "10.1.255.1", true),
            ("10.1.0.0/16", "10.2.0.1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
        ];
        for (network, address, inside) in table {
            let network: Network = network.parse().expect("a network");
            assert_eq!(network.contains(address.parse().expect("an address")), inside, "{network:?} {address}");
        }
        for wrong in ["", "10.1.0.0/33", "::/129", "10.1.0.0/", "proxy.example", "10.1/16"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
