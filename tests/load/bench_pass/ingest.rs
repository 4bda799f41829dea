//! The RTMP server that everybody publishes to: it notes when each picture came, and what it holds.

use std::sync::Arc;
use std::sync::Mutex;

use anyhow::Result;
use jamcast::proto::flv::Tag;
use jamcast::proto::flv::TagKind;
use jamcast::proto::rtmp::receiver::Event;
use jamcast::proto::rtmp::receiver::Output;
use jamcast::proto::rtmp::receiver::Receiver;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time::Instant;

const APP: &str = "live";
pub(super) const KEY: &str = "bench";

/// The pictures that arrived at the server.
pub(super) type Received = Arc<Mutex<Vec<Arrival>>>;

#[derive(Clone)]
pub(super) struct Arrival {
    /// Of its last byte.
    pub(super) at: Instant,
    timestamp_ms: u32,
    /// Its slices.
    pub(super) picture: Vec<u8>,
}

/// Where to publish, without the key.
pub(super) fn url(listener: &TcpListener) -> Result<String> {
    Ok(format!("rtmp://{}/{APP}", listener.local_addr()?))
}

/// Takes one publisher and notes each of its pictures.
pub(super) async fn receive(listener: TcpListener, received: Received) {
    let Ok((mut stream, _)) = listener.accept().await else { return };
    let mut receiver = Receiver::new(APP.to_owned(), 4 << 20);
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let now = Instant::now();
        if receiver.handle(&buffer[..length]).is_err() {
            return;
        }
        while let Some(output) = receiver.poll_output() {
            match output {
                Output::Send(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Output::Event(Event::Publish { .. }) => receiver.accept(),
                // Frame type and codec, kind of packet, composition time; then the picture.
                Output::Event(Event::Tag(Tag { kind: TagKind::Video, body, timestamp_ms }))
                    if body.get(1) == Some(&1) =>
                {
                    note(&received, now, timestamp_ms, &body[5..]);
                }
                Output::Event(Event::Tag(_)) => {}
                Output::Event(Event::Finished) => return,
            }
        }
    }
}

/// A tag of the time of the one before holds the rest of its picture: ffmpeg parts them where parameter sets stand between two slices.
fn note(received: &Received, now: Instant, timestamp_ms: u32, data: &[u8]) {
    let mut received = received.lock().expect("nothing panics");
    match received.last_mut() {
        Some(last) if last.timestamp_ms == timestamp_ms => {
            last.at = now;
            last.picture.extend(slices(data));
        }
        _ => received.push(Arrival { at: now, timestamp_ms, picture: slices(data).collect() }),
    }
}

/// What is not a parameter set or a delimiter (ITU-T H.264 table 7-1), with the lengths before each unit.
fn slices(mut data: &[u8]) -> impl Iterator<Item = u8> {
    let units = std::iter::from_fn(move || {
        let length = u32::from_be_bytes(*data.first_chunk()?) as usize;
        let (unit, rest) = data.split_at_checked(4 + length)?;
        data = rest;
        Some(unit)
    });
    units.filter(|unit| !matches!(unit.get(4).map(|head| head & 0x1f), Some(7..=9))).flatten().copied()
}
