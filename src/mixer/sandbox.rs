//! What a mixer process gives up before it reads its first byte: a hostile packet that takes over a decoder should gain little.
//!
//! It opens no sockets, and no files but the system's own, the folder of the recordings and GStreamer's cache (Landlock, since Linux
//! 5.13); it has no use for other processes, for the kernel's keys, modules and tracing, or for more privileges (seccomp). Once
//! GStreamer is up it starts no programs either.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use landlock::ABI;
use landlock::Access;
use landlock::AccessFs;
use landlock::AccessNet;
use landlock::PathBeneath;
use landlock::PathFd;
use landlock::Ruleset;
use landlock::RulesetAttr;
use landlock::RulesetCreated;
use landlock::RulesetCreatedAttr;
use landlock::RulesetError;
use landlock::RulesetStatus;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::setrlimit;
use rustix::thread::set_no_new_privs;
use seccompiler::BpfProgram;
use seccompiler::SeccompAction;
use seccompiler::SeccompFilter;
use seccompiler::TargetArch;

/// Open files: 16 sources with two pipelines each hold about 30 apiece; a leak ends here and not in the machine's table.
const FILES: u64 = 1024;

/// The newest of Landlock's interfaces that is made use of; an older kernel holds what it knows of it.
const LANDLOCK: ABI = ABI::V5;

/// What programs, libraries, plugins and fonts are read from, and devices that encode. What a system does not have is left out.
/// Files of an operator's that lie here are not hidden from a mixer; only the rights of its user are in the way.
const READ: [&str; 12] = [
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/opt",
    "/etc",
    "/proc/self",
    "/proc/cpuinfo",
    "/sys/devices",
    "/dev",
    "/var/cache/fontconfig",
];

/// Devices that are written to: encoders of graphics cards, and the one that swallows everything.
const WRITE: [&str; 5] = ["/dev/dri", "/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/null"];

/// System calls that no decoder needs and every intruder wants.
const REFUSED: [i64; 26] = [
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
];

/// How programs are started: for GStreamer's scanner only, which runs while it starts.
const STARTING_PROGRAMS: [i64; 2] = [libc::SYS_execve, libc::SYS_execveat];

/// A mixer that cannot be confined should not run.
#[derive(Debug, thiserror::Error)]
pub enum Unconfined {
    #[error("the kernel refuses a limit")]
    Limit(#[from] io::Error),
    #[error("the kernel refuses the rules on files")]
    Files(#[from] RulesetError),
    #[error("the kernel refuses the rules on system calls")]
    Calls(#[from] seccompiler::Error),
    #[error("the rules on system calls cannot be made")]
    Rules(#[from] seccompiler::BackendError),
}

/// Confines the calling process, but for `folder`, which it may write to. To be called before it has other threads, because each
/// would keep its privileges. `false` if the kernel knows nothing of Landlock: files are open to it then.
///
/// # Errors
/// [`Unconfined`].
pub fn confine(folder: Option<&Path>) -> Result<bool, Unconfined> {
    set_no_new_privs(true).map_err(io::Error::from)?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(io::Error::from)?;
    setrlimit(Resource::Nofile, Rlimit { current: Some(FILES), maximum: Some(FILES) }).map_err(io::Error::from)?;
    let held = confine_files(folder)?;
    seccompiler::apply_filter(&refusing(&REFUSED)?)?;
    Ok(held)
}

/// Starts GStreamer, which may have to look at its plugins with a program of its own, and lets no thread start programs from then on.
/// Whether GStreamer has come up, [`crate::mixer::run`] tells.
///
/// # Errors
/// [`Unconfined`].
pub fn settle() -> Result<(), Unconfined> {
    let _told_by_the_mixer_itself = gstreamer::init();
    Ok(seccompiler::apply_filter_all_threads(&refusing(&STARTING_PROGRAMS)?)?)
}

fn confine_files(folder: Option<&Path>) -> Result<bool, Unconfined> {
    let all = AccessFs::from_all(LANDLOCK);
    let cache = cache();
    if let Some(cache) = &cache {
        // It may be the first mixer of this user; without its cache GStreamer looks at every plugin anew.
        let _no_cache_then = std::fs::create_dir_all(cache);
    }
    let mut rules = Ruleset::default().handle_access(all)?.handle_access(AccessNet::from_all(LANDLOCK))?.create()?;
    for path in READ {
        rules = allow(rules, Path::new(path), AccessFs::from_read(LANDLOCK))?;
    }
    for path in plugin_folders() {
        rules = allow(rules, &path, AccessFs::from_read(LANDLOCK))?;
    }
    let writable = WRITE.iter().map(Path::new).chain(folder).chain(cache.as_deref());
    for path in writable {
        rules = allow(rules, path, all)?;
    }
    Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// Allows what lies beneath a path, if there is one.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: landlock::BitFlags<AccessFs>,
) -> Result<RulesetCreated, Unconfined> {
    match PathFd::new(path) {
        Ok(beneath) => {
            let access = if path.is_dir() { access } else { access & AccessFs::from_file(LANDLOCK) };
            Ok(rules.add_rule(PathBeneath::new(beneath, access))?)
        }
        Err(_) => Ok(rules),
    }
}

/// Where GStreamer remembers which plugins there are.
fn cache() -> Option<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    Some(base.or_else(home)?.join("gstreamer-1.0"))
}

/// Where else than in the system an operator keeps plugins and libraries.
fn plugin_folders() -> Vec<PathBuf> {
    ["GST_PLUGIN_PATH", "GST_PLUGIN_PATH_1_0", "GST_PLUGIN_SYSTEM_PATH_1_0", "LD_LIBRARY_PATH"]
        .iter()
        .filter_map(env::var_os)
        .flat_map(|paths| env::split_paths(&paths).collect::<Vec<_>>())
        .collect()
}

/// A filter under which these calls fail as not permitted, and all others go on.
fn refusing(calls: &[i64]) -> Result<BpfProgram, Unconfined> {
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let denied = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, TargetArch::try_from(env::consts::ARCH)?)?;
    Ok(filter.try_into()?)
}
