//! Servers in memory: one that never answers, and hosts that take every publisher.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use jamcast::live::port::Connection;
use jamcast::live::port::Dial;
use jamcast::live::port::DialError;
use jamcast::model::spec::RtmpEndpoint;
use jamcast::proto::flv::TagKind;
use jamcast::proto::rtmp::receiver::Event;
use jamcast::proto::rtmp::receiver::Output;
use jamcast::proto::rtmp::receiver::Receiver;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

/// A server that never answers; counts who calls.
#[derive(Default)]
pub(super) struct SilentServer(AtomicUsize);

impl SilentServer {
    pub(super) fn calls(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Dial for SilentServer {
    async fn dial(&self, _: &RtmpEndpoint) -> Result<Box<dyn Connection>, DialError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
    async fn check(&self, _: &RtmpEndpoint) -> Result<Vec<SocketAddr>, DialError> {
        Ok(Vec::new())
    }
}

/// A server under every name, which takes every publisher.
#[derive(Default)]
pub(super) struct Hosts(Arc<Mutex<HashMap<String, Seen>>>);

/// What a server has seen of its publishers.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) dials: usize,
    /// The times of the pictures it got, in milliseconds.
    pub(super) pictures: Vec<u32>,
    /// Whether somebody is there.
    pub(super) open: bool,
}

impl Hosts {
    pub(super) fn seen(&self, host: &str) -> Seen {
        self.0.lock().expect("no panic").get(host).cloned().unwrap_or_default()
    }
}

#[async_trait]
impl Dial for Hosts {
    async fn dial(&self, endpoint: &RtmpEndpoint) -> Result<Box<dyn Connection>, DialError> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let (hosts, host) = (Arc::clone(&self.0), endpoint.host.clone());
        tokio::spawn(async move {
            let change = |act: fn(&mut Seen, u32), value| {
                act(hosts.lock().expect("no panic").entry(host.clone()).or_default(), value);
            };
            change(|seen, _| (seen.dials, seen.open) = (seen.dials + 1, true), 0);
            let mut receiver = Receiver::new("live".to_owned(), 1 << 20);
            let mut bytes = vec![0; 64 << 10];
            while let Ok(length @ 1..) = theirs.read(&mut bytes).await {
                receiver.handle(&bytes[..length]).expect("we speak RTMP");
                while let Some(output) = receiver.poll_output() {
                    match output {
                        Output::Send(answer) => {
                            if theirs.write_all(&answer).await.is_err() {
                                break;
                            }
                        }
                        Output::Event(Event::Publish { .. }) => receiver.accept(),
                        // The second byte of a picture is 1, that of a decoder configuration 0.
                        Output::Event(Event::Tag(tag)) if tag.kind == TagKind::Video && tag.body[1] == 1 => {
                            change(|seen, ms| seen.pictures.push(ms), tag.timestamp_ms);
                        }
                        Output::Event(Event::Finished) => change(|seen, _| seen.open = false, 0),
                        Output::Event(Event::Tag(_)) => {}
                    }
                }
            }
            change(|seen, _| seen.open = false, 0);
        });
        Ok(Box::new(ours))
    }
    async fn check(&self, _: &RtmpEndpoint) -> Result<Vec<SocketAddr>, DialError> {
        Ok(Vec::new())
    }
}
