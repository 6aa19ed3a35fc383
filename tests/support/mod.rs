//! Real nodes for the tests: certificates, configurations, processes, members at their doors.
//!
//! Promises: only processes that were started here are ended, by their id, also when a test panics; every wait has a
//! deadline and a condition.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    reason = "tests stop at what they did not expect, and each suite uses a part of this"
)]

pub mod cast;
pub mod clocks;
pub mod forger;
pub mod full_disk;
pub mod history;
pub mod net;
pub mod node;
pub mod raw;
pub mod scripted;
pub mod slow_disk;

pub use cast::{agree, invite, unhurt, wait, wait_epoch};
pub use mimi_stage::{
    ground::free_address,
    proxy::{Network, Way},
};
pub use net::{Net, TREE_HOST};
pub use node::Node;

use mimi_actors::ids::{ClientUri, RoomUri, UserUri};
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// How long anything may take that should be quick; generous, because two cores are shared.
pub const WAIT: Duration = Duration::from_secs(20);
/// How often a condition is looked at that cannot be waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Looks until there is something to see.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {WAIT:?}: {what}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Does something that holds up its thread on another one: several stories share one.
pub async fn aside<T: Send + 'static>(doing: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(doing).await.unwrap()
}

pub fn user(name: &str, provider: &str) -> UserUri {
    format!("mimi://{provider}/u/{name}").parse().unwrap()
}

pub fn client(name: &str, device: &str, provider: &str) -> ClientUri {
    format!("mimi://{provider}/d/{name}/{device}")
        .parse()
        .unwrap()
}

pub fn room(name: &str, provider: &str) -> RoomUri {
    format!("mimi://{provider}/r/{name}").parse().unwrap()
}

/// Runs the node's binary to its end; gives its code and what it said on standard error.
pub fn run_to_end(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || std::io::read_to_string(stderr).unwrap());
    let deadline = Instant::now() + WAIT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it did not end: {}", reader.join().unwrap());
        }
        std::thread::sleep(LOOK_INTERVAL);
    };
    (status.code(), reader.join().unwrap())
}

/// The permission bits of a file.
pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
