//! Media over TCP: a musician behind a network that takes no UDP, and connections that are not ICE.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use jamcast::driver::rtc;
use jamcast::live::rooms::Request;
use jamcast::live::rooms::TrackSource;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::UdpSocket;

use crate::room::House;
use crate::room::assert_continuous;
use crate::room::musician::AUDIO;
use crate::room::musician::Musician;
use crate::room::musician::PATIENCE;
use crate::room::musician::VIDEO;

/// Carries a peer's datagrams over one TCP connection, as the frames of RFC 4571.
async fn tunnel(gateway: SocketAddr) -> (u16, tokio::task::JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let port = socket.local_addr().expect("bound").port();
    let tunnel = tokio::spawn(async move {
        let (mut read, mut write) = TcpStream::connect(gateway).await.expect("the port is open").into_split();
        let mut peer = None;
        let mut datagram = [0; 2048];
        let mut frame = vec![0; 2];
        let mut have = 0;
        loop {
            tokio::select! {
                received = socket.recv_from(&mut datagram) => {
                    let Ok((length, from)) = received else { continue };
                    peer = Some(from);
                    let prefix = u16::try_from(length).expect("short").to_be_bytes();
                    if write.write_all(&[&prefix[..], &datagram[..length]].concat()).await.is_err() { return }
                }
                received = read.read(&mut frame[have..]) => {
                    match received {
                        Ok(0) | Err(_) => return,
                        Ok(more) => have += more,
                    }
                    if have == 2 {
                        frame.resize(2 + usize::from(u16::from_be_bytes([frame[0], frame[1]])), 0);
                    } else if have == frame.len() {
                        if let Some(peer) = peer {
                            let _lost = socket.send_to(&frame[2..], peer).await;
                        }
                        frame.truncate(2);
                        have = 0;
                    }
                }
            }
        }
    });
    (port, tunnel)
}

