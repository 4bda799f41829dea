//! The supervisor and its child over the socketpair.

use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use jamcast::driver::mixer::Config;
use jamcast::driver::mixer::MixerProcesses;
use jamcast::live::port::MixerLink;
use jamcast::live::port::Mixers;
use jamcast::model::id::StreamId;
use jamcast::model::id::TrackId;
use jamcast::model::media::EncodedFrame;
use jamcast::model::media::MediaKind;
use jamcast::proto::mixer::Control;
use jamcast::proto::mixer::FromMixer;
use jamcast::proto::mixer::Report;
use jamcast::proto::mixer::TappedPacket;
use jamcast::proto::mixer::ToMixer;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

const STAND_IN: &str = "mixer_link::a_stand_in_mixer_does_as_it_is_told";

/// Not a test but the child of the others, which call this binary with the name of this function: a mixer that gives every packet
/// back as a frame. Called in any other way it has nothing to do.
#[test]
fn a_stand_in_mixer_does_as_it_is_told() {
    if !std::env::args().any(|argument| argument == STAND_IN) {
        return;
    }
    let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("standard input is open");
    let mut socket = UnixStream::from(socket);
    let say = |socket: &mut UnixStream, message: FromMixer| {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        socket.write_all(&out).expect("the gateway reads");
    };
    let mut input = BytesMut::new();
    let mut chunk = [0; 4096];
    loop {
        while let Some(message) = ToMixer::decode(&mut input).expect("the gateway speaks our language") {
            let answer = match message {
                // Said to every mixer before all else.
                ToMixer::Control(Control::Pipelines { .. }) => continue,
                ToMixer::Rtp(tapped) => FromMixer::Frame(frame(tapped)),
                ToMixer::Control(Control::ForceKeyframe) => {
                    let names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
                    FromMixer::Report(Report::Failed { reason: names.join(" ") })
                }
                ToMixer::Control(Control::Finish) => {
                    say(&mut socket, FromMixer::Report(Report::Finished));
                    return;
                }
                other @ (ToMixer::Canvas(_) | ToMixer::Control(_)) => panic!("{other:?}"),
            };
            say(&mut socket, answer);
        }
        let length = socket.read(&mut chunk).expect("the gateway is there");
        assert_ne!(length, 0, "the gateway closed the socket");
        input.extend_from_slice(&chunk[..length]);
    }
}

fn frame(tapped: TappedPacket) -> EncodedFrame {
    EncodedFrame {
        kind: MediaKind::Video,
        pts_us: tapped.arrival_us,
        dts_us: tapped.arrival_us,
        key: true,
        data: tapped.packet,
    }
}

fn processes(config: Config) -> MixerProcesses {
    MixerProcesses::new(config, "/nowhere".into(), TaskTracker::new()).expect("no descriptions to be read")
}

async fn start() -> MixerLink {
    let arguments = [STAND_IN, "--exact", "--nocapture", "--test-threads=1"].map(str::to_owned).to_vec();
    let mixers = processes(Config { arguments, ..Config::default() });
    mixers.start(StreamId::generate()).await.expect("this test binary starts")
}

async fn hear(link: &mut MixerLink) -> Option<FromMixer> {
    timeout(Duration::from_secs(20), link.events.recv()).await.expect("an answer in time")
}

fn packet(bytes: usize) -> TappedPacket {
    TappedPacket { track: TrackId(1), arrival_us: bytes as u64, packet: Bytes::from(vec![7; bytes]) }
}

/// Waits until the process is gone and reaped: a zombie is still in the process table.
async fn reaped(pid: u32) {
    let gone = async {
        while Path::new(&format!("/proc/{pid}")).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), gone).await.expect("the process is reaped");
}

#[tokio::test]
async fn messages_go_there_and_back_and_a_finished_mixer_is_reaped() {
    let mut link = start().await;
    // The last is larger than any socket buffer, so that it is read in pieces.
    for size in [1, 1200, 2_000_000] {
        link.commands.send(ToMixer::Rtp(packet(size))).await.unwrap();
        assert_eq!(hear(&mut link).await, Some(FromMixer::Frame(frame(packet(size)))));
    }
    link.commands.send(ToMixer::Control(Control::Finish)).await.unwrap();
    assert_eq!(hear(&mut link).await, Some(FromMixer::Report(Report::Finished)));
    assert_eq!(hear(&mut link).await, None);
    reaped(link.pid).await;
}

#[tokio::test]
async fn a_mixer_inherits_only_what_gstreamer_needs() {
    let mut link = start().await;
    link.commands.send(ToMixer::Control(Control::ForceKeyframe)).await.unwrap();
    let Some(FromMixer::Report(Report::Failed { reason })) = hear(&mut link).await else { panic!("no answer") };
    let names: Vec<&str> = reason.split(' ').collect();
    assert!(names.contains(&"PATH"), "{names:?}");
    // Cargo sets this one for every test.
    assert!(std::env::var("CARGO_MANIFEST_DIR").is_ok() && !names.contains(&"CARGO_MANIFEST_DIR"), "{names:?}");
}

#[tokio::test]
async fn a_killed_mixer_ends_its_events() {
    let mut link = start().await;
    link.commands.send(ToMixer::Rtp(packet(1))).await.unwrap();
    assert!(hear(&mut link).await.is_some());
    let pid = rustix::process::Pid::from_raw(i32::try_from(link.pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(hear(&mut link).await, None);
    reaped(link.pid).await;
}

#[tokio::test]
async fn dropping_the_link_kills_the_mixer() {
    let mut link = start().await;
    link.commands.send(ToMixer::Rtp(packet(1))).await.unwrap();
    assert!(hear(&mut link).await.is_some());
    let pid = link.pid;
    drop(link);
    reaped(pid).await;
}

#[tokio::test]
async fn an_executable_that_is_not_there_is_an_error() {
    let config = Config { program: Some("/nowhere/jamcast".into()), ..Config::default() };
    let refused = processes(config).start(StreamId::generate()).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_child_that_speaks_nonsense_is_ended() {
    let config = Config {
        program: Some("/bin/sh".into()),
        arguments: vec!["-c".to_owned(), "printf 'hello from a shell' >&0; exec sleep 600".to_owned()],
        ..Config::default()
    };
    let mut link = processes(config).start(StreamId::generate()).await.expect("a shell");
    assert_eq!(hear(&mut link).await, None);
    reaped(link.pid).await;
}
