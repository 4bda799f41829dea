//! The command line: few flags, because what an installation is belongs into its configuration file.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;

use crate::app;
use crate::config::Config;
use crate::mixer;
use crate::model::id::UserId;
use crate::model::role::ApiRole;
use crate::telemetry;

/// Exit code for a configuration that cannot be used: `EX_USAGE` of sysexits.h. No port has been bound then.
const BAD_CONFIG: u8 = 64;

#[derive(Parser)]
#[command(version, about = "A WebRTC-to-RTMP broadcast gateway for live music")]
struct Arguments {
    /// Configuration file in TOML; what it leaves out is as in `jamcast config default`.
    #[arg(long, global = true, env = "JAMCAST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs the gateway until it is told to stop (SIGTERM, Ctrl-C).
    Serve,
    /// Runs a small RTMP receiver that writes what it gets as FLV files.
    Ingest,
    /// Tells whether this machine can broadcast, and which encoders it has.
    Doctor,
    /// Prints an API token for a user.
    Token {
        #[arg(long)]
        user: UserId,
        #[arg(long, value_enum, default_value_t = Role::Streamer)]
        role: Role,
        #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
        ttl: u64,
    },
    /// Checks or prints the configuration.
    Config {
        #[command(subcommand)]
        what: ConfigTask,
    },
    /// The mixer child process; started by the gateway with its socket as standard input.
    #[command(hide = true)]
    Mixer,
}

#[derive(Subcommand)]
enum ConfigTask {
    /// Loads the configuration as `serve` would and says what is wrong with it.
    Check,
    /// Prints the embedded defaults, which are the manual of every key.
    Default,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Viewer,
    Streamer,
    Admin,
}

impl From<Role> for ApiRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Streamer => Self::Streamer,
            Role::Admin => Self::Admin,
        }
    }
}

/// Parses the command line and runs what it asks for.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.task {
        Task::Mixer => run_mixer(),
        Task::Config { what: ConfigTask::Default } => print(crate::config::DEFAULT),
        Task::Serve | Task::Ingest | Task::Doctor | Task::Token { .. } | Task::Config { what: ConfigTask::Check } => {
            let config = Config::load(arguments.config.as_deref())
                .map_err(anyhow::Error::from)
                .and_then(|config| telemetry::start_logs(&config.log).map(|()| config).map_err(Into::into));
            match config {
                Ok(config) => run(arguments.task, config),
                Err(error) => {
                    complain(&error);
                    return ExitCode::from(BAD_CONFIG);
                }
            }
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task, config: Config) -> Result<()> {
    match task {
        Task::Serve => block_on(app::serve(config)),
        Task::Ingest => block_on(app::ingest(config)),
        Task::Doctor => {
            let healthy = block_on(app::doctor(config))?;
            anyhow::ensure!(healthy, "see above for what is to be done");
            Ok(())
        }
        Task::Token { user, role, ttl } => print(&format!("{}\n", app::mint(&config, &user, role.into(), ttl)?)),
        Task::Config { .. } => print("The configuration can be used.\n"),
        Task::Mixer => unreachable!("it needs no configuration and was run before one was loaded"),
    }
}

fn block_on<T>(task: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime cannot start")?;
    runtime.block_on(task)
}

/// The socket is standard input, so that no file descriptor number has to be handed over.
fn run_mixer() -> Result<()> {
    // Before any thread exists: confinement is inherited by the threads that follow, not by those that are there.
    let folder = std::env::var_os(mixer::FOLDER).map(PathBuf::from);
    let files_are_held = mixer::confine(folder.as_deref()).context("the mixer cannot be confined")?;
    telemetry::start_logs(&telemetry::Config {
        level: std::env::var("LOG_LEVEL").unwrap_or_else(|_| "info".to_owned()),
        format: telemetry::Format::Json,
    })?;
    if !files_are_held {
        tracing::warn!("this kernel has no Landlock: the mixer may read whatever its user may");
    }
    mixer::settle().context("the mixer cannot be confined")?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("standard input cannot be used")?;
    mixer::run(&UnixStream::from(socket)).context("the mixer cannot go on")
}

fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("standard output cannot be written")
}

fn complain(error: &anyhow::Error) {
    let _nowhere_else_to_say_it = writeln!(std::io::stderr(), "jamcast: {error:#}");
}
