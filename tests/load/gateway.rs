//! A gateway that this process started, on free ports and in its own folder, or one that runs.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::Command;

/// The room every gateway begins with.
pub(crate) const ROOM: &str = "demo";

pub(crate) struct Gateway {
    /// None of one that runs.
    child: Option<Child>,
    pub(crate) url: String,
    token: String,
    http: reqwest::Client,
}

impl Gateway {
    /// One that runs, and a token for its API.
    pub(crate) fn running(url: &str, token: &str) -> Self {
        Self { child: None, url: url.to_owned(), token: token.to_owned(), http: reqwest::Client::new() }
    }

    pub(crate) async fn start(program: &Path, folder: &Path) -> Result<Self> {
        Self::start_with(program, folder, &[]).await
    }

    /// With these settings, by the names of their variables.
    pub(crate) async fn start_with(program: &Path, folder: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        let log = std::fs::File::create(folder.join("gateway.log"))?;
        let mut child = Command::new(program)
            .arg("serve")
            .env("JAMCAST__DATA__FOLDER", folder)
            .env("JAMCAST__SERVER__LISTEN", "127.0.0.1:0")
            .env("JAMCAST__HTTP__METRICS_LISTEN", "127.0.0.1:0")
            .env("JAMCAST__RTC__UDP_PORT", "0")
            .env("JAMCAST__RTC__TCP_PORT", "0")
            .env("JAMCAST__DEMO__INGEST_LISTEN", "127.0.0.1:0")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let found = tokio::time::timeout(Duration::from_secs(20), async {
            while let Some(line) = lines.next_line().await? {
                if let Some((url, token)) = line.trim().split_once("/#token=") {
                    return Ok((url.to_owned(), token.to_owned()));
                }
            }
            bail!("the gateway ended; see {}", folder.join("gateway.log").display())
        });
        let (url, token) = found.await.context("the gateway printed no studio URL within 20 s")??;
        Ok(Self { child: Some(child), url, token, http: reqwest::Client::new() })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.answer(self.http.get(format!("{}{path}", self.url))).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let request = self.http.post(format!("{}{path}", self.url));
        self.answer(if body.is_null() { request } else { request.json(body) }).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Result<Value> {
        self.answer(self.http.patch(format!("{}{path}", self.url)).json(body)).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let answer = request.bearer_auth(&self.token).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("the gateway answered {status}: {text}");
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Stops it as an operator would.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        tokio::time::timeout(Duration::from_secs(15), child.wait())
            .await
            .context("the gateway did not stop within 15 s")??;
        Ok(())
    }

    /// Takes a token that may make rooms. The one it begins with is for one room.
    pub(crate) async fn take_api_token(&mut self, program: &Path, folder: &Path) -> Result<()> {
        let printed = Command::new(program)
            .args(["token", "--user", "band"])
            .env("JAMCAST__DATA__FOLDER", folder)
            .output()
            .await
            .context("no API token was printed")?;
        if !printed.status.success() {
            bail!("no API token was printed: {}", String::from_utf8_lossy(&printed.stderr));
        }
        String::from_utf8(printed.stdout)?.trim().clone_into(&mut self.token);
        Ok(())
    }

    /// Makes a room unless there is one.
    pub(crate) async fn make_room(&self, room: &str) -> Result<()> {
        let known = self.http.get(format!("{}/api/v1/rooms/{room}", self.url)).bearer_auth(&self.token).send().await?;
        if !known.status().is_success() {
            self.post("/api/v1/rooms", &json!({ "id": room, "title": room })).await?;
        }
        Ok(())
    }

    /// A fresh token for the room every gateway begins with.
    pub(crate) async fn room_token(&self, name: &str, role: &str) -> Result<String> {
        self.token_for(ROOM, name, role).await
    }

    pub(crate) async fn token_for(&self, room: &str, name: &str, role: &str) -> Result<String> {
        let ticket = self.post(&format!("/api/v1/rooms/{room}/tokens"), &json!({ "name": name, "role": role })).await?;
        ticket["token"].as_str().map(str::to_owned).context("no token was minted")
    }

    /// Kills the mixer that is on air, as a crash would: of those that run, the one that was started first.
    pub(crate) fn kill_mixer_on_air(&self) -> Result<()> {
        let mut mixers = self.mixers()?;
        mixers.sort_by_key(|pid| started(*pid));
        let on_air = mixers.first().and_then(|pid| Pid::from_raw(*pid)).context("there is no mixer")?;
        Ok(kill_process(on_air, Signal::KILL)?)
    }

    /// The process of the only mixer.
    pub(crate) fn mixer(&self) -> Result<u32> {
        let mixers = self.mixers()?;
        let [mixer] = mixers[..] else { bail!("{} mixers", mixers.len()) };
        Ok(mixer.unsigned_abs())
    }

    fn mixers(&self) -> Result<Vec<i32>> {
        let mut mixers = Vec::new();
        // A child is listed with the thread that started it.
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid()?))? {
            let children = std::fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
            mixers.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
        Ok(mixers)
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.as_ref().and_then(Child::id).context("the gateway has ended")
    }
}

/// When a process was started, in ticks since the machine was; a process that is gone by now was the first of all.
fn started(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    behind_name.split_whitespace().nth(19).and_then(|ticks| ticks.parse().ok()).unwrap_or_default()
}
