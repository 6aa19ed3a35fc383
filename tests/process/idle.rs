//! What rooms that nobody uses cost a process, as `bench idle-rooms` measures it, at a small scale.

use std::process::Command;

/// Rooms of the first run: each shard has a snapshot with some, so what a process takes by itself is in both runs.
const FEW: u32 = 2_000;
/// Rooms of the second.
const MANY: u32 = 22_000;
/// Memory that one more room may take, in bytes: of two members, with one event.
const ROOM_BYTES_MAX: f64 = 2_300.0;

/// Memory of a node with so many rooms that nobody uses, in bytes.
fn held(rooms: u32) -> f64 {
    let rooms = rooms.to_string();
    let bench = Command::new(env!("CARGO_BIN_EXE_mimi-node"))
        .args(["bench", "idle-rooms", "--json", "--rooms", &rooms])
        .output()
        .unwrap();
    assert!(bench.status.success(), "{bench:?}");
    let figures: serde_json::Value = serde_json::from_slice(&bench.stdout).unwrap();
    figures["rss_mib"].as_f64().unwrap() * f64::from(1 << 20)
}

#[test]
fn one_more_room_that_nobody_uses_takes_little_memory() {
    let each = (held(MANY) - held(FEW)) / f64::from(MANY - FEW);
    println!("{each:.0} bytes a room");
    assert!(each < ROOM_BYTES_MAX, "{each:.0} bytes a room");
}
