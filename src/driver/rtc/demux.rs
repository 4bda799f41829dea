//! Whose datagram this is: by address once a peer has proved it, before that by an authentic STUN request.

use std::collections::HashMap;

use aws_lc_rs::hmac;

use crate::driver::rtc::path::Remote;
use crate::driver::rtc::tcp::Directory;

const STUN_HEADER: usize = 20;
const STUN_MAGIC: [u8; 4] = 0x2112_a442_u32.to_be_bytes();
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
const ATTRIBUTE_USERNAME: u16 = 0x0006;
const ATTRIBUTE_MESSAGE_INTEGRITY: u16 = 0x0008;
const INTEGRITY_LENGTH: usize = 20;

/// Addresses a peer may prove or ask for between two ICE restarts. A browser has a handful of candidates and a NAT shows one or two
/// addresses for each; the stack keeps a candidate pair for every one, so a peer that makes them up is not followed.
pub(super) const MAX_ADDRESSES: usize = 64;

/// The table of one worker. Peers are the worker's numbers for them.
#[derive(Default)]
pub(super) struct Demux {
    /// Where user fragments are looked up before it is known that they are this worker's.
    directory: Directory,
    worker: usize,
    by_address: HashMap<Remote, u64>,
    by_ufrag: HashMap<String, (u64, hmac::Key)>,
    by_peer: HashMap<u64, Paths>,
}

/// What a peer has in the other two tables: of its present user fragment, and of the one before, over which media goes on until the
/// restart is through.
#[derive(Default)]
struct Paths {
    present: Generation,
    before: Generation,
}

#[derive(Default)]
struct Generation {
    ufrag: String,
    addresses: Vec<Remote>,
}

impl Demux {
    pub(super) fn new(directory: Directory, worker: usize) -> Self {
        Self { directory, worker, ..Self::default() }
    }

    /// The peer a datagram is for. A binding request must be authentic (RFC 8445 section 7.3), and then its address is the peer's.
    pub(super) fn route(&mut self, from: Remote, datagram: &[u8]) -> Option<u64> {
        if !is_binding_request(datagram) {
            return self.by_address.get(&from).copied();
        }
        let request = Request::parse(datagram)?;
        let (peer, key) = self.by_ufrag.get(request.ufrag)?;
        let peer = *peer;
        (request.is_authentic(key) && self.learn(peer, from)).then_some(peer)
    }

    /// Lets requests with this user fragment and password in, and none any more with those before the last.
    pub(super) fn admit(&mut self, peer: u64, ufrag: &str, password: &str) {
        if self.by_ufrag.contains_key(ufrag) {
            return;
        }
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        self.by_ufrag.insert(ufrag.to_owned(), (peer, key));
        self.directory.insert(ufrag, self.worker);
        let paths = self.by_peer.entry(peer).or_default();
        let fresh = Generation { ufrag: ufrag.to_owned(), addresses: Vec::new() };
        let previous = std::mem::replace(&mut paths.present, fresh);
        let stale = std::mem::replace(&mut paths.before, previous);
        self.drop_generation(peer, &stale);
    }

    /// Notes what a peer sends, for the answer to a binding request comes from an address that may be new.
    /// An address that is somebody's stays theirs.
    pub(super) fn sent(&mut self, peer: u64, to: Remote, datagram: &[u8]) {
        if is_binding_request(datagram) && !self.by_address.contains_key(&to) {
            self.learn(peer, to);
        }
    }

    /// Whether datagrams from there are somebody's.
    pub(super) fn knows(&self, from: Remote) -> bool {
        self.by_address.contains_key(&from)
    }

    /// Forgets an address nothing can come from any more.
    pub(super) fn lose(&mut self, from: Remote) {
        let Some(paths) = self.by_address.remove(&from).and_then(|peer| self.by_peer.get_mut(&peer)) else { return };
        for generation in [&mut paths.present, &mut paths.before] {
            generation.addresses.retain(|address| *address != from);
        }
    }

    pub(super) fn forget(&mut self, peer: u64) {
        let Some(Paths { present, before }) = self.by_peer.remove(&peer) else { return };
        for generation in [present, before] {
            self.drop_generation(peer, &generation);
        }
    }

