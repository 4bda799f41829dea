//! Which addresses destinations may be dialled at: the guard against requests forged through us.
//!
//! Whoever may create a destination chooses a host that *we* then connect to. Without this guard that reaches the cloud's
//! metadata service, the database beside us and every other machine behind the firewall. The rule is the other way round from a
//! list of bad hosts: only addresses that the public internet can route to are allowed, and an operator may add more.
//! The check takes the address that is about to be dialled, not a name, so that a name that resolves anew cannot slip past it.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::Deserialize;

use crate::domain::network::Network;
use crate::domain::network::within;

/// What the operator allows beyond the public internet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Host names, addresses or networks; see [`HostRule`].
    #[serde(default)]
    pub allowed_hosts: Vec<HostRule>,
}

/// Whether an address may be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Refused(Refusal),
}

/// Why an address may not be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// `0.0.0.0` and `::`, which reach this machine on most systems.
    Unspecified,
    Loopback,
    /// RFC 1918 and RFC 4193.
    Private,
    /// RFC 3927 and RFC 4291 section 2.5.6; clouds serve their credentials at 169.254.169.254.
    LinkLocal,
    /// A cloud's own service at an address that looks public.
    CloudService,
    /// Shared by the customers of one carrier, RFC 6598.
    CarrierGrade,
    Multicast,
    /// RFC 5737, RFC 3849 and RFC 9637.
    Documentation,
    /// RFC 2544 and RFC 5180.
    Benchmarking,
    /// Not given to anybody on the public internet.
    Reserved,
}

impl Refusal {
    /// The kind of address, to stand in a sentence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::CloudService => "cloud service",
            Self::CarrierGrade => "carrier-grade NAT",
            Self::Multicast => "multicast",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::Reserved => "reserved",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Policy {
    /// Decides about dialling `address`, to which the destination's `host` resolved, at `port`.
    pub fn check(&self, host: &str, address: IpAddr, port: u16) -> Verdict {
        let address = address.to_canonical();
        if self.allowed_hosts.iter().any(|rule| rule.allows(host, address, port)) {
            return Verdict::Allowed;
        }
        let refusal = match address {
            IpAddr::V4(address) => refusal_v4(address),
            IpAddr::V6(address) => refusal_v6(address),
        };
        refusal.map_or(Verdict::Allowed, Verdict::Refused)
    }
}

/// Networks of the IANA IPv4 Special-Purpose Address Registry that are not globally reachable.
const SPECIAL_V4: [(Ipv4Addr, u8, Refusal); 17] = [
    (Ipv4Addr::UNSPECIFIED, 32, Refusal::Unspecified),
    (Ipv4Addr::new(0, 0, 0, 0), 8, Refusal::Reserved),
    (Ipv4Addr::new(10, 0, 0, 0), 8, Refusal::Private),
    (Ipv4Addr::new(100, 64, 0, 0), 10, Refusal::CarrierGrade),
    (Ipv4Addr::new(127, 0, 0, 0), 8, Refusal::Loopback),
    // Azure's platform address: its DNS, health probes and guest agent, reachable only from inside.
    (Ipv4Addr::new(168, 63, 129, 16), 32, Refusal::CloudService),
    (Ipv4Addr::new(169, 254, 0, 0), 16, Refusal::LinkLocal),
    (Ipv4Addr::new(172, 16, 0, 0), 12, Refusal::Private),
    // IETF protocol assignments; Oracle's cloud serves metadata at 192.0.0.192.
    (Ipv4Addr::new(192, 0, 0, 0), 24, Refusal::Reserved),
    (Ipv4Addr::new(192, 0, 2, 0), 24, Refusal::Documentation),
    // The deprecated 6to4 relay anycast, RFC 7526.
    (Ipv4Addr::new(192, 88, 99, 0), 24, Refusal::Reserved),
    (Ipv4Addr::new(192, 168, 0, 0), 16, Refusal::Private),
    (Ipv4Addr::new(198, 18, 0, 0), 15, Refusal::Benchmarking),
    (Ipv4Addr::new(198, 51, 100, 0), 24, Refusal::Documentation),
    (Ipv4Addr::new(203, 0, 113, 0), 24, Refusal::Documentation),
    (Ipv4Addr::new(224, 0, 0, 0), 4, Refusal::Multicast),
    // Future use and the limited broadcast address.
    (Ipv4Addr::new(240, 0, 0, 0), 4, Refusal::Reserved),
];

/// The same for IPv6. Everything outside 2000::/3 is refused after this table, so it only names kinds and the holes in 2000::/3.
const SPECIAL_V6: [(Ipv6Addr, u8, Refusal); 9] = [
    (Ipv6Addr::UNSPECIFIED, 128, Refusal::Unspecified),
    (Ipv6Addr::LOCALHOST, 128, Refusal::Loopback),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Refusal::Private),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, Refusal::LinkLocal),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, Refusal::Multicast),
    (Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48, Refusal::Benchmarking),
    // IETF protocol assignments, with Teredo's tunnels in 2001::/32.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, Refusal::Reserved),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, Refusal::Documentation),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, Refusal::Documentation),
];

