//! Where a datagram comes from and goes to: an address, and the protocol that carries it there.

use std::net::IpAddr;
use std::net::SocketAddr;

use rtc::shared::TransportProtocol;

/// A remote end. The same address over UDP and over TCP are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Remote {
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Protocol {
    Udp,
    /// RFC 6544: datagrams in the frames of RFC 4571, over a connection that the remote end opened.
    Tcp,
}

impl Remote {
    pub(super) fn udp(address: SocketAddr) -> Self {
        Self { protocol: Protocol::Udp, address: canonical(address) }
    }

    pub(super) fn tcp(address: SocketAddr) -> Self {
        Self { protocol: Protocol::Tcp, address: canonical(address) }
    }
}

/// A socket for both families says `::ffff:192.0.2.1` where candidates say `192.0.2.1` (RFC 4291 section 2.5.5.2).
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// The address as a socket of this family takes it.
pub(super) fn for_socket(address: SocketAddr, is_ipv6: bool) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if is_ipv6 => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}

impl From<TransportProtocol> for Protocol {
    fn from(protocol: TransportProtocol) -> Self {
        if protocol == TransportProtocol::TCP { Self::Tcp } else { Self::Udp }
    }
}

impl From<Protocol> for TransportProtocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Udp => Self::UDP,
            Protocol::Tcp => Self::TCP,
        }
    }
}
