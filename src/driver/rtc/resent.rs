//! An interceptor that counts what the NACK responder sends again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rtc::interceptor::Attribute;
use rtc::interceptor::Interceptor;
use rtc::interceptor::StreamInfo;
use rtc::interceptor::TaggedPacket;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

/// Nearer to the wire than the responder, which sits at 4 000, so that its packets pass.
pub(super) const SLOT: usize = 3_500;

pub(super) struct Resent {
    count: Arc<AtomicU64>,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl Resent {
    pub(super) fn new(count: Arc<AtomicU64>) -> Self {
        Self { count, reads: VecDeque::new(), writes: VecDeque::new() }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Resent {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.reads.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        if packet.message.attributes.iter().any(|attribute| matches!(attribute, Attribute::Retransmission)) {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        self.writes.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }
}

impl Interceptor for Resent {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}
