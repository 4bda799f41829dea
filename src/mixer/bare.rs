//! A track of the mixer without a programme around it: opened for hostile input.

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_app::AppSrc;

use crate::mixer::MOST_PIXELS;
use crate::mixer::error::Error;
use crate::mixer::pipelines::Pipelines;
use crate::mixer::programme::named;
use crate::mixer::programme::play;
use crate::mixer::programme::stop;
use crate::mixer::source::decoder::pipeline;
use crate::mixer::source::packet::Header;
use crate::mixer::source::packet::payload;
use crate::mixer::source::reorder::Next;
use crate::mixer::source::reorder::Reorder;
use crate::mixer::source::timing::SharedClock;
use crate::mixer::source::timing::TrackClock;
use crate::model::id::TrackId;
use crate::model::media::Codec;
use crate::model::scene::SourceTrack;
use crate::proto::av1::Depacketizer;

/// Packets put in order and in time, and thrown away instead of decoded.
pub(crate) struct Track {
    shared: SharedClock,
    clock: TrackClock,
    packets: Reorder<Bytes>,
    taken: usize,
    given: usize,
}

impl Track {
    pub(crate) const PAYLOAD_TYPE: u8 = 96;

    pub(crate) fn new(codec: Codec) -> Self {
        Self {
            shared: SharedClock::default(),
            clock: TrackClock::new(codec.kind(), codec.clock_rate()),
            packets: Reorder::new(),
            taken: 0,
            given: 0,
        }
    }

    pub(crate) fn packet(&mut self, arrival_us: u64, packet: &[u8]) {
        let Some(header) = Header::read(packet) else { return };
        let arrival = i64::try_from(arrival_us * 1000).expect("virtual time is short");
        let due = self.clock.due(&mut self.shared, arrival, header.timestamp);
        let taken = self.packets.push(header.sequence, due, Bytes::copy_from_slice(packet));
        self.taken += usize::from(taken.is_ok());
    }

    pub(crate) fn sender_report(&mut self, ntp: u64, rtp: u32) {
        self.clock.sender_report(&mut self.shared, ntp, rtp);
    }

    /// Takes out what is due.
    ///
    /// # Panics
    /// More came out than was taken in.
    pub(crate) fn advance(&mut self, now_us: u64) {
        let now = i64::try_from(now_us * 1000).expect("virtual time is short");
        while let Some(next) = self.packets.pop(now + 300_000_000, now + 60_000_000) {
            self.given += usize::from(matches!(next, Next::Packet { .. }));
            assert!(self.given <= self.taken, "a packet came out twice");
        }
    }
}

/// Packets as the entry of their decoder's pipeline takes them.
fn taken(codec: Codec, packets: Vec<Vec<u8>>) -> Vec<Bytes> {
    if codec != Codec::Av1 {
        return packets.into_iter().map(Bytes::from).collect();
    }
    let mut units = Depacketizer::new(MOST_PIXELS);
    let take = |packet: Vec<u8>| {
        let Header { timestamp, marker, .. } = Header::read(&packet)?;
        Some(units.push(payload(&packet)?, timestamp, marker, ()))
    };
    packets.into_iter().filter_map(take).flatten().map(|unit| unit.data).collect()
}

/// Runs packets through the decoder's pipeline, as many as its entry holds; that it fails on them is no error here.
///
/// # Errors
/// The pipeline cannot be built.
pub(crate) fn decode(codec: Codec, packets: Vec<Vec<u8>>) -> Result<(), Error> {
    gst::init()?;
    let track = SourceTrack { track: TrackId(0), codec, payload_type: Track::PAYLOAD_TYPE };
    let pipeline = pipeline(&Pipelines::default(), track)?;
    let entry: AppSrc = named(&pipeline, "in")?;
    // Nobody takes the pictures out; the end must not wait for that.
    let exit: AppSink = named(&pipeline, "out")?;
    exit.set_property("wait-on-eos", false);
    play("hostile", &pipeline)?;
    for (index, packet) in taken(codec, packets).into_iter().enumerate() {
        let mut buffer = gst::Buffer::from_slice(packet);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::from_mseconds(index as u64 * 10));
        }
        if entry.push_buffer(buffer).is_err() {
            break;
        }
    }
    let _refused_when_failed = entry.end_of_stream();
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let ended = pipeline.bus().and_then(|bus| bus.timed_pop_filtered(gst::ClockTime::from_seconds(20), &ends));
    stop("hostile", &pipeline);
    assert!(ended.is_some(), "the pipeline hangs");
    Ok(())
}
