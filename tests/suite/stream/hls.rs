//! HLS of a running stream: what viewers find while mixers come and go, and after its end.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use jamcast::live::registry::NewStream;
use jamcast::live::snapshot::StreamState;
use jamcast::model::id::StreamId;
use jamcast::model::media::CodecConfig;
use jamcast::model::media::EncodedFrame;
use jamcast::model::media::MediaKind;
use jamcast::proto::mixer::Control;
use jamcast::proto::mixer::FromMixer;
use jamcast::proto::mixer::Report;
use tokio::time::timeout;

use crate::stream::World;
use crate::stream::ask;
use crate::stream::eventually;
use crate::stream::mixers::FakeMixer;
use crate::stream::state;
use crate::stream::world;

/// Of x264 at 1280x720 and voaacenc, as a mixer announces them.
static CONFIG: LazyLock<CodecConfig> = LazyLock::new(|| {
    let avc = "0164001fffe1001d6764001facb402802dd80b50101014000003000400000300f23c60ca8001000468ef3cb0";
    let bytes = (0..avc.len()).step_by(2).map(|at| u8::from_str_radix(&avc[at..at + 2], 16).expect("hex"));
    CodecConfig { avc: bytes.collect::<Vec<_>>().into(), aac: Bytes::from_static(&[0x11, 0x90]) }
});

impl FakeMixer {
    /// Pictures twice a second, each second one a keyframe if it is due, with their sound.
    async fn play(&self, from_ms: u64, to_ms: u64) {
        for ms in (from_ms..to_ms).step_by(500) {
            self.video(ms, (ms - from_ms).is_multiple_of(2000)).await;
            let (kind, pts_us, data) = (MediaKind::Audio, ms * 1000, Bytes::from_static(b"sound"));
            self.say(FromMixer::Frame(EncodedFrame { kind, pts_us, dts_us: pts_us, key: true, data })).await;
        }
    }
}

/// The playlist as soon as it is as wanted.
async fn playlist(world: &World, id: StreamId, wanted: impl Fn(&str) -> bool) -> String {
    eventually(|| world.registry.hls(id)?.playlist().filter(|text| wanted(text))).await
}

#[tokio::test(start_paused = true)]
async fn viewers_go_on_behind_a_dead_mixer_and_are_told_the_end() {
    let mut world = world();
    let (id, mut watch) = world.start(NewStream { hls: true, ..ask("jam") }).await;
    assert_eq!(watch.borrow().hls_url.as_deref(), Some(format!("/hls/{id}/index.m3u8").as_str()));
    let first = world.mixer().await;
    assert_eq!(world.registry.hls(id).expect("open").playlist(), None);
    first.say(FromMixer::Config(CONFIG.clone())).await;
    first.play(1000, 6500).await;
    let before = playlist(&world, id, |text| text.contains("\n1.m4s\n")).await;
    assert!(!before.contains("#EXT-X-DISCONTINUITY\n") && before.contains("MAP:URI=\"init-1.mp4\"\n"), "{before}");

    // What the dead one began is shown as far as it came.
    drop(first);
    let second = world.mixer().await;
    second.say(FromMixer::Config(CONFIG.clone())).await;
    second.play(8000, 12_500).await;
    let after = playlist(&world, id, |text| text.contains("\n4.m4s\n")).await;
    let behind = after.split_once("\n2.m4s\n#EXT-X-DISCONTINUITY\n").expect("marked").1;
    assert!(behind.contains("\n3.m4s\n") && !behind.contains("DISCONTINUITY") && !behind.contains("MAP"), "{after}");

    world.registry.stop(id).await.expect("it stops");
    second.say(FromMixer::Report(Report::Finished)).await;
    state(&mut watch, StreamState::Ended).await;
    let end = playlist(&world, id, |text| text.ends_with("#EXT-X-ENDLIST\n")).await;
    assert!(end.contains("\n5.m4s\n"), "{end}");
    let shelf = world.registry.hls(id).expect("still there");
    assert!((0..=5).all(|number| shelf.segment(number).is_some()));
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert!(world.registry.hls(id).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_encoder_that_forgets_its_keyframes_is_asked_for_one() {
    let mut world = world();
    world.start(NewStream { hls: true, ..ask("jam") }).await;
    let mut mixer = world.mixer().await;
    mixer.say(FromMixer::Config(CONFIG.clone())).await;
    mixer.play(1000, 2900).await;
    mixer.video(3000, false).await;
    timeout(Duration::from_secs(5), mixer.control(&Control::ForceKeyframe)).await.expect("asked for");
}

#[tokio::test(start_paused = true)]
async fn nobody_watches_a_stream_that_does_not_offer_it() {
    let mut world = world();
    let (id, watch) = world.start(ask("jam")).await;
    let mixer = world.mixer().await;
    mixer.say(FromMixer::Config(CONFIG.clone())).await;
    mixer.play(1000, 6500).await;
    assert_eq!(watch.borrow().hls_url, None);
    assert!(world.registry.hls(id).is_none());
}
