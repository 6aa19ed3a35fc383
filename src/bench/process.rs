//! What a process has used, as the kernel counts it.

use anyhow::Context;

/// Clock ticks in a second, as Linux reports process times.
const TICKS_PER_S: f64 = 100.0;

/// CPU seconds that a process has used, in user and kernel mode.
///
/// # Errors
/// When there is no such process.
pub(super) fn cpu_s(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command's name is in parentheses and may hold anything; the fields follow the last one.
    let (_, fields) = stat.rsplit_once(')').context("the kernel's format")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<f64>().ok());
    let (user, kernel) = (ticks(), ticks());
    Ok((user.context("user time")? + kernel.context("kernel time")?) / TICKS_PER_S)
}

/// The most memory that a process has held, in MiB.
///
/// # Errors
/// When there is no such process.
pub(super) fn peak_rss_mib(pid: u32) -> anyhow::Result<f64> {
    status_mib(pid, "VmHWM:")
}

/// The memory that a process holds, in MiB.
///
/// # Errors
/// When there is no such process.
pub(super) fn rss_mib(pid: u32) -> anyhow::Result<f64> {
    status_mib(pid, "VmRSS:")
}

fn status_mib(pid: u32, field: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let found = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = found
        .and_then(|rest| rest.split_whitespace().next())
        .context("the kernel's format")?;
    Ok(kib.parse::<f64>()? / 1_024.0)
}
