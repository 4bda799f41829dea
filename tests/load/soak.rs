//! A long broadcast: musicians whose clocks differ, over links that lose packets and change, and whether lips fit from the first minute to
//! the last.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;

use crate::bench_sfu::resident_kb;
use crate::demo::band;
use crate::demo::expected_of;
use crate::demo::files;
use crate::demo::say;
use crate::gateway::Gateway;
use crate::gateway::ROOM;
use crate::latency::network::Access;
use crate::latency::network::leaky;
use crate::latency::wire::BehindWire;
use crate::latency::wire::Post;
use crate::latency::wire::Wire;
use crate::look::Programme;
use crate::musician::Musician;
use crate::musician::Part;
use crate::rig::cpu_of;
use crate::sockets::With;
use crate::verdict::Verdict;
use crate::verdict::median;

/// Crystals of cheap sound cards are off by as much.
const CLOCKS_PPM: [i32; 3] = [100, -100, 0];

/// What a link changes to, in turn: from a good line to a bad one of a phone and back. Of all packets 3 % are lost, both ways.
const WEATHER: [Access; 4] = [leaky(20, 5, 3.0), leaky(60, 20, 3.0), leaky(120, 40, 3.0), leaky(40, 10, 3.0)];
const CHANGES_EVERY: Duration = Duration::from_secs(20);

/// A row of the table: flashes come once a second.
const MINUTE: usize = 60;

/// Buffers and pools have found their size, seconds.
const SETTLED: u64 = 60;
/// What memory may grow by after that, per cent: a leak of anything that comes with each packet or frame is far more in ten minutes.
const GROWTH: u64 = 20;

/// Plays for so many seconds; `Ok(true)` if everything that should be seen and heard was.
pub(crate) async fn run(program: &Path, seconds: u64) -> Result<bool> {
    let folder = tempfile::tempdir()?;
    let mut gateway = Gateway::start(program, folder.path()).await?;
    let played = play(&gateway, seconds).await;
    gateway.stop().await?;
    let usage = played?;

    let received = files(&folder.path().join("ingest"), "flv")?;
    let programme = Programme::read(&received[0])?;
    let expected = expected_of(parts(), seconds as f64 - 1.0);
    let mut verdict = Verdict::of(&programme, &expected);
    verdict.note(received.len() == 1, format!("{} RTMP connections", received.len()));
    for (name, memory) in [("gateway", usage.map(|at| at.gateway_kb)), ("mixer", usage.map(|at| at.mixer_kb))] {
        let [early, late] = memory;
        let grown = late * 100 <= early * (100 + GROWTH);
        verdict.note(grown, format!("memory of the {name}: {early} KB after the first minute, {late} KB at the end"));
    }
    say("\nSound against picture, ms: median (least to most of three in a row)\n");
    let marked: Vec<_> = expected.parts.iter().filter_map(|part| Some((part, part.beep_hz?))).collect();
    let columns: Vec<Vec<String>> =
        marked.iter().map(|(part, beep)| minutes(&programme.av_offsets(part.region, *beep))).collect();
    say(&format!("| minute |{}", marked.iter().map(|(part, _)| format!(" {} |", part.name)).collect::<String>()));
    say(&format!("|---|{}", "---|".repeat(marked.len())));
    for minute in 0..columns.iter().map(Vec::len).max().unwrap_or_default() {
        let cells = columns.iter().map(|column| format!(" {} |", column.get(minute).map_or("", String::as_str)));
        say(&format!("| {} |{}", minute + 1, cells.collect::<String>()));
    }
    say(&format!("\nWhat the ingest received:\n{verdict}"));
    say(if verdict.holds() { "Verdict: everything holds." } else { "Verdict: not everything holds." });
    Ok(verdict.holds())
}

/// The band, two of them with flash and beep.
fn parts() -> Vec<Part> {
    let mut parts = band();
    parts[1].beep_hz = Some(3000.0);
    parts.into_iter().zip(CLOCKS_PPM).map(|(part, clock_ppm)| Part { clock_ppm, ..part }).collect()
}

/// Kilobytes.
#[derive(Clone, Copy)]
struct Memory {
    gateway_kb: u64,
    mixer_kb: u64,
}