fn refusal_v4(address: Ipv4Addr) -> Option<Refusal> {
    let covers = |network: Ipv4Addr, prefix| within(address.to_bits().into(), network.to_bits().into(), prefix, 32);
    SPECIAL_V4.iter().find(|(network, prefix, _)| covers(*network, *prefix)).map(|(_, _, refusal)| *refusal)
}

/// `address` is canonical: IPv4-mapped ones were unwrapped.
fn refusal_v6(address: Ipv6Addr) -> Option<Refusal> {
    let covers = |network: Ipv6Addr, prefix| within(address.to_bits(), network.to_bits(), prefix, 128);
    if let Some((_, _, refusal)) = SPECIAL_V6.iter().find(|(network, prefix, _)| covers(*network, *prefix)) {
        return Some(*refusal);
    }
    match address.segments() {
        // A translator forwards these to the embedded IPv4 address: NAT64 (RFC 6052) and 6to4 (RFC 3056).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => refusal_v4(embedded(high, low)),
        [0x2002, high, low, ..] => refusal_v4(embedded(high, low)),
        // IPv4-compatible, deprecated by RFC 4291 section 2.5.5.1: the embedded address names the reason.
        [0, 0, 0, 0, 0, 0, high, low] => Some(refusal_v4(embedded(high, low)).unwrap_or(Refusal::Reserved)),
        // Global unicast, the only range that is handed out (IANA IPv6 Address Space registry).
        [0x2000..=0x3fff, ..] => None,
        _ => Some(Refusal::Reserved),
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

/// What an operator allows: a host name, an address or a network, each at one port or at every port.
///
/// `ingest.example`, `ingest.example:1935`, `127.0.0.1`, `127.0.0.1:1935`, `10.1.0.0/16`, `10.1.0.0/16:1935`, `fd00::/8`,
/// `[fd00::5]:1935`, `[fd00::/8]:1935`. A name trusts whatever that name resolves to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostRule {
    host: HostPattern,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    /// Lower case, without the final dot.
    Name(String),
    Network(Network),
}

/// A rule of `allowed_hosts` cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a host rule; write a host name, an address or a network such as 10.1.0.0/16, and a port after a colon if only one is meant"
)]
pub struct ParseHostRuleError(String);

impl HostRule {
    fn allows(&self, host: &str, address: IpAddr, port: u16) -> bool {
        if self.port.is_some_and(|only| only != port) {
            return false;
        }
        match &self.host {
            HostPattern::Name(name) => host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case(name),
            HostPattern::Network(network) => network.contains(address),
        }
    }
}

impl FromStr for HostRule {
    type Err = ParseHostRuleError;

    fn from_str(text: &str) -> Result<Self, ParseHostRuleError> {
        let error = || ParseHostRuleError(text.to_owned());
        let (host, port) = split_port(text).ok_or_else(error)?;
        let host = HostPattern::parse(host).ok_or_else(error)?;
        Ok(Self { host, port })
    }
}

impl TryFrom<String> for HostRule {
    type Error = ParseHostRuleError;

    fn try_from(text: String) -> Result<Self, ParseHostRuleError> {
        text.parse()
    }
}

impl HostPattern {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(network) = text.parse() {
            return Some(Self::Network(network));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let well_formed = (1..=253).contains(&name.len())
            && name.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            })
            // A name that ends in a number is a mistyped address (RFC 3696 section 2).
            && name.rsplit('.').next().is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()));
        well_formed.then_some(Self::Name(name))
    }
}