    /// Whether the address is the peer's from now on.
    fn learn(&mut self, peer: u64, address: Remote) -> bool {
        let Some(Paths { present, .. }) = self.by_peer.get_mut(&peer) else { return false };
        if present.addresses.contains(&address) {
            self.by_address.insert(address, peer);
            return true;
        }
        if present.addresses.len() >= MAX_ADDRESSES {
            return false;
        }
        present.addresses.push(address);
        self.by_address.insert(address, peer);
        true
    }

    /// What is not somebody else's by now, nor the peer's by its present user fragment.
    fn drop_generation(&mut self, peer: u64, generation: &Generation) {
        self.by_ufrag.remove(&generation.ufrag);
        self.directory.remove(&generation.ufrag);
        let kept = self.by_peer.get(&peer);
        for address in &generation.addresses {
            let is_kept = kept.is_some_and(|paths| {
                paths.present.addresses.contains(address) || paths.before.addresses.contains(address)
            });
            if !is_kept && self.by_address.get(address) == Some(&peer) {
                self.by_address.remove(address);
            }
        }
    }
}

/// The user fragment a binding request is for, authentic or not.
pub(super) fn addressee(datagram: &[u8]) -> Option<&str> {
    is_binding_request(datagram).then(|| Request::parse(datagram)).flatten().map(|request| request.ufrag)
}

pub(super) fn is_binding_request(datagram: &[u8]) -> bool {
    is_stun(datagram, BINDING_REQUEST)
}

pub(super) fn is_binding_success(datagram: &[u8]) -> bool {
    is_stun(datagram, BINDING_SUCCESS)
}

fn is_stun(datagram: &[u8], kind: [u8; 2]) -> bool {
    datagram.len() >= STUN_HEADER && datagram[..2] == kind && datagram[4..8] == STUN_MAGIC
}

/// The parts of a STUN binding request (RFC 8489) that say who sent it.
struct Request<'a> {
    ufrag: &'a str,
    /// Everything before the integrity attribute.
    covered: &'a [u8],
    tag: &'a [u8],
}

impl<'a> Request<'a> {
    fn parse(datagram: &'a [u8]) -> Option<Self> {
        let mut ufrag = None;
        let mut at = STUN_HEADER;
        while let Some(header) = datagram.get(at..at + 4) {
            let kind = u16::from_be_bytes([header[0], header[1]]);
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let value = datagram.get(at + 4..at + 4 + length)?;
            if kind == ATTRIBUTE_USERNAME {
                // RFC 8445 section 7.2.2: the receiver's fragment, a colon, the sender's.
                ufrag = std::str::from_utf8(value).ok()?.split(':').next();
            } else if kind == ATTRIBUTE_MESSAGE_INTEGRITY {
                return Some(Self { ufrag: ufrag?, covered: &datagram[..at], tag: value });
            }
            at += 4 + length.next_multiple_of(4);
        }
        None
    }

