//! What can be planted: the files of `tests/planted/bugs`, and what the sources are with all of them.
//!
//! A file has the name of its bug. It says what is wrong with the bug planted (`what:`), which worlds must find it (`world:`, once
//! or more), and where it stands: after `file:`, the lines that are there now (`is:`), and the lines that stand there
//! in the copy (`becomes:`), with a guard that is true only while this bug is planted. Lines that change stand exactly once
//! in their file. All bugs are planted in one copy, so no two may change the same line; their order does not matter.
//!
//! `tests/planted/switch.txt` is such a file too: it takes the module that the guards ask into the copy.

use std::{
    collections::BTreeMap,
    fmt, fs,
    ops::Range,
    path::{Path, PathBuf},
};

/// The bounds of small worlds that a bug may be missed in.
pub(crate) const SMALL: [&str; 6] = [
    "COMMITS",
    "PROPOSALS",
    "PROPOSAL_LOST",
    "LANES",
    "ROOMLESS",
    "CLAIMS",
];

/// Where a bug must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum World {
    /// The large world, under seeds.
    Large,
    /// The voters of a shard, under seeds.
    Voters,
    /// The operators of a cluster, under seeds.
    Operators,
    /// The small world of these bounds, in every order.
    Small(&'static str),
}

impl World {
    fn named(name: &str) -> Option<Self> {
        match name {
            "large" => Some(Self::Large),
            "voters" => Some(Self::Voters),
            "operators" => Some(Self::Operators),
            _ => {
                let bounds = name.strip_prefix("small ")?;
                let known = SMALL.into_iter().find(|known| *known == bounds);
                known.map(Self::Small)
            }
        }
    }
}

/// One place in the sources that a bug changes.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    /// From the root of the checkout.
    pub(crate) file: String,
    /// Whole lines that stand in the file exactly once.
    pub(crate) is: String,
    /// The lines that stand there in the copy.
    pub(crate) becomes: String,
}

/// A bug that can be planted.
#[derive(Clone, Debug)]
pub(crate) struct Bug {
    /// The name of its file.
    pub(crate) name: String,
    /// What is wrong with it planted.
    pub(crate) what: String,
    /// Who must find it.
    pub(crate) worlds: Vec<World>,
    /// Where it stands.
    pub(crate) edits: Vec<Edit>,
}

/// Something that does not fit, and the bug that it is about.
#[derive(Debug)]
pub(crate) struct Misfit {
    bug: String,
    why: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.bug, self.why)
    }
}

fn misfit(bug: &str, why: impl fmt::Display) -> Misfit {
    Misfit {
        bug: bug.to_owned(),
        why: why.to_string(),
    }
}

/// All bugs of a checkout, by name.
///
/// # Errors
/// When a file is not as the head of this one says.
pub(crate) fn read(root: &Path) -> Result<Vec<Bug>, Misfit> {
    let folder = root.join("tests/planted/bugs");
    let about = |error| misfit("tests/planted/bugs", error);
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(about)? {
        paths.push(entry.map_err(about)?.path());
    }
    paths.sort();
    paths.iter().map(|path| read_one(path)).collect()
}

fn read_one(path: &Path) -> Result<Bug, Misfit> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let text = fs::read_to_string(path).map_err(|error| misfit(&name, error))?;
    parse(&name, &text)
}

/// Which lines of a file are being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Is,
    Becomes,
}

fn parse(name: &str, text: &str) -> Result<Bug, Misfit> {
    let mut bug = Bug {
        name: name.to_owned(),
        what: String::new(),
        worlds: Vec::new(),
        edits: Vec::new(),
    };
    let mut part = Part::Head;
    for line in text.lines() {
        if let Some(file) = line.strip_prefix("file: ") {
            part = Part::Head;
            bug.edits.push(Edit {
                file: file.to_owned(),
                is: String::new(),
                becomes: String::new(),
            });
            continue;
        }
        match (line, part, bug.edits.last_mut()) {
            ("is:", Part::Head, Some(_)) => part = Part::Is,
            ("becomes:", Part::Is, Some(_)) => part = Part::Becomes,
            (_, Part::Is, Some(edit)) => push_line(&mut edit.is, line),
            (_, Part::Becomes, Some(edit)) => push_line(&mut edit.becomes, line),
            ("", ..) => {}
            (_, Part::Head, None) => head(&mut bug, line)?,
            _ => return Err(misfit(name, format_args!("does not understand `{line}`"))),
        }
    }
    for edit in &mut bug.edits {
        // An empty line may stand before the next `file:`.
        edit.becomes.truncate(edit.becomes.trim_end().len());
        edit.becomes.push('\n');
        if edit.is.is_empty() {
            return Err(misfit(
                name,
                format_args!("does not say what is there in {}", edit.file),
            ));
        }
    }
    if bug.what.is_empty() || bug.edits.is_empty() {
        return Err(misfit(
            name,
            "has to say what is wrong, and where it stands",
        ));
    }
    Ok(bug)
}

