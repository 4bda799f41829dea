//! The leader-aligned mix, heard: followers play a click when they hear the leader's through the room, each over a link of its own, and
//! in the programme the clicks are held against each other.

mod buffer;
mod click;
mod player;
mod sound;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use crate::align::player::Part;
use crate::align::player::Player;
use crate::demo::files;
use crate::demo::say;
use crate::gateway::Gateway;
use crate::gateway::ROOM;
use crate::latency::network::wavering;
use crate::latency::room::Clock;
use crate::latency::wire::Post;
use crate::look::Programme;

/// What a run does.
#[derive(clap::Args)]
pub(crate) struct Plan {
    /// The `jamcast` binary.
    #[arg(long)]
    gateway: PathBuf,
    /// Seconds measured without alignment, and with it.
    #[arg(long, default_value_t = 40)]
    seconds: u64,
    /// The share of the clicks that must be tight, 0 to 1.
    #[arg(long, default_value_t = 0.9)]
    share: f64,
    /// And how tight, milliseconds from the first to the last: 10 are three metres on a stage.
    #[arg(long, default_value_t = 10.0)]
    within: f64,
    /// What all jitter buffers hold back, milliseconds, instead of what the links need: on a machine that stands still now and then
    /// they would follow the machine.
    #[arg(long)]
    buffers: Option<u64>,
}

const LEADER: Part = Part { name: "Lea", hz: 1000.0, packet_ms: 20, access: wavering(20, 4), depth: None };
const FOLLOWERS: [Part; 3] = [
    Part { name: "Finn", hz: 1700.0, packet_ms: 10, access: wavering(10, 2), depth: None },
    Part { name: "Fay", hz: 2500.0, packet_ms: 20, access: wavering(40, 8), depth: None },
    Part { name: "Fred", hz: 3400.0, packet_ms: 20, access: wavering(80, 10), depth: None },
];

/// Jitter buffers have found their size, and the mixer has found everybody's place.
const SETTLING: Duration = Duration::from_secs(12);

/// Followers come this much late at most, and never early; seconds.
const LATEST: f64 = 0.6;
const EARLIEST: f64 = -0.3;

/// Plays without alignment and with it; `Ok(true)` if the clicks are tight with it.
pub(crate) async fn run(plan: &Plan) -> Result<bool> {
    let folder = tempfile::tempdir()?;
    let mut gateway = Gateway::start(&plan.gateway, folder.path()).await?;
    let played = play(&gateway, plan).await;
    gateway.stop().await?;
    let [off, on] = played?;
    let received = files(&folder.path().join("ingest"), "flv")?;
    let programme = Programme::read(&received[0])?;
    say("Clicks in the programme beside the leader's, ms: median (quartiles). Spread: first to last of a click, ms.\n");
    let names: String = FOLLOWERS.iter().map(|part| format!(" {} |", part.name)).collect();
    say(&format!("| alignment | clicks |{names} spread p50 | p90 | max |"));
    say(&format!("|---|---|{}---|---|---|", "---|".repeat(FOLLOWERS.len())));
    let [_, on] = [("off", off), ("on", on)].map(|(name, window)| {
        let clicks = Clicks::of(&programme, window);
        say(&clicks.row(name));
        clicks
    });
    let enough = on.groups.len() as u64 * 10 >= plan.seconds * 8;
    let tight = enough && on.spread(plan.share).is_some_and(|spread| spread <= plan.within);
    let verdict = if tight { "The mix is tight." } else { "The mix is not tight." };
    let (share, within) = (plan.share * 100.0, plan.within);
    say(&format!(
        "\n{verdict} It is if {share:.0} of 100 clicks are within {within} ms; {} were heard.",
        on.groups.len()
    ));
    Ok(tight)
}

/// When in the programme, seconds, it was measured without alignment and with it.
type Window = (f64, f64);

async fn play(gateway: &Gateway, plan: &Plan) -> Result<[Window; 2]> {
    let (post, clock) = (Post::open()?, Clock::start());
    let token = gateway.room_token(LEADER.name, "musician").await?;
    let mut players = vec![Player::lead(&gateway.url, &token, &post, clock, LEADER).await?];
    for part in FOLLOWERS {
        let token = gateway.room_token(part.name, "musician").await?;
        let part = Part { depth: plan.buffers.map(Duration::from_millis), ..part };
        let player = Player::follow(&gateway.url, &token, &post, clock, part).await;
        players.push(player.with_context(|| part.name)?);
    }
    let destinations = gateway.get("/api/v1/destinations").await?;
    let stream = json!({ "room": ROOM, "title": "Align", "destinations": [destinations["data"][0]["id"]] });
    let stream = gateway.post("/api/v1/streams", &stream).await?;
    let path = format!("/api/v1/streams/{}", stream["id"].as_str().context("the stream has no id")?);
    gateway.post(&format!("{path}/start"), &Value::Null).await?;
    wait_until(gateway, &path, |stream| {
        stream["mix"]["musicians"].as_array().is_some_and(|all| all.len() == 1 + FOLLOWERS.len())
            && stream["stats"]["duration_ms"].as_u64() > Some(0)
    })
    .await?;
    let off = measure(gateway, &path, plan.seconds).await?;
    let live = gateway.get(&path).await?;
    let leader = musicians(&live).find(|musician| musician["name"] == LEADER.name).context("the leader has gone")?;
    gateway.patch(&path, &json!({ "mix": { "leader": leader["participant"] } })).await?;
    let live = wait_until(gateway, &path, |stream| {
        musicians(stream).filter(|musician| musician["alignment"]["standing"] == "aligned").count() == FOLLOWERS.len()
    });
    say(&reckoned(&live.await?));
    let on = measure(gateway, &path, plan.seconds).await?;
    say(&reckoned(&gateway.get(&path).await?));
    gateway.post(&format!("{path}/stop"), &Value::Null).await?;
    wait_until(gateway, &path, |stream| stream["state"] == "ended").await?;
    Ok([off, on])
}

