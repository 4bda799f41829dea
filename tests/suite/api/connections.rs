//! HTTP connections as the gateway's sockets meet them.

use std::net::SocketAddr;
use std::time::Duration;

use jamcast::web;
use jamcast::web::config::Config;
use jamcast::web::listener;
use jamcast::web::ws;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::api::world::World;

const HEADER_TIMEOUT: Duration = Duration::from_millis(400);
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Served {
    world: World,
    address: SocketAddr,
    task: JoinHandle<()>,
}

async fn served(config: Config) -> Served {
    let header_read_timeout_ms = HEADER_TIMEOUT.as_millis() as u64;
    let config = Config { listener: listener::Config { header_read_timeout_ms, ..config.listener }, ..config };
    let world = World::with(config, None).await;
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    let gateway = world.gateway.clone();
    let task = tokio::spawn(async move {
        listener::serve(socket, web::router(&gateway), &gateway.config, gateway.shutdown.clone()).await;
    });
    Served { world, address, task }
}

impl Served {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("it listens")
    }

    /// Opens the signalling socket with this header, and tells the status it was refused with.
    async fn signal(&self, forwarded_for: &str) -> Result<impl Sized + use<>, u16> {
        let mut request = format!("ws://{}/media-relay", self.address).into_client_request().expect("a request");
        request.headers_mut().insert("sec-websocket-protocol", "jamcast.v1".parse().expect("a header"));
        request.headers_mut().insert("x-forwarded-for", forwarded_for.parse().expect("a header"));
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Until the gateway closes the connection; what came before.
async fn to_the_end(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A reset is an end too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("it is closed");
    String::from_utf8_lossy(&said).into_owned()
}

/// Asks on a connection that stays open; `false` if it is closed instead.
async fn answers(stream: &mut TcpStream) -> bool {
    let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nhost: jam\r\n\r\n").await;
    let mut head = [0; 12];
    let read = timeout(PATIENCE, stream.read_exact(&mut head)).await.expect("an answer or an end");
    read.is_ok() && &head == b"HTTP/1.1 200"
}

#[tokio::test]
async fn half_a_header_is_not_waited_for() {
    let served = served(Config::default()).await;
    let begun = Instant::now();
    let mut silent = served.connect().await;
    let mut slow = served.connect().await;
    let dripping = tokio::spawn(async move {
        // A byte now and then, so that the connection is never idle.
        for byte in b"GET /livez HTTP/1.1\r\nhost: a.very.long.name.that.never.ends".iter().cycle() {
            if slow.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(HEADER_TIMEOUT / 10).await;
        }
    });
    to_the_end(&mut silent).await;
    timeout(PATIENCE, dripping).await.expect("it is cut off").expect("no panic");
    assert!(begun.elapsed() >= HEADER_TIMEOUT, "an honest caller has this long: {:?}", begun.elapsed());
    assert!(answers(&mut served.connect().await).await, "others are served");
}

#[tokio::test]
async fn a_long_answer_is_not_cut_off() {
    let served = served(Config::default()).await;
    let anna = served.world.streamer("anna");
    let stream = served.world.stream(&anna, "jam").await;
    let mut events = served.connect().await;
    let ask =
        format!("GET /api/v1/streams/{stream}/events HTTP/1.1\r\nhost: jam\r\nauthorization: Bearer {anna}\r\n\r\n");
    events.write_all(ask.as_bytes()).await.expect("sent");
    tokio::time::sleep(HEADER_TIMEOUT * 3).await;
    let started =
        served.world.send(axum::http::Method::POST, &format!("/api/v1/streams/{stream}/start"), &anna, None).await;
    assert_eq!(started.status.as_u16(), 202);
    let mut said = String::new();
    while !said.contains("\"state\":\"starting\"") {
        let mut some = [0; 4096];
        let length = timeout(PATIENCE, events.read(&mut some)).await.expect("in time").expect("open");
        assert!(length > 0, "closed after: {said}");
        said.push_str(&String::from_utf8_lossy(&some[..length]));
    }
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let listener = listener::Config { max_connections: 4, max_connections_per_ip: 2, ..listener::Config::default() };
    let plain = served(Config { listener: listener.clone(), ..Config::default() }).await;
    let (mut first, mut second) = (plain.connect().await, plain.connect().await);
    assert!(answers(&mut first).await && answers(&mut second).await);
    assert!(!answers(&mut plain.connect().await).await, "the third is refused");
    drop(first);
    let again = async {
        while !answers(&mut plain.connect().await).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("a closed one makes room");

    // A trusted proxy brings everybody's connections, so that only the whole is limited.
    let trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    let proxied = served(Config { listener, trusted_proxies, ..Config::default() }).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut next = proxied.connect().await;
        assert!(answers(&mut next).await);
        open.push(next);
    }
    assert!(!answers(&mut proxied.connect().await).await, "the fifth is refused");
}

#[tokio::test]
async fn a_websocket_counts_for_the_caller_that_a_trusted_proxy_names() {
    let ws = ws::Config { max_connections_per_ip: 1, ..ws::Config::default() };
    let listener = listener::Config { max_connections_per_ip: 1, ..listener::Config::default() };
    let trusted_proxies = vec!["127.0.0.1".parse().expect("a network")];
    let proxied = served(Config { ws: ws.clone(), trusted_proxies, ..Config::default() }).await;
    let _anna = proxied.signal("203.0.113.1").await.expect("the first of its address");
    let _ben = proxied.signal("203.0.113.2").await.expect("the first of another address");
    assert_eq!(proxied.signal("203.0.113.1").await.err(), Some(429));
    assert_eq!(proxied.signal("203.0.113.3, 203.0.113.2").await.err(), Some(429), "the proxy's word is the last one");

    // Without a trusted proxy the header is the caller's invention. And a WebSocket gives its HTTP connection's place back.
    let open = served(Config { ws, listener, ..Config::default() }).await;
    let _anna = open.signal("203.0.113.1").await.expect("the first of its address");
    assert_eq!(open.signal("203.0.113.2").await.err(), Some(429));
}

#[tokio::test]
async fn a_shutdown_ends_resting_connections_and_sockets() {
    let served = served(Config::default()).await;
    let mut resting = served.connect().await;
    assert!(answers(&mut resting).await);
    let _socket = served.signal("").await.expect("opens");
    served.world.gateway.shutdown.cancel();
    timeout(PATIENCE, served.task).await.expect("it ends").expect("no panic");
    to_the_end(&mut resting).await;
    assert!(TcpStream::connect(served.address).await.is_err(), "nobody listens any more");
}
