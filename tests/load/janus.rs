//! Janus as the peer that our SFU is measured beside: Debian's server with its VideoRoom and nothing else, told what to do over HTTP.

use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use serde_json::json;
use tokio::process::Child;
use tokio::process::Command;

use crate::peer::Peer;

const VIDEO_ROOM: &str = "janus.plugin.videoroom";
const ROOM: u64 = 1;
/// How long Janus may take to begin or to answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Janus {
    child: Child,
    url: String,
    /// Its own, and any port.
    pub(crate) address: String,
    http: reqwest::Client,
    /// Its names for the publishers, oldest first.
    feeds: Mutex<Vec<u64>>,
}

/// One participant's, or the room's own, way to the VideoRoom.
struct Handle {
    session: String,
    handle: String,
}

impl Janus {
    /// `None` if it is not installed.
    pub(crate) async fn start(folder: &Path) -> Result<Option<Self>> {
        let Some(plugins) = installed() else { return Ok(None) };
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        write_configuration(folder, &plugins, port)?;
        let log = std::fs::File::create(folder.join("janus.log"))?;
        let child = Command::new("janus")
            .arg("--disable-colors")
            .arg("--configs-folder")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("janus cannot be started")?;
        let url = format!("http://127.0.0.1:{port}/janus");
        let http = reqwest::Client::new();
        let about = tokio::time::timeout(PATIENCE, async {
            loop {
                match http.get(format!("{url}/info")).send().await {
                    Ok(answer) => break answer.json::<Value>().await,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        let about = about.await.context("Janus does not answer")??;
        let address = about["local-ip"].as_str().context("Janus has no address")?;
        let janus = Self { child, url, address: format!("{address}:0"), http, feeds: Mutex::default() };
        janus.open_room().await?;
        Ok(Some(janus))
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().context("Janus has ended")
    }

    /// Brings in somebody who sends what was added to the peer.
    pub(crate) async fn publish(&self, peer: &mut Peer) -> Result<()> {
        let handle = self.attach().await?;
        let joined = self.ask(&handle, &json!({ "request": "join", "ptype": "publisher", "room": ROOM }), None).await?;
        let feed = joined["plugindata"]["data"]["id"].as_u64().context("Janus names no feed")?;
        let offer = peer.offer().await?;
        let answer = self.ask(&handle, &json!({ "request": "publish" }), Some(("offer", offer))).await?;
        peer.accept(description(&answer)?).await?;
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner).push(feed);
        Ok(())
    }

    /// Brings in somebody who receives all that is sent by now, over one connection.
    pub(crate) async fn subscribe(&self, peer: &mut Peer) -> Result<()> {
        let feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let streams: Vec<Value> = feeds.into_iter().map(|feed| json!({ "feed": feed })).collect();
        let handle = self.attach().await?;
        let join = json!({ "request": "join", "ptype": "subscriber", "room": ROOM, "streams": streams });
        let offer = self.ask(&handle, &join, None).await?;
        let answer = peer.answer(description(&offer)?).await?;
        self.ask(&handle, &json!({ "request": "start" }), Some(("answer", answer))).await?;
        peer.wait_until_connected().await
    }

    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.child.kill().await.context("Janus cannot be stopped")
    }

    /// A room without limits of its own: no bit rate is imposed, and nobody is told who comes.
    async fn open_room(&self) -> Result<()> {
        let handle = self.attach().await?;
        let room = json!({
            "request": "create", "room": ROOM, "publishers": 64, "bitrate": 0, "audiocodec": "opus", "videocodec": "vp8",
        });
        self.ask(&handle, &room, None).await?;
        Ok(())
    }

    async fn attach(&self) -> Result<Handle> {
        let session = self.post(&self.url, json!({ "janus": "create" })).await?;
        let session = format!("{}/{}", self.url, session["data"]["id"].as_u64().context("Janus names no session")?);
        let handle = self.post(&session, json!({ "janus": "attach", "plugin": VIDEO_ROOM })).await?;
        let handle = format!("{session}/{}", handle["data"]["id"].as_u64().context("Janus names no handle")?);
        Ok(Handle { session, handle })
    }

    /// Sends the VideoRoom a request and waits for what comes of it.
    async fn ask(&self, handle: &Handle, body: &Value, jsep: Option<(&str, String)>) -> Result<Value> {
        let mut message = json!({ "janus": "message", "body": body });
        if let Some((kind, sdp)) = jsep {
            message["jsep"] = json!({ "type": kind, "sdp": sdp });
        }
        let mut reply = self.post(&handle.handle, message).await?;
        if reply["janus"] == "ack" {
            let transaction = reply["transaction"].clone();
            let outcome = async {
                loop {
                    let event = self.http.get(format!("{}?maxev=1", handle.session)).send().await?;
                    let event: Value = event.error_for_status()?.json().await?;
                    if event["transaction"] == transaction && event["janus"] == "event" {
                        return Ok::<_, anyhow::Error>(event);
                    }
                }
            };
            reply = tokio::time::timeout(PATIENCE, outcome).await.context("Janus does not answer")??;
        }
        let data = &reply["plugindata"]["data"];
        if !data["error"].is_null() {
            bail!("Janus refused {}: {data}", body["request"]);
        }
        Ok(reply)
    }

    async fn post(&self, url: &str, mut request: Value) -> Result<Value> {
        request["transaction"] = uuid::Uuid::new_v4().to_string().into();
        let reply: Value = self.http.post(url).json(&request).send().await?.error_for_status()?.json().await?;
        if reply["janus"] == "error" {
            bail!("Janus answered {reply}");
        }
        Ok(reply)
    }
}

fn description(reply: &Value) -> Result<String> {
    reply["jsep"]["sdp"].as_str().map(str::to_owned).context("Janus sent no description")
}

/// The folder of its plugins and transports.
fn installed() -> Option<PathBuf> {
    let libraries = std::fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok).map(|entry| entry.path().join("janus"));
    libraries.into_iter().find(|folder| folder.join("plugins/libjanus_videoroom.so").exists())
}

/// Debian's settings, but for the plugins and transports that are not needed and the sessions' end after a minute of silence.
fn write_configuration(folder: &Path, installed: &Path, port: u16) -> Result<()> {
    for (kind, library) in [("plugins", "libjanus_videoroom.so"), ("transports", "libjanus_http.so")] {
        std::fs::create_dir(folder.join(kind))?;
        std::os::unix::fs::symlink(installed.join(kind).join(library), folder.join(kind).join(library))?;
    }
    std::fs::create_dir(folder.join("none"))?;
    let here = folder.display();
    let general = format!(
        "general: {{\n  plugins_folder = \"{here}/plugins\"\n  transports_folder = \"{here}/transports\"\n  \
         events_folder = \"{here}/none\"\n  loggers_folder = \"{here}/none\"\n  debug_level = 3\n  session_timeout = 0\n}}\n"
    );
    std::fs::write(folder.join("janus.jcfg"), general)?;
    let http = format!("general: {{\n  http = true\n  ip = \"127.0.0.1\"\n  port = {port}\n  https = false\n}}\n");
    std::fs::write(folder.join("janus.transport.http.jcfg"), http)?;
    std::fs::write(folder.join("janus.plugin.videoroom.jcfg"), "general: {}\n")?;
    Ok(())
}
