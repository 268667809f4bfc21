//! The modules of the workspace, and what a path stands for once imports and re-exports are
//! followed.
//!
//! With `pub use self::a::A;` in rib/mod.rs, `crate::rib::A` is `crate::rib::a::A`. With
//! `use std::time;`, `time::Instant` is `std::time::Instant`.

use std::collections::BTreeMap;

use super::Source;
use super::paths::{Named, Paths, Scope};

/// How many imports are followed, one after the other: more than any path needs, so that imports
/// of one another end.
const DEPTH: usize = 16;

/// A file with its paths.
#[derive(Debug)]
pub struct File<'a> {
    /// Its path from the workspace's root.
    pub path: &'a str,
    /// The folder of its crate.
    pub package: &'a str,
    /// Its module, from the crate's root on.
    pub module: Vec<String>,
    /// The paths that it names.
    pub named: Vec<Named>,
}

/// The files of the workspace that take part, and the names of their modules.
#[derive(Debug)]
pub struct Modules<'a> {
    /// Neither tests nor programs, whose paths start at another root.
    pub files: Vec<File<'a>>,
    scopes: BTreeMap<&'a str, BTreeMap<Vec<String>, Scope>>,
}

/// A module's path below its crate: `src/rib/mod.rs` is `[rib]`, `src/rib/key.rs` is `[rib, key]`,
/// `src/lib.rs` is `[]`.
fn module(path: &str) -> Option<(&str, Vec<String>)> {
    let (package, file) = path.split_once("/src/")?;
    let parts = file.strip_suffix(".rs")?.split('/').map(str::to_owned);
    let mut parts: Vec<_> = parts.collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib")) {
        parts.pop();
    }
    Some((package, parts))
}

impl<'a> Modules<'a> {
    /// Those of `sources`.
    ///
    /// # Panics
    /// If a file is not valid Rust code.
    #[must_use]
    pub fn of(sources: &'a [Source]) -> Self {
        let mut modules = Self {
            files: Vec::new(),
            scopes: BTreeMap::new(),
        };
        for source in sources {
            let path = source.path.as_str();
            if source.is_tests() || path.contains("/src/bin/") || path.ends_with("/main.rs") {
                continue;
            }
            let Some((package, module)) = module(path) else {
                continue;
            };
            let paths = Paths::of(source, &module);
            let scopes = modules.scopes.entry(package).or_default();
            scopes.extend(paths.scopes);
            modules.files.push(File {
                path,
                package,
                module,
                named: paths.named,
            });
        }
        modules
    }

    /// What a path of a file stands for.
    #[must_use]
    pub fn resolve(&self, package: &str, named: &Named) -> Vec<String> {
        self.scopes.get(package).map_or_else(
            || named.path.clone(),
            |scopes| resolve(scopes, named, DEPTH),
        )
    }

    /// What a file imports with a glob besides the module itself: everything that the module
    /// imports and the file can see.
    #[must_use]
    pub fn behind_glob(&self, package: &str, glob: &Named) -> Vec<Vec<String>> {
        let Some(scopes) = self.scopes.get(package) else {
            return Vec::new();
        };
        let (mut found, mut open) = (Vec::new(), vec![resolve(scopes, glob, DEPTH)]);
        let mut seen = open.clone();
        while let Some(path) = open.pop() {
            let Some((scope, inside)) = scope(scopes, &path) else {
                continue;
            };
            let visible = |named: &&Named| named.public || glob.module.starts_with(inside);
            for named in scope.imports.values().filter(visible) {
                found.push(resolve(scopes, named, DEPTH));
            }
            for named in scope.globs.iter().filter(visible) {
                let target = resolve(scopes, named, DEPTH);
                found.push(target.clone());
                if !seen.contains(&target) {
                    seen.push(target.clone());
                    open.push(target);
                }
            }
        }
        found
    }
}

type Scopes = BTreeMap<Vec<String>, Scope>;

/// The names of the module that a path stands for, and its path below the crate.
fn scope<'a>(scopes: &'a Scopes, path: &'a [String]) -> Option<(&'a Scope, &'a [String])> {
    let (first, module) = path.split_first()?;
    let scope = scopes.get(module).filter(|_| first == "crate")?;
    Some((scope, module))
}

fn resolve(scopes: &Scopes, named: &Named, depth: usize) -> Vec<String> {
    let mut path = named.path.clone();
    let Some(first) = path.first().filter(|_| depth > 0).cloned() else {
        return path;
    };
    if first != "crate" && !named.absolute {
        let child = [&named.module[..], &path[..1]].concat();
        let start = if scopes.contains_key(&child) {
            Some([&["crate".to_owned()], &child[..]].concat())
        } else {
            imported(scopes, &named.module, &first, depth - 1)
        };
        if let Some(start) = start {
            path.splice(..1, start);
        }
    }
    if path[0] != "crate" {
        return path;
    }
    for end in 1..path.len() {
        let is_module = end + 1 < path.len() && scopes.contains_key(&path[1..=end]);
        if !is_module && let Some(target) = imported(scopes, &path[1..end], &path[end], depth - 1) {
            let mut next = named.clone();
            next.path = [&target[..], &path[end + 1..]].concat();
            next.absolute = true;
            return resolve(scopes, &next, depth - 1);
        }
    }
    path
}

/// What a name stands for that a module imports; none if the module defines it.
fn imported(scopes: &Scopes, module: &[String], name: &str, depth: usize) -> Option<Vec<String>> {
    let scope = scopes.get(module).filter(|_| depth > 0)?;
    if let Some(named) = scope.imports.get(name) {
        // `use log::log;`: the first is a crate, or a child module.
        let child = [module, &[name.to_owned()]].concat();
        let is_crate =
            named.path.first().is_some_and(|first| first == name) && !scopes.contains_key(&child);
        return Some(if is_crate {
            named.path.clone()
        } else {
            resolve(scopes, named, depth)
        });
    }
    if scope.items.contains(name) {
        return None;
    }
    scope.globs.iter().find_map(|glob| {
        let target = resolve(scopes, glob, depth - 1);
        let (inside, module) = self::scope(scopes, &target)?;
        if inside.items.contains(name) {
            return Some([&target[..], &[name.to_owned()]].concat());
        }
        imported(scopes, module, name, depth - 1)
    })
}
