//! Delay from publisher to subscriber and loss after recovery, over emulated networks, for rooms of several sizes.

pub(crate) mod media;
pub(crate) mod network;
mod plot;
pub(crate) mod room;
mod table;
pub(crate) mod tally;
pub(crate) mod wire;

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::demo::say;
use crate::gateway::Gateway;
use crate::latency::media::DESKTOP;
use crate::latency::media::Device;
use crate::latency::media::Kind;
use crate::latency::media::MEDIA;
use crate::latency::media::MOBILE;
use crate::latency::media::Medium;
use crate::latency::network::CELLULAR;
use crate::latency::network::CLEAN;
use crate::latency::network::CONTINENT;
use crate::latency::network::DSL;
use crate::latency::network::Network;
use crate::latency::network::WIFI;
use crate::latency::room::Room;
use crate::latency::room::Size;
use crate::latency::table::Cell;
use crate::latency::table::Row;
use crate::latency::table::Table;
use crate::latency::tally::Notes;
use crate::latency::tally::at_percentile;
use crate::latency::tally::tally;
use crate::latency::wire::Post;
use crate::rig::cpu_of;
use crate::sfu::Sfu;

/// What a run does.
#[derive(clap::Args)]
pub(crate) struct Plan {
    /// The `jamcast` binary.
    #[arg(long)]
    gateway: PathBuf,
    /// Two networks and the small rooms only: under two minutes.
    #[arg(long)]
    quick: bool,
    /// Writes the results down as the baseline instead of comparing them to it.
    #[arg(long, conflicts_with = "quick")]
    record: bool,
    /// The folder of the baseline: PERFORMANCE.md and latency.svg.
    #[arg(long, default_value = "docs")]
    docs: PathBuf,
}

/// Everybody with a camera in a small room; three and everybody's voice in a large one, of which as many are forwarded as the
/// generator can take on half of a small machine.
const SIZES: [Size; 5] = [
    Size { participants: 2, cameras: 2, voices: 2 },
    Size { participants: 5, cameras: 5, voices: 5 },
    Size { participants: 10, cameras: 4, voices: 6 },
    Size { participants: 25, cameras: 3, voices: 3 },
    Size { participants: 50, cameras: 3, voices: 3 },
];

const CONDITIONS: [(&Network, &Device); 7] = [
    (&CLEAN, &DESKTOP),
    (&DSL, &DESKTOP),
    (&CELLULAR, &DESKTOP),
    (&WIFI, &DESKTOP),
    (&CONTINENT, &DESKTOP),
    (&CELLULAR, &MOBILE),
    (&WIFI, &MOBILE),
];
const QUICK_CONDITIONS: [(&Network, &Device); 2] = [(&CLEAN, &DESKTOP), (&WIFI, &DESKTOP)];

/// After a change, before anything counts: the queues and buffers of the old condition are empty then.
const SETTLING: Duration = Duration::from_millis(1200);
const MEASURED: Duration = Duration::from_secs(5);
/// After the last packet that counts, for what is still on its way or being asked for again.
const GRACE: Duration = Duration::from_millis(1500);
/// Publishers that are later than this, at the 99th percentile, were not given the processor.
const STRAIN: Duration = Duration::from_millis(10);

/// Measures, then compares or records.
pub(crate) async fn run(plan: &Plan) -> Result<()> {
    refuse_to_leave_the_machine()?;
    let (sizes, conditions) =
        if plan.quick { (&SIZES[..2], &QUICK_CONDITIONS[..]) } else { (&SIZES[..], &CONDITIONS[..]) };
    // What cannot be compared or written is better known before it is measured.
    let document = plan.docs.join("PERFORMANCE.md");
    let read = || std::fs::read_to_string(&document).with_context(|| document.display().to_string());
    let baseline = if plan.record {
        with_section(&read()?, "")?;
        None
    } else {
        Some(Table::from_markdown(&read()?).context("scripts/bench latency --record makes a baseline")?)
    };
    let post = Post::open()?;
    let folder = tempfile::tempdir()?;
    let mut gateway = Sfu::Jamcast(Gateway::start(&plan.gateway, folder.path()).await?);
    let load = load_average();
    let mut table = Table::default();
    for size in sizes {
        measure_room(&gateway, &post, *size, conditions, &mut table).await?;
    }
    gateway.stop().await?;
    say(&table.to_markdown());
    let Some(baseline) = baseline else {
        std::fs::write(plan.docs.join("latency.svg"), plot::draw(&table))?;
        std::fs::write(&document, with_section(&read()?, &section(&table, &load))?)?;
        say(&format!("The baseline in {} is this run now.", document.display()));
        return Ok(());
    };
    let changes = table.changes_since(&baseline);
    for change in &changes {
        say(&change.to_string());
    }
    say(&format!("{} figures differ from the baseline in {}.", changes.len(), document.display()));
    Ok(())
}

/// Real addresses are one ICE candidate away: this runs in a network namespace that has nothing but loopback.
fn refuse_to_leave_the_machine() -> Result<()> {
    let devices = std::fs::read_to_string("/proc/self/net/dev")?;
    let others: Vec<&str> =
        devices.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    if others != ["lo"] {
        bail!(
            "this is for a network namespace with loopback only; scripts/bench latency makes one (here: {})",
            others.join(", ")
        );
    }
    Ok(())
}

