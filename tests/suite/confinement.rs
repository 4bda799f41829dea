//! A mixer process from the inside: what somebody who has taken over a decoder could do.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use jamcast::mixer;

const INSIDE: &str = "confinement::an_intruder_tries_everything";

/// Not a test but the child of the one below, which calls this binary with the name of this function and a folder.
#[test]
fn an_intruder_tries_everything() {
    if !std::env::args().any(|argument| argument == INSIDE) {
        return;
    }
    let folder = std::env::var("INTRUDERS_FOLDER").expect("the test gives one");
    let (folder, address) = (Path::new(&folder), std::env::var("INTRUDERS_ADDRESS").expect("the test gives one"));
    let allowed = folder.join("recordings");
    let before = UnixStream::pair().expect("a socket as it is inherited");
    mixer::confine(Some(&allowed)).expect("the kernel confines");
    mixer::settle().expect("the kernel confines");
    let say =
        |what: &str, done: bool| writeln!(std::io::stdout(), "intruder: {what}={done}").expect("the test listens");
    say("reads the vault", std::fs::read(folder.join("master-key")).is_ok());
    say("lists the data", std::fs::read_dir(folder).is_ok());
    say("writes beside the recordings", std::fs::write(folder.join("new"), "x").is_ok());
    say(
        "records",
        std::fs::write(allowed.join("new.mp4"), "x").is_ok() && std::fs::read(allowed.join("new.mp4")).is_ok(),
    );
    say("connects", TcpStream::connect(&address).is_ok());
    say("opens a UDP socket", UdpSocket::bind("127.0.0.1:0").is_ok());
    say("listens", TcpListener::bind("127.0.0.1:0").is_ok());
    say("talks to the machine's services", UnixStream::connect(folder.join("service")).is_ok());
    say("starts a program", Command::new("/bin/true").status().is_ok());
    say("reads the system's libraries", std::fs::read_dir("/usr/lib").is_ok());
    say("talks to the gateway", (&before.0).write_all(b"x").is_ok());
    say("starts threads", std::thread::spawn(|| ()).join().is_ok());
}

#[test]
fn a_mixer_records_and_talks_to_its_gateway_and_can_do_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("master-key"), "secret").expect("a file");
    std::fs::create_dir(folder.path().join("recordings")).expect("a folder");
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let _service = std::os::unix::net::UnixListener::bind(folder.path().join("service")).expect("a service");
    let output = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", INSIDE, "--nocapture"])
        .env("INTRUDERS_FOLDER", folder.path())
        .env("INTRUDERS_ADDRESS", server.local_addr().expect("bound").to_string())
        .output()
        .expect("this binary runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let done: BTreeMap<&str, bool> = told
        .lines()
        .filter_map(|line| line.split("intruder: ").nth(1)?.split_once('='))
        .map(|(what, done)| (what, done == "true"))
        .collect();
    let expected = [
        ("connects", false),
        ("lists the data", false),
        ("listens", false),
        ("opens a UDP socket", false),
        ("reads the system's libraries", true),
        ("reads the vault", false),
        ("records", true),
        ("starts a program", false),
        ("starts threads", true),
        ("talks to the gateway", true),
        ("talks to the machine's services", false),
        ("writes beside the recordings", false),
    ];
    assert_eq!(done, expected.into(), "{told}{}", String::from_utf8_lossy(&output.stderr));
}