    /// RFC 8489 section 14.5: HMAC-SHA1 over the message as if it ended with the integrity attribute.
    fn is_authentic(&self, key: &hmac::Key) -> bool {
        let Ok(length) = u16::try_from(self.covered.len() - STUN_HEADER + 4 + INTEGRITY_LENGTH) else { return false };
        let mut message = self.covered.to_vec();
        message[2..4].copy_from_slice(&length.to_be_bytes());
        hmac::verify(key, &message, self.tag).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(port: u16) -> Remote {
        Remote::udp(([127, 0, 0, 1], port).into())
    }

    fn request(username: &str, password: &str) -> Vec<u8> {
        let mut message = vec![0, 1, 0, 0];
        message.extend(STUN_MAGIC);
        message.extend([7; 12]);
        message.extend(ATTRIBUTE_USERNAME.to_be_bytes());
        message.extend(u16::try_from(username.len()).expect("short").to_be_bytes());
        message.extend(username.as_bytes());
        message.resize(message.len().next_multiple_of(4), 0);
        let length = u16::try_from(message.len() - STUN_HEADER + 24).expect("short");
        message[2..4].copy_from_slice(&length.to_be_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        let tag = hmac::sign(&key, &message);
        message.extend(ATTRIBUTE_MESSAGE_INTEGRITY.to_be_bytes());
        message.extend([0, 20]);
        message.extend(tag.as_ref());
        message
    }

    #[test]
    fn an_address_is_known_after_an_authentic_request_only() {
        let mut demux = Demux::default();
        demux.admit(1, "ours", "password");
        let media = [0x80, 111, 0, 1];
        assert_eq!(demux.route(address(1), &media), None);
        assert_eq!(demux.route(address(1), &request("ours:theirs", "guess")), None);
        assert_eq!(demux.route(address(1), &media), None, "a forged request opens nothing");
        assert_eq!(demux.route(address(1), &request("ours:theirs", "password")), Some(1));
        assert_eq!(demux.route(address(1), &media), Some(1));
        demux.forget(1);
        assert_eq!(demux.route(address(1), &media), None);
    }

    #[test]
    fn an_address_over_tcp_is_another_than_over_udp() {
        let mut demux = Demux::default();
        demux.admit(1, "ours", "password");
        let connection = Remote::tcp(address(1).address);
        assert_eq!(demux.route(connection, &request("ours:theirs", "password")), Some(1));
        assert!(demux.knows(connection) && !demux.knows(address(1)));
        demux.lose(connection);
        assert!(!demux.knows(connection) && demux.by_peer[&1].present.addresses.is_empty());
    }

    #[test]
    fn a_peer_that_makes_addresses_up_is_not_followed() {
        let mut demux = Demux::default();
        demux.admit(1, "ours", "password");
        let request = request("ours:theirs", "password");
        let followed = (1..5000).filter(|port| demux.route(address(*port), &request).is_some()).count();
        assert_eq!(followed, MAX_ADDRESSES);
        assert_eq!(demux.by_address.len(), MAX_ADDRESSES);
        (6000..9000).for_each(|port| demux.sent(1, address(port), &request));
        assert_eq!(demux.by_address.len(), MAX_ADDRESSES, "nor by naming them as candidates");
        assert_eq!(demux.route(address(1), &request), Some(1), "its old ones are still its own");
        demux.forget(1);
        assert!(demux.by_address.is_empty() && demux.by_ufrag.is_empty() && demux.by_peer.is_empty());
    }

    #[test]
    fn a_restart_opens_new_doors_and_closes_those_before_the_last() {
        let mut demux = Demux::default();
        let media = [0x80, 111, 0, 1];
        for (generation, ufrag) in ["one", "two", "three"].into_iter().enumerate() {
            demux.admit(1, ufrag, "password");
            let request = request(&format!("{ufrag}:theirs"), "password");
            assert_eq!(demux.route(address(9), &request), Some(1), "an address may stay the same");
            for port in 0..100 {
                demux.route(address(1000 * u16::try_from(generation).expect("small") + 10 + port), &request);
            }
        }
        assert_eq!(demux.route(address(2010), &media), Some(1));
        assert_eq!(demux.route(address(1010), &media), Some(1), "media goes on over the old path");
        assert_eq!(demux.route(address(10), &media), None, "but not over the one before");
        assert_eq!(demux.route(address(9), &media), Some(1));
        assert_eq!(demux.route(address(9), &request("one:theirs", "password")), None);
        assert!(demux.by_address.len() <= 2 * MAX_ADDRESSES);
    }

    #[test]
    fn nobody_takes_an_address_over_by_naming_it_as_a_candidate() {
        let mut demux = Demux::default();
        demux.admit(1, "one", "password");
        demux.admit(2, "y", "other");
        demux.route(address(1), &request("one:x", "password"));
        demux.sent(2, address(1), &request("y:z", "other"));
        assert_eq!(demux.route(address(1), &[0x80, 0]), Some(1));
        demux.sent(2, address(2), &request("y:z", "other"));
        assert_eq!(demux.route(address(2), &[1, 1]), Some(2), "the answer to its own check reaches it");
    }

    proptest! {
        #[test]
        fn arbitrary_datagrams_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut demux = Demux::default();
            demux.admit(1, "ours", "password");
            demux.route(address(9), &bytes);
            if bytes.len() >= 8 {
                bytes[..2].copy_from_slice(&BINDING_REQUEST);
                bytes[4..8].copy_from_slice(&STUN_MAGIC);
                prop_assert_eq!(demux.route(address(9), &bytes), None);
            }
        }
    }
}
