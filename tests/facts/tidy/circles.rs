//! Which file names what of which other file, and whether that goes round in a circle.
//!
//! A file that names something of its own parent module is not counted: there lies what its children add methods to.
//! What is only compiled for tests is left out.

use super::{Source, root, sources};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Files that may name one another.
const CIRCLE_FILES_MAX: usize = 2;

/// A module: its crate, and its path in there.
type Module = (String, Vec<String>);

/// The files of all crates, and what each imports.
struct House {
    files: BTreeMap<Module, Source>,
    /// Path and name of each import.
    imports: BTreeMap<Module, Vec<(Vec<String>, String)>>,
    crates: BTreeSet<String>,
}

#[test]
fn no_more_than_two_files_name_one_another_in_a_circle() {
    let house = House::read();
    let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, source) in &house.files {
        let named = house.named_by(module).into_iter();
        let named = named.map(|other| &*house.files[other].path);
        names.insert(&source.path, named.collect());
    }
    let found: Vec<String> = circles(&names)
        .into_iter()
        .filter(|circle| circle.len() > CIRCLE_FILES_MAX)
        .map(|circle| {
            let each = circle.iter().map(|file| {
                let others = names[file].intersection(&circle);
                format!(
                    "  {file} names {}",
                    others.copied().collect::<Vec<_>>().join(", ")
                )
            });
            let each = each.collect::<Vec<_>>().join("\n");
            format!(
                "{} files in a circle; move what two of them need into a third:\n{each}",
                circle.len()
            )
        })
        .collect();
    super::none(&found);
}

#[test]
fn circles_are_told_from_chains() {
    let names = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("e", "d")];
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in names {
        edges.entry(from).or_default().insert(to);
    }
    assert_eq!(circles(&edges), [BTreeSet::from(["a", "b", "c"])]);
    let mut found = Vec::new();
    expand("crate::{a::{self, B as C}, d}", &[], &mut found);
    let found: Vec<_> = found
        .iter()
        .map(|(path, name)| format!("{} {name}", path.join("::")))
        .collect();
    assert_eq!(found, ["crate::a a", "crate::a::B C", "crate::d d"]);
}

impl House {
    fn read() -> Self {
        let mut house = Self {
            files: BTreeMap::new(),
            imports: BTreeMap::new(),
            crates: BTreeSet::new(),
        };
        let mut for_tests = BTreeSet::new();
        for mut source in sources(&["src", "actors"]) {
            let module = module_of(&source.path);
            if let Some(at) = source.code.find("#[cfg(test)]\nmod tests {") {
                source.code.truncate(at);
            }
            for declared in source.code.split("#[cfg(test)]").skip(1) {
                let name = declared
                    .split_once("mod ")
                    .and_then(|(_, rest)| rest.split_once(';'));
                if let Some((name, _)) = name {
                    let mut path = module.1.clone();
                    path.push(name.trim().to_owned());
                    for_tests.insert((module.0.clone(), path));
                }
            }
            house.crates.insert(module.0.clone());
            house.files.insert(module, source);
        }
        house.files.retain(|(of, path), source| {
            let tests = (1..=path.len())
                .any(|upto| for_tests.contains(&(of.clone(), path[..upto].to_vec())));
            !tests && !source.path.ends_with("tests.rs")
        });
        for (module, source) in &house.files {
            let mut found = Vec::new();
            for tree in statements(&source.code) {
                expand(tree, &[], &mut found);
            }
            house.imports.insert(module.clone(), found);
        }
        house
    }

    /// The modules of which one names something.
    fn named_by(&self, module: &Module) -> BTreeSet<&Module> {
        let imports = self.imports[module].iter().map(|(path, _)| path.clone());
        let paths = paths(&self.files[module].code, &self.crates);
        let named = imports
            .chain(paths)
            .filter_map(|path| self.absolute(module, &path));
        let named = named.filter_map(|path| self.holder(&path, 0));
        named
            .filter(|other| !(other.0 == module.0 && module.1.starts_with(&other.1)))
            .collect()
    }

