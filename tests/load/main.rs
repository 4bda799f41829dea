//! The band: synthetic musicians that load a Jamcast installation, and eyes and ears for what comes out.

mod align;
mod bench_canvas;
mod bench_delay;
mod bench_mixer;
mod bench_pass;
mod bench_sfu;
mod churn;
mod crowd;
mod delay;
mod demo;
mod gateway;
mod instrument;
mod janus;
mod keyframes;
mod latency;
mod look;
mod metronome;
mod musician;
mod peer;
mod rig;
mod sfu;
mod soak;
mod sockets;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use clap::Subcommand;

#[derive(Parser)]
#[command(about = "Synthetic musicians over real WebRTC, and a look at the programme they make")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Starts a gateway, brings three musicians, goes live and looks at what the ingest received.
    Demo {
        /// The `jamcast` binary.
        #[arg(long)]
        gateway: PathBuf,
        /// Length of the broadcast.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        /// Kills the mixer so often, as a crash would: the connection must stay, and another must take over within a second.
        #[arg(long, default_value_t = 0)]
        kills: u32,
        /// Another mixer stands by for the one that is killed.
        #[arg(long)]
        standby: bool,
    },
    /// Looks at a programme that was received or recorded: exit code 0 only if it shows and sounds as expected.
    Look {
        file: PathBuf,
        /// A JSON file: width, height, fps, seconds, keyframe_interval, settle, parts.
        #[arg(long)]
        expected: PathBuf,
    },
    /// CPU of the mixer beside ffmpeg and the floor; takes a release build.
    BenchMixer {
        /// The `jamcast` binary.
        #[arg(long)]
        gateway: PathBuf,
        /// Seconds measured for each job.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        /// Only the jobs whose names hold this.
        #[arg(long, default_value = "")]
        job: String,
        /// What the preview's sound and a mixer that stands by cost, measured so many times in turns, instead of all jobs.
        #[arg(long)]
        added: Option<u32>,
        /// Another build of the binary, measured in turns with the first one instead of ffmpeg.
        #[arg(long)]
        beside: Option<PathBuf>,
        /// Where the musicians' files are kept from run to run; a temporary folder without it.
        #[arg(long)]
        folder: Option<PathBuf>,
    },
    /// CPU of the mixer for a canvas of each format, and its bandwidth; takes a release build.
    BenchCanvas {
        /// The `jamcast` binary.
        #[arg(long)]
        gateway: PathBuf,
        /// Seconds measured for each format.
        #[arg(long, default_value_t = 15)]
        seconds: u64,
    },
    /// From the arrival of a picture's last packet to the encoded frame that shows it; takes a release build.
    BenchDelay {
        /// The `jamcast` binary.
        #[arg(long)]
        gateway: PathBuf,
        /// Seconds measured for each setting.
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
    /// CPU of gateway and mixer for a picture that is passed through to RTMP, and its delay; takes a release build.
    BenchPassthrough {
        /// The `jamcast` binary.
        #[arg(long)]
        gateway: PathBuf,
        /// Seconds measured with and without.
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
    /// CPU and memory of the SFU with more and more listeners and the delay it adds, with Janus beside it; takes a release build.
    BenchSfu {
        /// The `jamcast` binary.
        #[arg(long)]
        gateway: PathBuf,
        /// Numbers of listeners, rising.
        #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 50, 100])]
        listeners: Vec<usize>,
    },
    /// A thousand participants come and go: exit code 0 only if the gateway's memory and descriptors are flat afterwards.
    Churn {
        /// The `jamcast` binary.
        #[arg(long)]
        gateway: PathBuf,
        /// Participants of one round, a tenth as many of them again with media; there are three rounds.
        #[arg(long, default_value_t = 1000)]
        joins: usize,
    },
    /// Full rooms on one worker: exit code 0 only if every packet that was due arrived and the gateway dropped none.
    Crowd(crowd::Plan),
    /// Delay from publisher to subscriber over emulated networks; takes a release build and a network namespace.
    Latency(latency::Plan),
    /// Followers click when they hear a leader, over emulated links: exit code 0 only if the aligned programme is tight.
    Align(align::Plan),
    /// A long broadcast over links that lose packets and change, by musicians whose clocks differ: exit code 0 only if lips fit all the
    /// time and no frame is missing.
    Soak {
        /// The `jamcast` binary.
        #[arg(long)]
        gateway: PathBuf,
        #[arg(long, default_value_t = 600)]
        seconds: u64,
    },
    /// Joins a room of a running gateway with the three musicians. Tokens come by the environment, so that no argument list shows them.
    Play {
        /// Such as http://127.0.0.1:8080.
        #[arg(long)]
        gateway: String,
        #[arg(long)]
        room: String,
        /// A musician's room token.
        #[arg(long, env = "JAMCAST_ROOM_TOKEN", hide_env_values = true)]
        token: String,
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(arguments.task)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            use std::io::Write;
            let _nowhere_else_to_say_it = writeln!(std::io::stderr(), "\nband: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(task: Task) -> Result<bool> {
    match task {
        Task::Demo { gateway, seconds, kills, standby } => demo::run(&gateway, seconds, kills, standby).await,
        Task::Look { file, expected } => {
            let expected = serde_json::from_slice(&std::fs::read(&expected)?)?;
            let verdict = verdict::Verdict::on(&file, &expected)?;
            demo::say(&format!("{}:\n{verdict}", file.display()));
            Ok(verdict.holds())
        }
        Task::BenchMixer { gateway, seconds, job, added, beside, folder } => {
            let bench = bench_mixer::Bench { gateway, seconds, job, added, beside, folder };
            tokio::task::spawn_blocking(move || bench_mixer::run(&bench)).await??;
            Ok(true)
        }
        Task::BenchCanvas { gateway, seconds } => {
            tokio::task::spawn_blocking(move || bench_canvas::run(&gateway, seconds)).await??;
            Ok(true)
        }
        Task::BenchDelay { gateway, seconds } => {
            tokio::task::spawn_blocking(move || bench_delay::run(&gateway, seconds)).await??;
            Ok(true)
        }
        Task::BenchPassthrough { gateway, seconds } => {
            bench_pass::run(&gateway, seconds).await?;
            Ok(true)
        }
        Task::BenchSfu { gateway, listeners } => {
            bench_sfu::run(&gateway, &listeners).await?;
            Ok(true)
        }
        Task::Churn { gateway, joins } => churn::run(&gateway, joins).await,
        Task::Crowd(plan) => crowd::run(plan).await,
        Task::Latency(plan) => {
            latency::run(&plan).await?;
            Ok(true)
        }
        Task::Align(plan) => align::run(&plan).await,
        Task::Soak { gateway, seconds } => soak::run(&gateway, seconds).await,
        Task::Play { gateway, room, token, seconds } => {
            let mut musicians = Vec::new();
            for part in demo::band() {
                musicians.push(musician::Musician::join(&gateway, &room, &token, part).await?);
            }
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            for musician in musicians {
                musician.leave().await?;
            }
            Ok(true)
        }
    }
}
