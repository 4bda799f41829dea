//! What a mixer process gives up before it reads its first byte: a hostile packet that takes over a decoder should gain little.

use std::io;

use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::setrlimit;
use rustix::thread::set_no_new_privs;

/// Open files: 16 sources with two pipelines each hold about 30 apiece; a leak ends here and not in the machine's table.
const FILES: u64 = 1024;

/// Confines the calling process. To be called before it has other threads, because each would keep its privileges.
///
/// No executable run from here on gains privileges, and no crash writes the programme's memory to disk.
///
/// # Errors
/// When the kernel refuses; the mixer should not run then.
pub fn confine() -> io::Result<()> {
    set_no_new_privs(true)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    setrlimit(Resource::Nofile, Rlimit { current: Some(FILES), maximum: Some(FILES) })?;
    Ok(())
}
