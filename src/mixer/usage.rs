//! What this process costs its machine.

use rustix::time::ClockId;
use rustix::time::clock_gettime;

/// Processor time of all threads, user and system, milliseconds.
pub(super) fn cpu_ms() -> u64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(spent.tv_sec * 1000 + spent.tv_nsec / 1_000_000).unwrap_or(0)
}

/// Resident memory in bytes; 0 where the kernel does not tell.
pub(super) fn memory_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/status").ok().and_then(|status| resident(&status)).unwrap_or(0)
}

/// The line `VmRSS` of proc(5), which counts in kB.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_costs_something() {
        assert_eq!(resident("Name:\tjamcast\nVmRSS:\t  125700 kB\nThreads:\t31\n"), Some(125_700 * 1024));
        assert!(memory_bytes() > 1 << 20);
        let before = cpu_ms();
        let mut sum = 0_u64;
        while cpu_ms() < before + 20 {
            sum = sum.wrapping_mul(31).wrapping_add(7);
        }
        assert_ne!(sum, 0);
    }
}
