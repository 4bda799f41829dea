//! Sends a worker's datagrams: those of one size to one peer in one call, which the kernel or the network card takes apart (GSO).

use std::net::SocketAddr;
use std::net::UdpSocket;

use bytes::BytesMut;
use quinn_udp::Transmit;
use quinn_udp::UdpSocketState;

/// Bytes of one call: the kernel takes the whole for one datagram, whose length has 16 bits, headers included.
const MAX_BYTES: usize = 65_000;

pub(super) struct Sender {
    state: UdpSocketState,
    /// The datagrams of a run, one behind the other.
    joined: Vec<u8>,
}

impl Sender {
    pub(super) fn new(state: UdpSocketState) -> Self {
        Self { state, joined: Vec::with_capacity(MAX_BYTES) }
    }

    pub(super) fn state(&self) -> &UdpSocketState {
        &self.state
    }

    /// Sends all of `outbox` in its order and empties it. Returns how many were lost: a full socket buffer loses datagrams like any
    /// full queue on the way.
    pub(super) fn send(&mut self, socket: &UdpSocket, outbox: &mut Vec<(SocketAddr, BytesMut)>) -> u64 {
        let mut lost = 0;
        let mut rest = outbox.as_slice();
        while let Some((to, first)) = rest.first() {
            let (run, behind) = rest.split_at(run_length(rest, self.state.max_gso_segments()));
            rest = behind;
            if to.port() == 0 {
                // Nobody listens there, but `quinn_udp` takes the kernel's refusal for a card that cannot take runs apart, and would
                // never again send one to anybody.
                lost += run.len() as u64;
                continue;
            }
            if run.len() > 1 && self.send_run(socket, *to, first.len(), run) {
                continue;
            }
            // A path may be too narrow for what the card takes apart; one by one the kernel fragments.
            for (to, datagram) in run {
                lost += u64::from(!self.send_one(socket, *to, datagram, None));
            }
        }
        outbox.clear();
        lost
    }

    fn send_run(&mut self, socket: &UdpSocket, to: SocketAddr, size: usize, run: &[(SocketAddr, BytesMut)]) -> bool {
        self.joined.clear();
        for (_, datagram) in run {
            self.joined.extend_from_slice(datagram);
        }
        self.send_one(socket, to, &self.joined, Some(size))
    }

    fn send_one(&self, socket: &UdpSocket, to: SocketAddr, contents: &[u8], segment_size: Option<usize>) -> bool {
        let transmit = Transmit { destination: to, ecn: None, contents, segment_size, src_ip: None };
        self.state.try_send(socket.into(), &transmit).is_ok()
    }
}

/// How many datagrams at the front leave in one call: of one size to one peer, only the last may be shorter.
fn run_length(datagrams: &[(SocketAddr, BytesMut)], most: usize) -> usize {
    let Some((to, first)) = datagrams.first() else { return 0 };
    let size = first.len().max(1);
    let most = most.min(MAX_BYTES / size).max(1);
    let mut length = 1;
    for (other, datagram) in datagrams.iter().take(most).skip(1) {
        if other != to || datagram.len() > size || datagram.is_empty() {
            break;
        }
        length += 1;
        if datagram.len() < size {
            break;
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn datagrams(sizes: &[(u16, usize)]) -> Vec<(SocketAddr, BytesMut)> {
        let datagram = |(index, (port, size)): (usize, &(u16, usize))| {
            let fill = u8::try_from(index % 251).expect("under 251");
            (SocketAddr::from(([127, 0, 0, 1], *port)), BytesMut::from(vec![fill; *size].as_slice()))
        };
        sizes.iter().enumerate().map(datagram).collect()
    }

    #[test]
    fn a_run_is_of_one_size_and_one_peer_and_ends_with_the_shorter_one() {
        let lengths = |sizes: &[(u16, usize)]| run_length(&datagrams(sizes), 64);
        assert_eq!(lengths(&[]), 0);
        assert_eq!(lengths(&[(1, 100)]), 1);
        assert_eq!(lengths(&[(1, 100), (1, 100), (1, 40), (1, 40)]), 3);
        assert_eq!(lengths(&[(1, 100), (2, 100)]), 1, "another peer");
        assert_eq!(lengths(&[(1, 40), (1, 100)]), 1, "a longer one begins the next run");
        assert_eq!(lengths(&[(1, 1200); 100]), 54, "no more bytes than a datagram can have");
        assert_eq!(run_length(&datagrams(&[(1, 10); 9]), 1), 1, "a kernel without it");
    }

    /// One that does not wait for ever for what is lost.
    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("settable");
        socket
    }

    #[test]
    fn an_address_that_cannot_be_sent_to_slows_nobody_down() {
        let near = socket();
        let far = socket();
        let port = far.local_addr().expect("bound").port();
        let mut sender = Sender::new(UdpSocketState::new((&near).into()).expect("a socket"));
        let most = sender.state.max_gso_segments();
        assert_eq!(sender.send(&near, &mut datagrams(&[(0, 100), (0, 100), (port, 100)])), 2);
        assert_eq!(sender.state.max_gso_segments(), most);
        assert_eq!(far.recv(&mut [0; 200]).expect("it arrives"), 100);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Over a real socket: every datagram arrives as it was, in its order.
        #[test]
        fn what_is_sent_in_runs_arrives_one_by_one(sizes in prop::collection::vec(prop_oneof![Just(1200), 1_usize..1400], 1..40)) {
            let near = socket();
            let far = socket();
            let port = far.local_addr().expect("bound").port();
            let sizes: Vec<(u16, usize)> = sizes.into_iter().map(|size| (port, size)).collect();
            let mut outbox = datagrams(&sizes);
            let sent = outbox.clone();
            let mut sender = Sender::new(UdpSocketState::new((&near).into()).expect("a socket"));
            assert_eq!(sender.send(&near, &mut outbox), 0);
            assert!(outbox.is_empty());
            let mut buffer = vec![0; 2048];
            for (_, datagram) in sent {
                let length = far.recv(&mut buffer).expect("it arrives");
                assert_eq!(&buffer[..length], &datagram[..]);
            }
        }
    }
}
