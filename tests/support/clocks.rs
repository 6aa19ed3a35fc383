//! Clocks that a test can set: a library that is loaded into a node shifts what it reads. Needs a C compiler, as the build
//! of the node does.

use super::{Net, aside};
use std::{fs, process::Command};

/// What is loaded into a node.
const SHIM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/clock_shim.c");

impl Net {
    /// Makes the clocks of all nodes such that they can be set; before they start.
    pub async fn make_clocks_settable(&mut self) {
        let library = self.path("clock_shim.so");
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .args([SHIM, "-ldl"]);
        let compiled = aside(move || compiler.status()).await.unwrap();
        assert!(compiled.success(), "{SHIM} does not compile");
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        for name in names {
            let file = self.path(&format!("{name}.ahead"));
            fs::write(&file, "0").unwrap();
            let env = [("LD_PRELOAD", &library), ("CLOCK_AHEAD_FILE", &file)];
            let env = env.map(|(key, path)| (key.to_owned(), path.display().to_string()));
            self.node_mut(&name).env.extend(env);
        }
    }

    /// Sets the clock of a node's machine so many seconds ahead; less than zero is behind.
    pub fn set_clock(&self, name: &str, ahead_s: i64) {
        let (file, new) = (
            self.path(&format!("{name}.ahead")),
            self.path(&format!("{name}.new")),
        );
        // Renamed, so that it is never read half.
        fs::write(&new, ahead_s.to_string()).unwrap();
        fs::rename(new, file).unwrap();
    }
}