async fn measure(gateway: &Gateway, path: &str, seconds: u64) -> Result<Window> {
    let now = async || -> Result<f64> {
        let live = gateway.get(path).await?;
        Ok(live["stats"]["duration_ms"].as_f64().context("it does not run")? / 1000.0)
    };
    tokio::time::sleep(SETTLING).await;
    let from = now().await?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    Ok((from, now().await?))
}

fn musicians(stream: &Value) -> impl Iterator<Item = &Value> {
    stream["mix"]["musicians"].as_array().into_iter().flatten()
}

/// What the gateway makes of the followers.
fn reckoned(stream: &Value) -> String {
    let one = |musician: &Value| {
        let alignment = &musician["alignment"];
        format!("{} {} late, {} added", musician["name"], alignment["late_ms"], alignment["added_ms"])
    };
    format!("Reckoned, ms: {}", musicians(stream).map(one).collect::<Vec<_>>().join("; "))
}

async fn wait_until(gateway: &Gateway, path: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let begun = Instant::now();
    loop {
        let stream = gateway.get(path).await?;
        if holds(&stream) {
            return Ok(stream);
        }
        ensure!(stream["state"] != "failed", "the stream failed: {}", stream["reason"]);
        if begun.elapsed() > PATIENCE {
            bail!("not within {PATIENCE:?}: {stream:#}");
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// The followers' clicks in milliseconds beside the leader's, one group for each click that all have played.
struct Clicks {
    groups: Vec<[f64; FOLLOWERS.len()]>,
}

impl Clicks {
    fn of(programme: &Programme, (from, to): Window) -> Self {
        let followers = FOLLOWERS.map(|part| programme.beeps(part.hz));
        let beside = |click: f64, own: &[f64]| {
            let near = own.iter().map(|at| at - click).filter(|late| (EARLIEST..LATEST).contains(late));
            near.min_by(|a, b| a.abs().total_cmp(&b.abs())).map(|late| late * 1000.0)
        };
        let leaders = programme.beeps(LEADER.hz).into_iter().filter(|at| (from..to).contains(at));
        let groups = leaders.filter_map(|click| {
            let [a, b, c] = [0, 1, 2].map(|n| beside(click, &followers[n]));
            Some([a?, b?, c?])
        });
        Self { groups: groups.collect() }
    }

    /// From the first to the last of a click, at this quantile.
    fn spread(&self, quantile: f64) -> Option<f64> {
        let spread = |group: &[f64; FOLLOWERS.len()]| {
            let last = group.iter().copied().fold(0.0, f64::max);
            last - group.iter().copied().fold(0.0, f64::min)
        };
        at(self.groups.iter().map(spread).collect(), quantile)
    }

    fn row(&self, name: &str) -> String {
        let own = |n: usize| self.groups.iter().map(|group| group[n]).collect::<Vec<_>>();
        let cell = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.1}"));
        let followers = (0..FOLLOWERS.len()).map(|n| {
            let [low, median, high] = [0.25, 0.5, 0.75].map(|quantile| cell(at(own(n), quantile)));
            format!(" {median} ({low} to {high}) |")
        });
        let spreads = [0.5, 0.9, 1.0].map(|quantile| cell(self.spread(quantile))).join(" | ");
        format!("| {name} | {} |{} {spreads} |", self.groups.len(), followers.collect::<String>())
    }
}

fn at(mut values: Vec<f64>, quantile: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    values.get((last as f64 * quantile).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_from_the_first_to_the_last_with_the_leader_among_them() {
        let clicks = Clicks { groups: vec![[1.0, 2.0, 3.0], [-4.0, 0.0, 5.0], [7.0, 6.0, 8.0]] };
        assert_eq!([0.0, 0.5, 1.0].map(|quantile| clicks.spread(quantile)), [Some(3.0), Some(8.0), Some(9.0)]);
        assert_eq!(
            clicks.row("on"),
            "| on | 3 | 1.0 (1.0 to 7.0) | 2.0 (2.0 to 6.0) | 5.0 (5.0 to 8.0) | 8.0 | 9.0 | 9.0 |"
        );
        assert_eq!(Clicks { groups: Vec::new() }.spread(0.5), None);
    }
}
