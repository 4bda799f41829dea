//! Mixers that are what the test says, and hear what the stream tells them.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jamcast::live::port::MixerError;
use jamcast::live::port::MixerLink;
use jamcast::live::port::Mixers;
use jamcast::model::id::StreamId;
use jamcast::model::media::CodecConfig;
use jamcast::model::media::EncodedFrame;
use jamcast::model::media::MediaKind;
use jamcast::model::scene::Scene;
use jamcast::proto::mixer::CanvasStroke;
use jamcast::proto::mixer::Control;
use jamcast::proto::mixer::FromMixer;
use jamcast::proto::mixer::Report;
use jamcast::proto::mixer::ToMixer;
use tokio::sync::mpsc;
use tokio::time::timeout;

pub(super) struct FakeMixers {
    pub(super) born: mpsc::Sender<FakeMixer>,
    /// Room in a mixer's command queue.
    pub(super) queue: usize,
    pub(super) start: MixerStart,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum MixerStart {
    Works,
    /// Each stream has a second one that stands by.
    InPairs,
    Fails,
    Panics,
}

#[async_trait]
impl Mixers for FakeMixers {
    async fn start(&self, _: StreamId) -> Result<MixerLink, MixerError> {
        assert!(self.start != MixerStart::Panics, "a bug of the gateway");
        if self.start == MixerStart::Fails {
            return Err(MixerError::Spawn(std::io::Error::other("no such executable")));
        }
        let (commands, heard) = mpsc::channel(self.queue);
        let (says, events) = mpsc::channel(64);
        self.born.send(FakeMixer { heard, says }).await.expect("the test takes mixers");
        Ok(MixerLink { pid: 1, commands, events })
    }

    fn has_standby(&self) -> bool {
        self.start == MixerStart::InPairs
    }
}

pub(super) struct FakeMixer {
    pub(super) heard: mpsc::Receiver<ToMixer>,
    pub(super) says: mpsc::Sender<FromMixer>,
}

impl FakeMixer {
    pub(super) async fn hear(&mut self) -> ToMixer {
        timeout(Duration::from_secs(2), self.heard.recv()).await.expect("in time").expect("not dropped")
    }

    /// The next scene that matches, passing over everything before it.
    pub(super) async fn scene(&mut self, wanted: impl Fn(&Scene) -> bool) -> Scene {
        loop {
            if let ToMixer::Control(Control::Scene { scene }) = self.hear().await
                && wanted(&scene)
            {
                return *scene;
            }
        }
    }

    pub(super) async fn control(&mut self, wanted: &Control) {
        while self.hear().await != ToMixer::Control(wanted.clone()) {}
    }

    /// The next frame of a canvas, passing over everything before it.
    pub(super) async fn stroke(&mut self) -> CanvasStroke {
        loop {
            if let ToMixer::Canvas(stroke) = self.hear().await {
                return stroke;
            }
        }
    }

    pub(super) async fn say(&self, message: FromMixer) {
        self.says.send(message).await.expect("the stream listens");
    }

    pub(super) async fn video(&self, dts_ms: u64, key: bool) {
        let frame = EncodedFrame {
            kind: MediaKind::Video,
            pts_us: dts_ms * 1000,
            dts_us: dts_ms * 1000,
            key,
            data: Bytes::from_static(b"picture"),
        };
        self.say(FromMixer::Frame(frame)).await;
    }

    /// What a mixer says first.
    pub(super) async fn begin(&self, dts_ms: u64) {
        let config = CodecConfig { avc: Bytes::from_static(b"avc"), aac: Bytes::from_static(b"aac") };
        self.say(FromMixer::Report(Report::Playing)).await;
        self.say(FromMixer::Config(config)).await;
        self.video(dts_ms, true).await;
    }
}
