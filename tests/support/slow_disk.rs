//! A disk that takes its time, for one process: a control group of the kernel, which needs root.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Where control groups for block devices are.
const GROUPS: &str = "/sys/fs/cgroup/blkio";
/// The file that limits writes.
const LIMIT: &str = "blkio.throttle.write_iops_device";

/// A process is held up at its disk until this is dropped.
pub struct SlowDisk {
    group: PathBuf,
}

impl SlowDisk {
    /// Why there is no such thing here, where that is so.
    pub fn missing() -> Option<String> {
        let limit = Path::new(GROUPS).join(LIMIT);
        let opened = fs::File::options().write(true).open(&limit);
        let error = opened.err()?;
        Some(format!("it needs root and {}: {error}", limit.display()))
    }

    /// Lets the disk under `data` take so many writes a second of one process.
    pub fn begin(data: &Path, pid: u32, writes_per_s: u32) -> io::Result<Self> {
        let device = fs::metadata(data)?.dev();
        let group = Path::new(GROUPS).join(format!("mimi-node-test-{pid}"));
        fs::create_dir(&group)?;
        let slow = Self { group };
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let limit = format!("{major}:{minor} {writes_per_s}");
        fs::write(slow.group.join(LIMIT), limit)?;
        fs::write(slow.group.join("cgroup.procs"), pid.to_string())?;
        Ok(slow)
    }

    /// Writes that went through it.
    pub fn writes(&self) -> u64 {
        let served = fs::read_to_string(self.group.join("blkio.throttle.io_serviced"));
        let served = served.unwrap_or_default();
        let mut writes = served.lines().filter_map(|line| line.split_once(" Write "));
        writes.next().map_or(0, |(_, count)| count.parse().unwrap())
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // A group goes when nobody is in it.
        let members = fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines() {
            drop(fs::write(Path::new(GROUPS).join("cgroup.procs"), pid));
        }
        drop(fs::remove_dir(&self.group));
    }
}
