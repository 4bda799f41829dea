//! The settings: ports that workers take, and addresses that are announced.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;

use tokio_util::sync::CancellationToken;

use crate::driver::rtc::Config;
use crate::driver::rtc::Error;
use crate::driver::rtc::start;

#[test]
fn workers_take_the_ports_from_the_first_on() {
    let loopback = Config { bind: Ipv4Addr::LOCALHOST.into(), ..Config::default() };
    let shutdown = CancellationToken::new();
    // Another test may take one of the three in the meantime.
    let started = (0..20).find_map(|_| {
        let first = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).expect("a port");
        let config = Config { udp_port: first.port(), workers: 3, ..loopback.clone() };
        start(&config, &shutdown).ok().map(|(_, workers)| (first.port(), workers))
    });
    let (first, workers) = started.expect("three free ports in a row");
    let ports: Vec<u16> = workers.addresses().iter().map(SocketAddr::port).collect();
    assert_eq!(ports, [first, first + 1, first + 2]);
    shutdown.cancel();
    workers.join();
    let config = Config { udp_port: 65_535, workers: 2, ..loopback };
    assert!(matches!(start(&config, &CancellationToken::new()), Err(Error::Ports(1) | Error::Bind { .. })));
}

#[test]
fn an_address_that_the_sockets_cannot_serve_is_not_announced() {
    let config = Config { announced_ips: vec![Ipv6Addr::LOCALHOST.into()], ..Config::default() };
    assert!(matches!(start(&config, &CancellationToken::new()), Err(Error::Family(_))));
}

#[test]
fn the_wildcard_is_never_announced() {
    let config = Config { announced_ips: vec![Ipv4Addr::UNSPECIFIED.into()], ..Config::default() };
    assert!(config.addresses().is_empty());
    assert!(Config::default().addresses().contains(&Ipv4Addr::LOCALHOST.into()));
    let bound = Config { bind: Ipv4Addr::LOCALHOST.into(), ..Config::default() };
    assert_eq!(bound.addresses(), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
}
