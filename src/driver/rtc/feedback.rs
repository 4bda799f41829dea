//! An interceptor that lets the RTCP through which the SFU acts on: keyframe requests, sender reports, and what receivers say of their
//! links.
//!
//! `rtc` 0.21.1 keeps all inbound RTCP to itself unless an interceptor marks it, and routes a compound by the first SSRC of its
//! first packet, dropping the whole when that is unknown. So each packet of interest goes on alone.

use std::collections::VecDeque;
use std::time::Instant;

use rtc::interceptor::Attribute;
use rtc::interceptor::AttributedPacket;
use rtc::interceptor::Interceptor;
use rtc::interceptor::Packet;
use rtc::interceptor::StreamInfo;
use rtc::interceptor::TaggedPacket;
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

/// Behind every interceptor of the crate, the last of which sits at 13 000.
pub(super) const SLOT: usize = 14_000;

#[derive(Default)]
pub(super) struct Feedback {
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl Feedback {
    fn pass(&mut self, like: &TaggedPacket, packet: Box<dyn rtc::rtcp::Packet>) {
        let mut message = AttributedPacket::new(Packet::Rtcp(vec![packet]));
        message.add(Attribute::DeliverToApplication);
        self.reads.push_back(TaggedPacket { now: like.now, transport: like.transport, message });
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Feedback {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        let Packet::Rtcp(packets) = &msg.message.packet else {
            self.reads.push_back(msg);
            return Ok(());
        };
        for packet in packets {
            let any = packet.as_any();
            if any.is::<PictureLossIndication>() || any.is::<FullIntraRequest>() {
                self.pass(&msg, packet.clone());
            } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
                for block in &report.reports {
                    let alone = ReceiverReport { ssrc: report.ssrc, reports: vec![block.clone()], ..<_>::default() };
                    self.pass(&msg, Box::new(alone));
                }
            } else if let Some(report) = any.downcast_ref::<SenderReport>() {
                // Without its blocks about our own streams it is routed by the stream it reports on.
                self.pass(&msg, Box::new(SenderReport { reports: Vec::new(), ..report.clone() }));
            }
        }
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        self.writes.push_back(msg);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }
}

impl Interceptor for Feedback {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}
