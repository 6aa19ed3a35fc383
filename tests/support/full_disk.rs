//! A small disk of its own that can be filled to the last byte: an ext4 image on a loop device, which needs root.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// Bytes of a block.
const BLOCK_BYTES: u64 = 4_096;
/// How long a file system may be busy when it is no longer needed.
const UNMOUNT_WITHIN: Duration = Duration::from_secs(20);

/// A mounted disk; gone when this is dropped.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    dir: PathBuf,
    fillers: usize,
}

fn run(command: &mut Command) -> io::Result<()> {
    let out = command.output()?;
    if out.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    Err(io::Error::other(format!("{command:?}: {text}")))
}

impl Image {
    /// Makes a disk of so many MiB and mounts it in `root`.
    pub fn mount(root: &Path, name: &str, mib: u64) -> io::Result<Self> {
        let path = root.join(format!("{name}.image"));
        let dir = root.join(format!("{name}.disk"));
        File::create(&path)?.set_len(mib << 20)?;
        fs::create_dir_all(&dir)?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0"])
            .arg(&path))?;
        let image = Self {
            path,
            dir,
            fillers: 0,
        };
        image.mount_it()?;
        Ok(image)
    }

    /// An error of the file system turns it read-only, as most distributions have it.
    fn mount_it(&self) -> io::Result<()> {
        run(Command::new("mount")
            .args(["-o", "loop,errors=remount-ro"])
            .arg(&self.path)
            .arg(&self.dir))
    }

    /// The file system has found an error and takes no writes any more, with all files open.
    ///
    /// # Errors
    /// Where the kernel has no such switch.
    pub fn turn_read_only(&self) -> io::Result<()> {
        let output = Command::new("findmnt")
            .args(["-n", "-o", "SOURCE", "--mountpoint"])
            .arg(&self.dir)
            .output()?;
        let source = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let device = source.trim_start_matches("/dev/");
        let switch = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        fs::write(switch, "a test turns this file system read-only")
    }

    /// Makes it writable again, when nobody has its files open.
    ///
    /// # Errors
    /// What the programs of the file system say.
    pub fn mend(&mut self) -> io::Result<()> {
        run(Command::new("umount").arg(&self.dir))?;
        // 1: errors were found, and corrected.
        let status = Command::new("e2fsck")
            .args(["-f", "-y"])
            .arg(&self.path)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()?;
        if !matches!(status.code(), Some(0 | 1)) {
            return Err(io::Error::other(format!("e2fsck: {status}")));
        }
        self.mount_it()
    }

    /// Why there are no such disks here, where that is so.
    pub fn missing() -> Option<String> {
        let root = std::env::temp_dir().join(format!("mimi-node-disk-{}", std::process::id()));
        let mounted = fs::create_dir(&root).and_then(|()| Self::mount(&root, "probe", 2));
        let error = mounted.map(drop).err();
        drop(fs::remove_dir_all(&root));
        error.map(|error| format!("it needs root and loop devices: {error}"))
    }

    /// A disk, or nothing where there can be none: then that is said aloud, with `what` is not shown.
    pub fn or_skipped(root: &Path, name: &str, mib: u64, what: &str) -> Option<Self> {
        Self::mount(root, name, mib)
            .inspect_err(|error| {
                let line = format!("SKIPPED: {what}: it needs root and loop devices: {error}\n");
                drop(io::stderr().write_all(line.as_bytes()));
            })
            .ok()
    }

    /// Where it is mounted.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn filler(&self, number: usize) -> PathBuf {
        self.dir.join(format!("filler-{number}"))
    }

    /// Leaves no byte free.
    pub fn fill(&mut self) {
        let mut bytes: u64 = 256 << 20;
        while bytes >= BLOCK_BYTES {
            let path = self.filler(self.fillers);
            self.fillers += 1;
            let taken = File::create(&path).and_then(|file| {
                let how = rustix::fs::FallocateFlags::empty();
                rustix::fs::fallocate(&file, how, 0, bytes)?;
                Ok(())
            });
            if taken.is_err() {
                drop(fs::remove_file(&path));
                bytes /= 2;
            }
        }
    }

    /// Gives back all that was filled.
    pub fn free(&mut self) {
        for number in 0..self.fillers {
            drop(fs::remove_file(self.filler(number)));
        }
        self.fillers = 0;
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let deadline = Instant::now() + UNMOUNT_WITHIN;
        while run(Command::new("umount").arg(&self.dir)).is_err() {
            if Instant::now() > deadline {
                drop(run(Command::new("umount").arg("-l").arg(&self.dir)));
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(fs::remove_file(&self.path));
    }
}