fn head(bug: &mut Bug, line: &str) -> Result<(), Misfit> {
    if let Some(what) = line.strip_prefix("what: ") {
        bug.what = what.to_owned();
        return Ok(());
    }
    let world = line.strip_prefix("world: ").and_then(World::named);
    let unknown = || misfit(&bug.name, format_args!("does not understand `{line}`"));
    bug.worlds.push(world.ok_or_else(unknown)?);
    Ok(())
}

fn push_line(lines: &mut String, line: &str) {
    lines.push_str(line);
    lines.push('\n');
}

/// The files that these bugs and the switch change, as they are with all of them, by their paths from the root.
///
/// # Errors
/// Every edit that does not apply: see the head of this file.
pub(crate) fn plant(root: &Path, bugs: &[Bug]) -> Result<BTreeMap<String, String>, Vec<Misfit>> {
    let mut misfits = Vec::new();
    let mut files: BTreeMap<&str, Vec<(&Bug, &Edit)>> = BTreeMap::new();
    let switch = read_one(&root.join("tests/planted/switch.txt"));
    let switch = switch.map_err(|misfit| vec![misfit])?;
    for bug in bugs.iter().chain([&switch]) {
        for edit in &bug.edits {
            files.entry(&edit.file).or_default().push((bug, edit));
        }
    }
    let mut planted = BTreeMap::new();
    for (file, edits) in files {
        match fs::read_to_string(root.join(file)) {
            Ok(text) => {
                let with_all = plant_in(&text, &edits, &mut misfits);
                planted.insert(file.to_owned(), with_all);
            }
            Err(error) => {
                let names = edits.iter().map(|(bug, _)| &bug.name);
                misfits.extend(names.map(|name| misfit(name, format_args!("{file}: {error}"))));
            }
        }
    }
    if misfits.is_empty() {
        Ok(planted)
    } else {
        Err(misfits)
    }
}

/// One file with these edits.
fn plant_in(text: &str, edits: &[(&Bug, &Edit)], misfits: &mut Vec<Misfit>) -> String {
    let mut places: Vec<(Range<usize>, &Bug, &Edit)> = Vec::new();
    for (bug, edit) in edits {
        match places_of(text, &edit.is).as_slice() {
            [place] => places.push((place.clone(), bug, edit)),
            found => misfits.push(misfit(
                &bug.name,
                format_args!(
                    "these lines stand {} times in {}, and should once:\n{}",
                    found.len(),
                    edit.file,
                    edit.is
                ),
            )),
        }
    }
    places.sort_by_key(|(place, ..)| place.start);
    let mut with_all = String::new();
    let mut upto = 0;
    let mut before = "";
    for (place, bug, edit) in places {
        if place.start < upto {
            misfits.push(misfit(
                &bug.name,
                format_args!("replaces a line of {} as {before} does", edit.file),
            ));
            continue;
        }
        with_all.push_str(text.get(upto..place.start).unwrap_or_default());
        with_all.push_str(&edit.becomes);
        (upto, before) = (place.end, &bug.name);
    }
    with_all.push_str(text.get(upto..).unwrap_or_default());
    with_all
}

/// Where whole lines stand in a text.
fn places_of(text: &str, lines: &str) -> Vec<Range<usize>> {
    let found = text.match_indices(lines).map(|(start, _)| start);
    let at_line = |start: &usize| *start == 0 || text.as_bytes().get(start - 1) == Some(&b'\n');
    let places = found.filter(at_line);
    places.map(|start| start..start + lines.len()).collect()
}