async fn measure_room(
    gateway: &Sfu,
    post: &Post,
    size: Size,
    conditions: &[(&Network, &Device)],
    table: &mut Table,
) -> Result<()> {
    say(&format!(
        "{} participants, {} cameras, {} voices forwarded; CPU is the gateway's, late the generator's p99:",
        size.participants, size.cameras, size.voices
    ));
    let room = Room::fill(gateway, post, size).await?;
    room.play(|participant| Medium::Video.orders(&DESKTOP, participant));
    room.wait_until_complete().await?;
    for (network, device) in conditions {
        room.plug_into(network);
        for medium in MEDIA {
            room.play(|participant| medium.orders(device, participant));
            let cpu = Cpu::of(gateway)?;
            let (notes, window) = measure(&room).await;
            let cpu = cpu.share()?;
            let late = lateness(&notes);
            let mut line = format!(
                "  {}, {}, {}: CPU {:.0} %, late {late:.1?}",
                network.name,
                device.name,
                medium.name(),
                cpu * 100.0
            );
            for (kind, name) in measured_of(medium) {
                let counts = |publisher: usize, subscriber: usize| {
                    publisher != subscriber
                        && size.is_received(publisher, kind)
                        && (!network.crosses || publisher % 2 != subscriber % 2)
                };
                let figures = tally(&notes, kind, window, counts)
                    .with_context(|| format!("nothing was heard: {}, {name}", network.name))?;
                let cell = Cell { figures, is_strained: late > STRAIN };
                line.push_str(&format!("; {name} {cell}"));
                let row = Row { network: network.name.into(), device: device.name.into(), medium: name.into() };
                table.put(row, size.participants, cell);
            }
            say(&line);
        }
    }
    room.plug_into(&CLEAN);
    room.clear(gateway).await
}

/// The kinds a medium is made of, as the table names them.
fn measured_of(medium: Medium) -> Vec<(Kind, &'static str)> {
    match medium {
        Medium::Audio => vec![(Kind::Audio, "audio")],
        Medium::Video => vec![(Kind::Video, "video"), (Kind::Audio, "audio beside video")],
        Medium::Screen => vec![(Kind::Video, "screen"), (Kind::Audio, "audio beside screen")],
    }
}

/// What everybody noted in five seconds, and which they were.
pub(crate) async fn measure(room: &Room) -> (Vec<Notes>, (Duration, Duration)) {
    tokio::time::sleep(SETTLING).await;
    room.take_notes();
    let from = room.clock.now();
    tokio::time::sleep(MEASURED).await;
    let to = room.clock.now();
    tokio::time::sleep(GRACE).await;
    (room.take_notes(), (from, to))
}

fn lateness(notes: &[Notes]) -> Duration {
    let mut all: Vec<Duration> = notes.iter().flat_map(|notes| notes.lateness.iter().copied()).collect();
    all.sort_unstable();
    at_percentile(&all, 99).unwrap_or_default()
}

/// The gateway's processor time from one moment to another.
struct Cpu {
    pid: u32,
    used: f64,
    since: std::time::Instant,
}

impl Cpu {
    fn of(gateway: &Sfu) -> Result<Self> {
        let pid = gateway.pid()?;
        Ok(Self { pid, used: cpu_of(pid)?, since: std::time::Instant::now() })
    }

    /// Of one core.
    fn share(&self) -> Result<f64> {
        Ok((cpu_of(self.pid)? - self.used) / self.since.elapsed().as_secs_f64())
    }
}

const BEGIN: &str = "<!-- latency: written by scripts/bench latency --record -->";
const END: &str = "<!-- latency: end -->";

/// What stands between the two marks.
fn section(table: &Table, load: &str) -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, name)| name);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "`scripts/bench latency --record`, {}, on {model}, {cores} cores, Linux {}, load before the run {load}.\n\n\
         ![Delay over participants](latency.svg)\n\n{}",
        chrono::Utc::now().format("%Y-%m-%d"),
        kernel.trim(),
        table.to_markdown(),
    )
}

/// The document with another section between the marks.
fn with_section(document: &str, section: &str) -> Result<String> {
    let (before, rest) = document.split_once(BEGIN).with_context(|| format!("the document has no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("the document has no line {END}"))?;
    Ok(format!("{before}{BEGIN}\n{section}{END}{after}"))
}

fn load_average() -> String {
    let text = std::fs::read_to_string(Path::new("/proc/loadavg")).unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_baseline_replaces_the_old_one_and_leaves_the_rest() {
        let document = format!("# A\n\n{BEGIN}\nold\n{END}\n\n## B\n");
        let renewed = with_section(&document, "new\n").expect("it has the marks");
        assert_eq!(renewed, format!("# A\n\n{BEGIN}\nnew\n{END}\n\n## B\n"));
        assert_eq!(with_section(&renewed, "new\n").expect("it still has them"), renewed);
        assert!(with_section("# A\n", "new\n").is_err());
    }
}
