//! A worker without its socket, its thread and its clock, and what it does with a packet: opened for hostile input in virtual time.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use bytes::BytesMut;
use rtc::interceptor::AttributedPacket;
use rtc::interceptor::Packet;
use rtc::interceptor::TaggedPacket;
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::marshal::Unmarshal;
use tokio::sync::oneshot;

use crate::domain::room::forwarder::Outgoing;
use crate::driver::rtc::Config;
use crate::driver::rtc::demux::Demux;
use crate::driver::rtc::engine::Candidates;
use crate::driver::rtc::engine::Engine;
use crate::driver::rtc::feedback::Feedback;
use crate::driver::rtc::host::Host;
use crate::driver::rtc::media;
use crate::driver::rtc::path::Remote;
use crate::driver::rtc::sdp::Extensions;
use crate::driver::rtc::tcp::Directory;
use crate::live::rooms::Command;
use crate::live::rooms::Reply;
use crate::live::rooms::Request;
use crate::live::rooms::RoomError;
use crate::model::id::RoomId;
use crate::model::media::Codec;

/// A worker whose datagrams and time come from the caller.
pub(crate) struct Bare {
    host: Host,
    address: SocketAddr,
}

impl Default for Bare {
    fn default() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let engine = Engine::new(Candidates { udp: vec![address], tcp: Vec::new() }, false).expect("a certificate");
        Self { host: Host::new(Config::default(), engine, Demux::new(Directory::default(), 0)), address }
    }
}

impl Bare {
    /// Asks a room and gives its answer, if there is one already.
    pub(crate) fn ask<T>(
        &mut self,
        now: Instant,
        room: &RoomId,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Option<Result<T, RoomError>> {
        let (reply, mut answer) = oneshot::channel();
        self.host.handle(now, Command { room: room.clone(), request: request(reply) });
        answer.try_recv().ok()
    }

    pub(crate) fn tell(&mut self, now: Instant, room: &RoomId, request: Request) {
        self.host.handle(now, Command { room: room.clone(), request });
    }

    pub(crate) fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        self.host.receive(now, self.address, Remote::udp(from), datagram);
    }

    /// What a worker does between two reads of its socket; gives what it would send.
    pub(crate) fn turn(&mut self, now: Instant) -> Vec<(SocketAddr, BytesMut)> {
        self.host.run_timers(now);
        self.host.tick(now);
        self.host.turn(now, |_| {});
        std::mem::take(&mut self.host.outbox)
    }

    pub(crate) fn participants(&self) -> usize {
        self.host.participants()
    }
}

/// A received RTP packet as it comes out of SRTP and leaves its participant's transport.
pub(crate) struct Media(media::Media);

impl Media {
    pub(crate) fn read(mut packet: &[u8]) -> Option<Self> {
        rtc::rtp::Packet::unmarshal(&mut packet)
            .ok()
            .map(|packet| Self(media::Media::new(packet, Extensions::default())))
    }

    pub(crate) fn ssrc(&self) -> u32 {
        self.0.ssrc()
    }

    pub(crate) fn seq(&self) -> u16 {
        self.0.seq()
    }

    pub(crate) fn timestamp(&self) -> u32 {
        self.0.timestamp()
    }

    pub(crate) fn payload(&self) -> &[u8] {
        self.0.payload()
    }

    pub(crate) fn to_bytes(&self, codec: Codec, out: Outgoing) -> Option<Bytes> {
        self.0.to_bytes(codec, out)
    }
}

/// A received RTCP compound as it comes out of SRTP; gives how many packets the SFU acts on.
pub(crate) fn sift(mut compound: &[u8]) -> usize {
    let Ok(packets) = rtc::rtcp::packet::unmarshal(&mut compound) else { return 0 };
    let mut feedback = Feedback::default();
    let message = AttributedPacket::new(Packet::Rtcp(packets));
    let transport = TransportContext::default();
    feedback.handle_read(TaggedPacket { now: Instant::now(), transport, message }).expect("it refuses nothing");
    std::iter::from_fn(|| feedback.poll_read()).count()
}