/// The description with the tunnel's end as its only candidate.
fn through(port: u16, sdp: &str) -> String {
    let mut out = String::new();
    for line in sdp.lines().filter(|line| !line.starts_with("a=candidate")) {
        out.push_str(line);
        out.push_str("\r\n");
        if line.starts_with("a=ice-pwd") {
            out.push_str(&format!("a=candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host\r\n"));
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_musician_whose_network_takes_no_udp_plays_and_listens_over_tcp() {
    let house = House::open();
    let gateway = house.workers.tcp_address().expect("it listens");
    let anna = house.enter("Anna").await;
    let mut ben = house.enter("Ben").await;
    let (port, _sends) = tunnel(gateway).await;
    let mut plays = Musician::new().await;
    plays.play().await;
    let (participant, offer) = (anna.id, without_candidates(&plays.offer().await));
    let answer = house.rooms.ask(&house.room, |reply| Request::Publish { participant, offer, reply }).await;
    let answer = answer.expect("acceptable");
    let passive = format!("127.0.0.1 {} typ host tcptype passive", gateway.port());
    let candidate = answer.lines().find(|line| line.contains(&passive)).unwrap_or_else(|| panic!("{answer}"));
    assert!(candidate.contains(" 1 tcp "), "{candidate}");
    plays.accept(through(port, &answer)).await;
    let microphone = house.produce(&anna, "0", TrackSource::Microphone).await.expect("an audio m-line");
    let camera = house.produce(&anna, "1", TrackSource::Camera).await.expect("a video m-line");
    plays.wait_connected().await;

    let (port, hears) = tunnel(gateway).await;
    let mut ear = Musician::new().await;
    for producer in [microphone, camera] {
        let participant = ben.id;
        let consumed = house.rooms.ask(&house.room, |reply| Request::Consume { participant, producer, reply }).await;
        consumed.expect("consumable");
        let (offer_id, sdp) = ben.wait_for_offer().await;
        let answer = without_candidates(&ear.answer(&through(port, &sdp)).await);
        let answered =
            house.rooms.ask(&house.room, |reply| Request::Answer { participant, offer_id, answer, reply }).await;
        assert_eq!(answered, Ok(()));
    }
    assert_continuous(&ear.hear(AUDIO, 50).await);
    assert_continuous(&ear.hear(VIDEO, 30).await);
    assert!(plays.keyframe_requests.load(std::sync::atomic::Ordering::SeqCst) >= 1, "RTCP goes back over it");
    house.rooms.tell(&house.room, Request::Leave { participant: ben.id });
    tokio::time::timeout(PATIENCE, hears).await.expect("the gateway closes what nobody is behind").expect("ends well");
}

fn without_candidates(sdp: &str) -> String {
    sdp.lines().filter(|line| !line.starts_with("a=candidate")).flat_map(|line| [line, "\r\n"]).collect()
}

/// Waits until the gateway closes the connection; says nothing on it meanwhile.
async fn is_closed_within(stream: &mut TcpStream, time: Duration) -> bool {
    let mut answer = [0; 64];
    match tokio::time::timeout(time, stream.read(&mut answer)).await {
        Ok(Ok(length)) => length == 0,
        Ok(Err(error)) => error.kind() == ErrorKind::ConnectionReset,
        Err(_) => false,
    }
}

/// A STUN binding request for this user fragment whose integrity is made up, as a frame.
fn forged(ufrag: &str) -> Vec<u8> {
    let username = format!("{ufrag}:theirs");
    let mut attributes = vec![0, 6];
    attributes.extend(u16::try_from(username.len()).expect("short").to_be_bytes());
    attributes.extend(username.as_bytes());
    attributes.resize(attributes.len().next_multiple_of(4), 0);
    attributes.extend([0, 8, 0, 20]);
    attributes.extend([7; 20]);
    let length = u16::try_from(attributes.len()).expect("short");
    let mut frame = (length + 20).to_be_bytes().to_vec();
    frame.extend([0, 1]);
    frame.extend(length.to_be_bytes());
    frame.extend([0x21, 0x12, 0xa4, 0x42]);
    frame.extend([9; 12]);
    frame.extend(attributes);
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_speak_ice_over_tcp_is_shown_out() {
    let house = House::open();
    let gateway = house.workers.tcp_address().expect("it listens");
    let anna = house.enter("Anna").await;
    let mut plays = Musician::new().await;
    plays.play().await;
    let answer = house.publish(&anna, &mut plays).await;
    let ufrag = answer.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).expect("has one").to_owned();
    let in_time = Duration::from_secs(4);
    for nonsense in [
        b"GET / HTTP/1.1\r\nHost: jam.example\r\n\r\n".to_vec(),
        vec![0xff; 4],
        [vec![0x05, 0x00], vec![0; 1280]].concat(),
        forged("nobody"),
        forged(&ufrag),
    ] {
        let mut stream = TcpStream::connect(gateway).await.expect("the port is open");
        stream.write_all(&nonsense).await.expect("taken");
        assert!(is_closed_within(&mut stream, in_time).await, "{nonsense:?}");
    }
    let mut silent = TcpStream::connect(gateway).await.expect("the port is open");
    assert!(!is_closed_within(&mut silent, Duration::from_secs(2)).await, "a slow network has its time");
    assert!(is_closed_within(&mut silent, in_time).await, "but not for ever");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_connections_are_counted_and_can_be_switched_off() {
    let house =
        House::with(rtc::Config { max_tcp_connections: 2, bind: [127, 0, 0, 1].into(), ..rtc::Config::default() });
    let gateway = house.workers.tcp_address().expect("it listens");
    let _first = TcpStream::connect(gateway).await.expect("the port is open");
    let second = TcpStream::connect(gateway).await.expect("the port is open");
    let mut third = TcpStream::connect(gateway).await.expect("the kernel takes it");
    assert!(is_closed_within(&mut third, Duration::from_secs(2)).await);
    drop(second);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut fourth = TcpStream::connect(gateway).await.expect("the port is open");
    assert!(!is_closed_within(&mut fourth, Duration::from_millis(500)).await, "a place was given back");

    let house = House::with(rtc::Config { tcp: false, bind: [127, 0, 0, 1].into(), ..rtc::Config::default() });
    assert_eq!(house.workers.tcp_address(), None);
    let anna = house.enter("Anna").await;
    let mut plays = Musician::new().await;
    plays.play().await;
    assert!(!house.publish(&anna, &mut plays).await.contains("tcptype"));
}