/// The broadcast; gives what memory was used after the first minute and at the end.
async fn play(gateway: &Gateway, seconds: u64) -> Result<[Memory; 2]> {
    let post = Post::open()?;
    let mut band = Vec::new();
    let mut wires = Vec::new();
    for ((seed, access), part) in (0..).zip(WEATHER).zip(parts()) {
        let wire = Arc::new(Wire::default());
        wire.plug_into(Some(access), seed);
        let sockets = BehindWire { wire: Arc::clone(&wire), post: post.clone() };
        let name = part.name.clone();
        let token = gateway.room_token(&name, "musician").await?;
        let musician = Musician::join_by(Arc::new(With(sockets)), &gateway.url, ROOM, &token, part).await;
        band.push(musician.with_context(|| format!("{name} cannot join"))?);
        wires.push(wire);
    }
    let destinations = gateway.get("/api/v1/destinations").await?;
    let stream = json!({ "room": ROOM, "title": "Soak", "destinations": [destinations["data"][0]["id"]] });
    let stream = gateway.post("/api/v1/streams", &stream).await?;
    let path = format!("/api/v1/streams/{}", stream["id"].as_str().context("the stream has no id")?);
    gateway.post(&format!("{path}/start"), &Value::Null).await?;

    let mut early = None;
    let begun = tokio::time::Instant::now();
    for turn in 1.. {
        tokio::time::sleep_until(begun + CHANGES_EVERY * turn).await;
        let elapsed = begun.elapsed().as_secs();
        for (seat, wire) in (0..).zip(&wires) {
            // Not all at once, and not all the same.
            wire.plug_into(Some(WEATHER[(turn as usize + seat) % WEATHER.len()]), u64::from(turn) << 8 | seat as u64);
        }
        let live = gateway.get(&path).await?;
        ensure!(live["state"] != "failed", "the stream failed: {}", live["reason"]);
        let memory = tell(gateway, &live)?;
        if elapsed >= SETTLED || elapsed >= seconds {
            early.get_or_insert(memory);
        }
        if elapsed >= seconds {
            break;
        }
    }
    let late = tell(gateway, &gateway.get(&path).await?)?;
    gateway.post(&format!("{path}/stop"), &Value::Null).await?;
    for musician in band {
        musician.leave().await?;
    }
    Ok([early.unwrap_or(late), late])
}

/// A line about now, and the memory used.
fn tell(gateway: &Gateway, stream: &Value) -> Result<Memory> {
    let [gateway_pid, mixer_pid] = [gateway.pid()?, gateway.mixer()?];
    let memory = Memory { gateway_kb: resident_kb(gateway_pid)?, mixer_kb: resident_kb(mixer_pid)? };
    say(&format!(
        "{:>5.0} s  playout delay {} ms  {} dropped  gateway {} KB, {:.1} CPU s  mixer {} KB, {:.1} CPU s",
        stream["stats"]["duration_ms"].as_f64().unwrap_or_default() / 1000.0,
        stream["stats"]["playout_ms"],
        stream["stats"]["dropped_frames"],
        memory.gateway_kb,
        cpu_of(gateway_pid)?,
        memory.mixer_kb,
        cpu_of(mixer_pid)?,
    ));
    Ok(memory)
}

/// What was measured of each minute; `offsets` are those of flash after flash, seconds.
fn minutes(offsets: &[f64]) -> Vec<String> {
    let row = |minute: &[f64]| {
        let smooth: Vec<f64> = minute.windows(3).map(|three| median(three) * 1000.0).collect();
        let (least, most) = smooth.iter().fold((f64::MAX, f64::MIN), |(l, m), each| (l.min(*each), m.max(*each)));
        format!("{:+.0} ({least:+.0} to {most:+.0})", median(minute) * 1000.0)
    };
    offsets.chunks(MINUTE).filter(|minute| minute.len() > 2).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_told_by_its_median_and_by_what_lasted() {
        let mut offsets = vec![0.010; 60];
        offsets[5] = 0.200;
        offsets[20..23].fill(-0.030);
        offsets.extend([0.050; 3]);
        assert_eq!(minutes(&offsets), ["+10 (-30 to +10)", "+50 (+50 to +50)"]);
    }
}