    /// A path from the root of its crate, if it is one of ours.
    fn absolute(&self, at: &Module, path: &[String]) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        let of = at.0.clone();
        match first.as_str() {
            "crate" => Some((of, rest.to_vec())),
            "self" => Some((of, [&at.1[..], rest].concat())),
            "super" => {
                let supers = path.iter().take_while(|part| *part == "super").count();
                let upto = at.1.len().checked_sub(supers)?;
                Some((of, [&at.1[..upto], &path[supers..]].concat()))
            }
            name if self.crates.contains(name) => Some((name.to_owned(), rest.to_vec())),
            name => {
                let child = [&at.1[..], &[name.to_owned()]].concat();
                let there = self.files.contains_key(&(of.clone(), child));
                there.then(|| (of, [&at.1[..], path].concat()))
            }
        }
    }

    /// The module that holds what a path names; what a module passes on is looked for where it has it from.
    fn holder(&self, (of, path): &Module, depth: usize) -> Option<&Module> {
        let upto = (0..=path.len()).rev();
        let mut modules = upto.filter_map(|upto| {
            self.files
                .get_key_value(&(of.clone(), path[..upto].to_vec()))
        });
        let (module, _) = modules.next()?;
        let rest = &path[module.1.len()..];
        let name = rest.first().filter(|_| depth < 8);
        let from =
            name.and_then(|name| self.imports[module].iter().find(|(_, known)| known == name));
        match from.and_then(|(from, _)| self.absolute(module, from)) {
            Some((of, from)) => self.holder(&(of, [&from[..], &rest[1..]].concat()), depth + 1),
            None => Some(module),
        }
    }
}

/// The module that a file is, by its place: a folder with a manifest of its own is a crate.
fn module_of(file: &str) -> Module {
    let folder = Path::new(file).ancestors().skip(1);
    let mut packages = folder.filter(|folder| root().join(folder).join("Cargo.toml").exists());
    let package = packages.next().unwrap();
    let manifest = fs::read_to_string(root().join(package).join("Cargo.toml")).unwrap();
    let (_, manifest) = manifest.split_once("[package]").unwrap();
    let name = manifest
        .lines()
        .find_map(|line| line.strip_prefix("name = "))
        .unwrap();
    // The package at the root has its code one folder down.
    let within = Path::new(file).strip_prefix(package).unwrap();
    let within = within
        .strip_prefix("src")
        .unwrap_or(within)
        .with_extension("");
    let mut path: Vec<String> = within
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if matches!(path.last().map(String::as_str), Some("mod" | "lib")) {
        path.pop();
    }
    (name.trim_matches('"').replace('-', "_"), path)
}

/// What stands between each `use` and its semicolon.
fn statements(code: &str) -> impl Iterator<Item = &str> {
    let starts = code.match_indices("use ").filter(|(at, _)| {
        let before = code[..*at].chars().next_back();
        before.is_none_or(char::is_whitespace)
    });
    starts
        .filter_map(|(at, word)| code[at + word.len()..].split_once(';'))
        .map(|(tree, _)| tree)
}

/// The paths in a tree of imports, each with the name that it gets.
fn expand(tree: &str, before: &[String], found: &mut Vec<(Vec<String>, String)>) {
    let mut depth = 0_usize;
    let parts = tree.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
        let split = |path: &str| {
            path.split("::")
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect()
        };
        if let Some((path, inner)) = part.split_once('{') {
            let path: Vec<String> = split(path);
            let inner = inner.trim_end().trim_end_matches('}');
            let unbalanced = inner.matches('{').count() - inner.matches('}').count();
            let inner = format!("{inner}{}", "}".repeat(unbalanced));
            expand(&inner, &[before, &path].concat(), found);
        } else {
            let (path, alias) = part
                .split_once(" as ")
                .map_or((part, None), |(path, alias)| (path, Some(alias)));
            let path: Vec<String> = split(path);
            let mut path = [before, &path].concat();
            path.pop_if(|last| last == "self");
            if let Some(last) = path.last().cloned() {
                found.push((path, alias.map_or(last, |alias| alias.trim().to_owned())));
            }
        }
    }
}

/// The paths in code that begin at a crate or at a parent.
fn paths(code: &str, crates: &BTreeSet<String>) -> Vec<Vec<String>> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let heads = ["crate", "super"]
        .into_iter()
        .chain(crates.iter().map(String::as_str));
    let mut found = Vec::new();
    for head in heads {
        for (at, _) in code.match_indices(&format!("{head}::")) {
            if code[..at].ends_with(|c: char| part(c) || c == ':') {
                continue;
            }
            let end = code[at..]
                .find(|c: char| !part(c) && c != ':')
                .map_or(code.len(), |end| at + end);
            let names = code[at..end].split("::").filter(|name| !name.is_empty());
            found.push(names.map(str::to_owned).collect());
        }
    }
    found
}

/// The sets of files from each of which each other one is reached, of two files at least.
fn circles<'a>(names: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<BTreeSet<&'a str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> = names
        .keys()
        .map(|file| (*file, reach(names, file)))
        .collect();
    let mut found: Vec<BTreeSet<&str>> = Vec::new();
    for (file, others) in &reached {
        let back = others
            .iter()
            .filter(|other| reached.get(*other).is_some_and(|back| back.contains(file)));
        let circle: BTreeSet<&str> = back.copied().collect();
        if circle.len() > 1 && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

fn reach<'a>(names: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = names.get(from).into_iter().flatten().copied().collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(names.get(file).into_iter().flatten());
        }
    }
    reached
}
