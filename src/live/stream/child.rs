//! The mixer as the stream holds it: being started, running, or not there.

use std::future;

use futures::future::BoxFuture;
use tokio::sync::mpsc::error::TrySendError;

use crate::live::port::MixerError;
use crate::live::port::MixerLink;
use crate::live::stream::outbox::Outbox;
use crate::proto::mixer::CanvasStroke;
use crate::proto::mixer::FromMixer;
use crate::proto::mixer::TappedPacket;
use crate::proto::mixer::ToMixer;

pub(super) enum Child {
    None,
    Starting(BoxFuture<'static, Result<MixerLink, MixerError>>),
    Running(Box<Running>),
}

pub(super) struct Running {
    link: MixerLink,
    outbox: Outbox,
}

pub(super) enum ChildEvent {
    Started(MixerLink),
    NotStarted(MixerError),
    /// A message left the outbox.
    Told,
    Said(FromMixer),
    Gone,
}

impl Child {
    pub(super) fn running(link: MixerLink, outbox: Outbox) -> Self {
        Self::Running(Box::new(Running { link, outbox }))
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Running(_))
    }

    /// What the running mixer is to be told.
    pub(super) fn outbox(&mut self) -> Option<&mut Outbox> {
        match self {
            Self::Running(running) => Some(&mut running.outbox),
            Self::None | Self::Starting(_) => None,
        }
    }

    /// The next event; for ever pending when there is no mixer. Safe to cancel.
    pub(super) async fn next(&mut self) -> ChildEvent {
        match self {
            Self::None => future::pending().await,
            Self::Starting(starting) => match starting.await {
                Ok(link) => ChildEvent::Started(link),
                Err(error) => ChildEvent::NotStarted(error),
            },
            Self::Running(running) => running.next().await,
        }
    }

    /// Offers a frame of a canvas; `false` if it is lost, because the mixer does not keep up or is not there.
    pub(super) fn offer_stroke(&mut self, stroke: CanvasStroke) -> bool {
        match self {
            Self::Running(running) => running.offer(ToMixer::Canvas(stroke)),
            Self::None | Self::Starting(_) => false,
        }
    }

    /// Offers a packet: it is lost, and counted, if the mixer does not keep up or is not there.
    pub(super) fn offer(&mut self, packet: TappedPacket) {
        let taken = match self {
            Self::Running(running) => running.offer(ToMixer::Rtp(packet)),
            Self::None | Self::Starting(_) => false,
        };
        if !taken {
            metrics::counter!("jamcast_mixer_dropped_packets_total").increment(1);
        }
    }
}

impl Running {
    async fn next(&mut self) -> ChildEvent {
        tokio::select! {
            biased;
            room = self.link.commands.reserve(), if !self.outbox.is_empty() => {
                match room {
                    Ok(room) => {
                        if let Some(control) = self.outbox.next() {
                            room.send(ToMixer::Control(control));
                        }
                    }
                    // It is dying; its events end in a moment and nothing it was to be told matters.
                    Err(_) => self.outbox = Outbox::default(),
                }
                ChildEvent::Told
            }
            event = self.link.events.recv() => event.map_or(ChildEvent::Gone, ChildEvent::Said),
        }
    }

    fn offer(&mut self, media: ToMixer) -> bool {
        // Control goes first, so that media can never keep a scene or a sender report waiting behind it.
        while !self.outbox.is_empty() {
            let Ok(room) = self.link.commands.try_reserve() else { return false };
            if let Some(control) = self.outbox.next() {
                room.send(ToMixer::Control(control));
            }
        }
        match self.link.commands.try_send(media) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => false,
        }
    }
}