/// Splits `host`, `host:port`, `[v6]`, `[v6]:port` and a bare IPv6 address or network.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let port = |digits: &str| digits.parse::<u16>().ok().filter(|port| *port != 0);
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        return match after.strip_prefix(':') {
            Some(digits) => Some((host, Some(port(digits)?))),
            None => after.is_empty().then_some((host, None)),
        };
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((host, digits)) => Some((host, Some(port(digits)?))),
        None => Some((text, None)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(rules: &[&str]) -> Policy {
        Policy { allowed_hosts: rules.iter().map(|rule| rule.parse().expect("well formed")).collect() }
    }

    fn verdict(address: &str) -> Verdict {
        Policy::default().check("ingest.example", address.parse().expect("an address"), 1935)
    }

    #[test]
    fn addresses_inside_are_refused_with_their_reason() {
        let table = [
            ("0.0.0.0", Refusal::Unspecified),
            ("0.1.2.3", Refusal::Reserved),
            ("10.0.0.1", Refusal::Private),
            ("10.255.255.255", Refusal::Private),
            ("100.64.0.1", Refusal::CarrierGrade),
            ("100.100.100.200", Refusal::CarrierGrade),
            ("100.127.255.255", Refusal::CarrierGrade),
            ("127.0.0.1", Refusal::Loopback),
            ("127.255.0.9", Refusal::Loopback),
            ("168.63.129.16", Refusal::CloudService),
            ("169.254.169.254", Refusal::LinkLocal),
            ("172.16.0.1", Refusal::Private),
            ("172.31.255.255", Refusal::Private),
            ("192.0.0.192", Refusal::Reserved),
            ("192.0.2.7", Refusal::Documentation),
            ("192.88.99.1", Refusal::Reserved),
            ("192.168.1.1", Refusal::Private),
            ("198.18.0.1", Refusal::Benchmarking),
            ("198.19.255.255", Refusal::Benchmarking),
            ("198.51.100.1", Refusal::Documentation),
            ("203.0.113.1", Refusal::Documentation),
            ("224.0.0.1", Refusal::Multicast),
            ("239.255.255.255", Refusal::Multicast),
            ("240.0.0.1", Refusal::Reserved),
            ("255.255.255.255", Refusal::Reserved),
            ("::", Refusal::Unspecified),
            ("::1", Refusal::Loopback),
            ("fc00::1", Refusal::Private),
            ("fd00:ec2::254", Refusal::Private),
            ("fe80::1", Refusal::LinkLocal),
            ("febf::1", Refusal::LinkLocal),
            ("fec0::1", Refusal::Reserved),
            ("ff02::1", Refusal::Multicast),
            ("100::1", Refusal::Reserved),
            ("2001::1", Refusal::Reserved),
            ("2001:2::1", Refusal::Benchmarking),
            ("2001:20::1", Refusal::Reserved),
            ("2001:db8::1", Refusal::Documentation),
            ("3fff::1", Refusal::Documentation),
            ("5f00::1", Refusal::Reserved),
            ("4000::1", Refusal::Reserved),
            // The same places in disguise: mapped, compatible, NAT64, local NAT64, 6to4 and translated.
            ("::ffff:127.0.0.1", Refusal::Loopback),
            ("::ffff:169.254.169.254", Refusal::LinkLocal),
            ("::127.0.0.1", Refusal::Loopback),
            ("::8.8.8.8", Refusal::Reserved),
            ("64:ff9b::10.0.0.1", Refusal::Private),
            ("64:ff9b::169.254.169.254", Refusal::LinkLocal),
            ("64:ff9b:1::8.8.8.8", Refusal::Reserved),
            ("2002:7f00:1::1", Refusal::Loopback),
            ("2002:a9fe:a9fe::", Refusal::LinkLocal),
            ("::ffff:0:10.0.0.1", Refusal::Reserved),
        ];
        for (address, refusal) in table {
            assert_eq!(verdict(address), Verdict::Refused(refusal), "{address}");
        }
    }

    #[test]
    fn addresses_just_outside_are_allowed() {
        let table = [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2600::1",
            "3ffe:ffff::1",
        ];
        for address in table {
            assert_eq!(verdict(address), Verdict::Allowed, "{address}");
        }
    }

    #[test]
    fn an_operator_opens_exactly_what_the_rule_says() {
        let table = [
            ("127.0.0.1:1935", "localhost", "127.0.0.1", 1935, true),
            ("127.0.0.1:1935", "localhost", "127.0.0.1", 5432, false),
            ("127.0.0.1:1935", "localhost", "127.0.0.2", 1935, false),
            ("127.0.0.1", "localhost", "::ffff:127.0.0.1", 9, true),
            ("10.1.0.0/16", "x", "10.1.255.1", 80, true),
            ("10.1.0.0/16", "x", "10.2.0.1", 80, false),
            ("10.1.0.0/16:443", "x", "10.1.0.1", 80, false),
            ("fd00::/8", "x", "fd12::1", 80, true),
            ("fd00::/8", "x", "fc00::1", 80, false),
            ("[fd00::/8]:1935", "x", "fd12::1", 80, false),
            ("[::1]:1935", "x", "::1", 1935, true),
            ("::1", "x", "::1", 1, true),
            ("0.0.0.0/0", "x", "10.0.0.1", 1, true),
            ("0.0.0.0/0", "x", "::1", 1, false),
            ("Ingest.Local:1935", "ingest.local.", "10.0.0.1", 1935, true),
            ("ingest.local", "INGEST.local", "10.0.0.1", 1, true),
            ("ingest.local", "evil.ingest.local", "10.0.0.1", 1, false),
            ("ingest.local", "ingest.local.evil", "10.0.0.1", 1, false),
        ];
        for (rule, host, address, port, allowed) in table {
            let verdict = policy(&[rule]).check(host, address.parse().expect("an address"), port);
            assert_eq!(verdict == Verdict::Allowed, allowed, "{rule} for {host} at {address}:{port}");
        }
    }

    #[test]
    fn a_rule_that_cannot_be_meant_is_refused() {
        for text in [
            "",
            ":1935",
            "host:",
            "host:0",
            "host:65536",
            "10.0.0.0/33",
            "fd00::/129",
            "10.0.0",
            "10.0.0.256",
            "a b",
            "[::1",
            "[::1]x",
            "*.example",
            "-/8",
            "rtmp://host",
            "a..b",
        ] {
            assert!(text.parse::<HostRule>().is_err(), "{text:?} was taken");
        }
    }

    proptest! {
        /// The standard library's own knowledge of addresses is an independent witness.
        #[test]
        fn nothing_the_standard_library_calls_local_is_allowed(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let local = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
                || v4.is_unspecified() || v4.is_broadcast() || v4.is_documentation();
            if local {
                prop_assert_ne!(Policy::default().check("h", v4.into(), 1935), Verdict::Allowed);
            }
        }

        #[test]
        fn a_disguise_is_judged_as_the_address_inside(bits: u32, tail: u64) {
            let v4 = Ipv4Addr::from_bits(bits);
            let [a, b] = [(bits >> 16) as u16, bits as u16];
            let policy = Policy::default();
            let plain = policy.check("h", v4.into(), 1935);
            let [t0, t1, t2, t3] = [(tail >> 48) as u16, (tail >> 32) as u16, (tail >> 16) as u16, tail as u16];
            for v6 in [
                v4.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b),
                Ipv6Addr::new(0x2002, a, b, 0, t0, t1, t2, t3),
            ] {
                prop_assert_eq!(policy.check("h", v6.into(), 1935), plain, "{}", v6);
            }
        }

        #[test]
        fn only_global_unicast_and_nat64_are_allowed_in_ipv6(bits: u128) {
            let v6 = Ipv6Addr::from_bits(bits);
            if Policy::default().check("h", v6.into(), 1935) == Verdict::Allowed && v6.to_ipv4_mapped().is_none() {
                let first = v6.segments()[0];
                prop_assert!((0x2000..0x4000).contains(&first) || first == 0x64, "{}", v6);
            }
        }

        #[test]
        fn a_network_rule_holds_its_own_addresses(bits: u32, prefix in 0u8..=32, other: u32) {
            let network = Ipv4Addr::from_bits(bits);
            let rule: HostRule = format!("{network}/{prefix}:1935").parse().expect("well formed");
            prop_assert!(rule.allows("h", network.into(), 1935));
            prop_assert!(!rule.allows("h", network.into(), 1936));
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            let inside = (bits & mask) == (other & mask);
            prop_assert_eq!(rule.allows("h", Ipv4Addr::from_bits(other).into(), 1935), inside);
        }

        #[test]
        fn reading_rules_never_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<HostRule>();
        }
    }
}
