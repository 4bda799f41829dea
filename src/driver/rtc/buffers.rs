//! The kernel's buffers of a worker's socket: what comes while the worker is busy, or leaves faster than the network takes it, waits
//! there and is not lost.

use std::net::UdpSocket;

use rustix::io;
use rustix::net::sockopt;

/// Bytes wanted each way: over 100 ms of 2500 packets of video bursts, with what the kernel adds to each.
const WANTED: usize = 4 << 20;

/// Asks for large buffers. Where the kernel gives less, packets are lost under load; that is said once for all workers.
pub(super) fn widen(socket: &UdpSocket, worker: usize) {
    for (given, limit) in
        [(receiving(socket, WANTED), "net.core.rmem_max"), (sending(socket, WANTED), "net.core.wmem_max")]
    {
        match given {
            Ok(given) if given >= WANTED => {}
            Ok(given) if worker == 0 => {
                tracing::warn!(
                    given,
                    wanted = WANTED,
                    "the kernel gives sockets small buffers, and under load packets are lost in them: raise {limit}"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "a socket buffer keeps its default size"),
        }
    }
}

/// Bytes it has for packets that wait to be read. With `CAP_NET_ADMIN` the limit of the system does not count.
fn receiving(socket: &UdpSocket, wanted: usize) -> io::Result<usize> {
    sockopt::set_socket_recv_buffer_size_force(socket, wanted)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(socket, wanted))?;
    sockopt::socket_recv_buffer_size(socket).map(without_overhead)
}

/// Bytes it has for packets that wait to leave.
fn sending(socket: &UdpSocket, wanted: usize) -> io::Result<usize> {
    sockopt::set_socket_send_buffer_size_force(socket, wanted)
        .or_else(|_| sockopt::set_socket_send_buffer_size(socket, wanted))?;
    sockopt::socket_send_buffer_size(socket).map(without_overhead)
}

/// The kernel takes twice what it is asked for, half of it for its own bookkeeping (socket(7)).
const fn without_overhead(bytes: usize) -> usize {
    bytes / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_gets_what_the_kernel_gives() {
        let limit = |name: &str| -> usize {
            let text = std::fs::read_to_string(format!("/proc/sys/net/core/{name}")).expect("Linux");
            text.trim().parse().expect("a number")
        };
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        for (grow, limit) in
            [(receiving as fn(&UdpSocket, usize) -> io::Result<usize>, limit("rmem_max")), (sending, limit("wmem_max"))]
        {
            assert_eq!(grow(&socket, 100_000).expect("given"), 100_000);
            let given = grow(&socket, 2 * limit).expect("given");
            assert!(given == limit || given == 2 * limit, "{given} of a limit of {limit}, unless we may go over it");
        }
    }
}
