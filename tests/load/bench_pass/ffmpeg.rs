//! ffmpeg as the floor: takes plain RTP, leaves the picture as it is, makes Opus AAC and publishes by RTMP.

use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use anyhow::Result;
use tokio::net::UdpSocket;
use tokio::process::Child;
use tokio::process::Command;

use crate::bench_pass::ingest;
use crate::peer::LOOPBACK;
use crate::peer::OPUS;
use crate::peer::VIDEO;

/// It ends when this is dropped.
pub(super) struct Ffmpeg {
    child: Child,
    /// Of its sound and its picture.
    ports: [u16; 2],
}

impl Ffmpeg {
    /// Publishes to this server what is sent to its lines. With the bitrate that our programme's sound has on such a server.
    pub(super) fn start(folder: &Path, server: &str) -> Result<Self> {
        let ports = free_ports()?;
        let description = folder.join("bench.sdp");
        std::fs::write(&description, session(ports))?;
        let log = std::fs::File::create(folder.join("ffmpeg.log"))?;
        let child = Command::new("ffmpeg")
            .args(["-nostdin", "-hide_banner", "-loglevel", "warning", "-protocol_whitelist", "file,udp,rtp", "-i"])
            .arg(description)
            .args(["-c:v", "copy", "-c:a", "aac", "-b:a", "160k", "-f", "flv"])
            .arg(format!("{server}/{}", ingest::KEY))
            .stdin(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("ffmpeg cannot be started")?;
        Ok(Self { child, ports })
    }

    pub(super) fn pid(&self) -> Result<u32> {
        self.child.id().context("ffmpeg has ended")
    }

    /// For the packets of its sound and its picture.
    pub(super) async fn lines(&self) -> Result<[UdpSocket; 2]> {
        let mut lines = Vec::new();
        for port in self.ports {
            let line = UdpSocket::bind(LOOPBACK).await?;
            line.connect(("127.0.0.1", port)).await?;
            lines.push(line);
        }
        lines.try_into().ok().context("one for each port")
    }
}

/// Two ports whose neighbours above, which are for RTCP, are free as well.
fn free_ports() -> Result<[u16; 2]> {
    let is_free = |port: u16| std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok();
    let mut ports = (20_000..30_000).step_by(2).filter(|port| is_free(*port) && is_free(port + 1));
    ports.next().zip(ports.next()).map(<[u16; 2]>::from).context("no ports are free")
}

fn session([sound, picture]: [u16; 2]) -> String {
    format!(
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=bench\nc=IN IP4 127.0.0.1\nt=0 0\n\
         m=audio {sound} RTP/AVP {OPUS}\na=rtpmap:{OPUS} opus/48000/2\n\
         m=video {picture} RTP/AVP {VIDEO}\na=rtpmap:{VIDEO} H264/90000\na=fmtp:{VIDEO} packetization-mode=1\n"
    )
}
