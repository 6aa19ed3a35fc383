//! `cargo planted`: plants every bug of `tests/planted/bugs` in one copy of the sources, builds it once in release, and
//! prints for each bug how many seeds find it. `BUG=NAME` looks for one, `BUG=NAME,OTHER` for some; `SEEDS` bounds how
//! many are played for each (10,000).
//!
//! `cargo planted --check` only looks whether the copy compiles.
//!
//! The copy is `planted-copy` in the target directory. It holds what `tests/planted/copy` adds: the switch that the
//! guards ask, and the program that plays the worlds.
#![allow(clippy::print_stdout, reason = "a program for people")]

mod bugs;

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What is not copied, besides hidden files: what Cargo makes, and a workspace of its own.
const LEFT_OUT: [&str; 2] = ["target", "fuzz"];

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let only_check = match env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => return Err(format!("`{other}` is not known: only `--check` is").into()),
    };
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("run it as `cargo planted`")?);
    let root = here
        .ancestors()
        .nth(2)
        .ok_or("it stands in tests/planted")?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let target = std::path::absolute(target)?;
    let copy = target.join("planted-copy");
    let (bugs, changed) = make(root, &copy)?;
    println!(
        "{bugs} bugs in {changed} files are planted in {}",
        copy.display()
    );

    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&copy);
    if only_check {
        // Whatever is checked shares its dependencies with the checkout.
        cargo.arg("check").arg("--target-dir").arg(&target);
    } else {
        // What is built does not come near the programs of the checkout.
        let apart = target.join("planted");
        cargo.args(["run", "--release", "--target-dir"]).arg(apart);
    }
    cargo.args(["--package=mimi-actors", "--features=sim", "--bin=planted"]);
    Ok(cargo.status()?.success())
}

/// Makes the copy: how many bugs are planted in how many files. What is there and right already keeps its time, so
/// that Cargo builds only what has changed.
fn make(root: &Path, copy: &Path) -> Result<(usize, usize)> {
    let bugs = bugs::read(root).map_err(|misfit| misfit.to_string())?;
    let planted = bugs::plant(root, &bugs).map_err(|misfits| {
        let told = misfits.iter().map(ToString::to_string);
        told.collect::<Vec<_>>().join("\n")
    })?;

    let mut files = BTreeMap::new();
    collect(root, Path::new(""), &mut files)?;
    collect(&root.join("tests/planted/copy"), Path::new(""), &mut files)?;
    let changed = planted.len();
    for (path, text) in planted {
        files.insert(PathBuf::from(path), text.into_bytes());
    }
    // Of another version, or Cargo takes what it has built of the copy for what it has built of the sources.
    if let Some(manifest) = files.get_mut(Path::new("Cargo.toml")) {
        let own = concat!("\nversion = \"", env!("CARGO_PKG_VERSION"));
        let text = String::from_utf8_lossy(manifest);
        *manifest = text
            .replacen(own, &format!("{own}-planted"), 1)
            .into_bytes();
    }
    for (path, bytes) in &files {
        let to = copy.join(path);
        if fs::read(&to).is_ok_and(|there| there == *bytes) {
            continue;
        }
        fs::create_dir_all(to.parent().unwrap_or(copy))?;
        fs::write(to, bytes)?;
    }
    let mut there = BTreeMap::new();
    collect(copy, Path::new(""), &mut there)?;
    for gone in there.keys().filter(|path| !files.contains_key(*path)) {
        fs::remove_file(copy.join(gone))?;
    }
    Ok((bugs.len(), changed))
}

/// The files below a directory, by their paths from there.
fn collect(root: &Path, below: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = entry.file_name();
        let told = name.to_string_lossy();
        if told.starts_with('.') || LEFT_OUT.contains(&&*told) {
            continue;
        }
        let path = below.join(&name);
        if entry.file_type()?.is_dir() {
            collect(root, &path, files)?;
        } else {
            files.insert(path, fs::read(entry.path())?);
        }
    }
    Ok(())
}
