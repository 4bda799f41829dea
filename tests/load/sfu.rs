//! Whoever forwards: our gateway, or the peer that it is measured beside.

use std::path::Path;

use anyhow::Result;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;

use crate::gateway::Gateway;
use crate::gateway::ROOM;
use crate::janus::Janus;
use crate::peer::LOOPBACK;
use crate::peer::Peer;

pub(crate) enum Sfu {
    Jamcast(Gateway),
    Janus(Janus),
}

impl Sfu {
    /// Ours first. Janus is there if Debian's package is.
    pub(crate) const NAMES: [&str; 2] = ["Jamcast", "Janus"];

    /// Starts one by its name in a folder of its own; `None` if it is not installed.
    pub(crate) async fn start(name: &str, program: &Path, folder: &Path) -> Result<Option<Self>> {
        if name == Self::NAMES[0] {
            return Ok(Some(Self::Jamcast(Gateway::start(program, folder).await?)));
        }
        Ok(Janus::start(folder).await?.map(Self::Janus))
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        match self {
            Self::Jamcast(gateway) => gateway.pid(),
            Self::Janus(janus) => janus.pid(),
        }
    }

    /// Where peers are to be: Janus reaches nobody from loopback.
    pub(crate) fn address(&self) -> &str {
        match self {
            Self::Jamcast(_) => LOOPBACK,
            Self::Janus(janus) => &janus.address,
        }
    }

    /// What a participant's [`Peer`] is made with.
    pub(crate) async fn token(&self, name: &str, role: &str) -> Result<String> {
        match self {
            Self::Jamcast(gateway) => gateway.room_token(name, role).await,
            Self::Janus(_) => Ok(String::new()),
        }
    }

    /// Connects somebody who sends what was added to the peer.
    pub(crate) async fn publish(&self, peer: &mut Peer) -> Result<()> {
        match self {
            Self::Jamcast(gateway) => peer.connect(&gateway.url, &format!("/whip/{ROOM}")).await,
            Self::Janus(janus) => janus.publish(peer).await,
        }
    }

    /// Connects somebody who receives the oldest of what is sent: this many voices and cameras. With Janus these are to be all.
    pub(crate) async fn subscribe(&self, peer: &mut Peer, voices: usize, cameras: usize) -> Result<()> {
        match self {
            Self::Jamcast(gateway) => {
                for (kind, count) in [(RtpCodecKind::Audio, voices), (RtpCodecKind::Video, cameras)] {
                    for _ in 0..count {
                        peer.receive(kind).await?;
                    }
                }
                peer.connect(&gateway.url, &format!("/whep/{ROOM}")).await
            }
            Self::Janus(janus) => janus.subscribe(peer).await,
        }
    }

    /// Says good-bye for a peer.
    pub(crate) async fn dismiss(&self, peer: Peer) -> Result<()> {
        match self {
            Self::Jamcast(_) => peer.close().await,
            Self::Janus(_) => Ok(peer.connection.close().await?),
        }
    }

    pub(crate) async fn stop(&mut self) -> Result<()> {
        match self {
            Self::Jamcast(gateway) => gateway.stop().await,
            Self::Janus(janus) => janus.stop().await,
        }
    }
}
