//! Rules for imports: layers of each crate, no circles between files, and what pure code must not
//! use.

use std::collections::{BTreeMap, BTreeSet};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::Source;

/// The modules below a crate's root, from the bottom up: a module imports only from those before
/// it.
const LAYERS: &[(&str, &[&str])] = &[
    (
        "dataplane",
        &[
            "addr", "mem", "drop", "wire", "frame", "stats", "table", "pipeline", "event", "port",
            "afxdp", "worker",
        ],
    ),
    (
        "control",
        &[
            "bgp",
            "rib",
            "evpn",
            "config",
            "fib",
            "underlay",
            "workers",
            "interfaces",
            "speaker",
            "api",
            "metrics",
            "engine",
            "show",
            "handler",
            "cli",
            "daemon",
        ],
    ),
];

/// Crates of this workspace, from the bottom up, with the modules that crates above may use (empty:
/// all).
const CRATES: &[(&str, &str, &[&str])] = &[
    ("bpf", "vtep_bpf", &[]),
    (
        "dataplane",
        "vtep_dataplane",
        &[
            "addr", "drop", "frame", "mem", "stats", "table", "worker", "port", "event", "afxdp",
            "wire",
        ],
    ),
    ("control", "vtep_control", &[]),
    ("bench", "vtep_bench", &[]),
    ("tests", "vtep_tests", &[]),
];

/// Crates that may use every module of those below.
const UNRESTRICTED: &[&str] = &["bench", "tests"];

/// Folders of pure code, and paths that it must not name: no I/O, clock, thread or log.
const PURE: &[(&str, &[&str])] = &[
    (
        "dataplane/src/pipeline/",
        &[
            "libbpf_rs",
            "libc",
            "rustix",
            "std::io",
            "std::net::Udp",
            "std::time",
            "std::thread",
            "std::fs",
            "tracing",
        ],
    ),
    (
        "dataplane/src/wire/",
        &[
            "libc",
            "rustix",
            "std::io",
            "std::time",
            "std::thread",
            "std::fs",
            "tracing",
        ],
    ),
    ("control/src/bgp/", IO),
    ("control/src/rib/", IO),
    ("control/src/evpn/", IO),
];

const IO: &[&str] = &[
    "mio",
    "rustix",
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::thread",
    "std::time::SystemTime",
    "std::time::Instant::now",
    "Instant::now",
    "SystemTime::now",
];

/// A path in the code: its line, and its segments from the crate's root on.
#[derive(Debug)]
struct Import {
    line: usize,
    path: Vec<String>,
}

/// Collects the paths of a file, with `self`, `super` and `crate` resolved.
#[derive(Debug)]
struct Paths {
    module: Vec<String>,
    found: Vec<Import>,
}

impl Paths {
    fn push(&mut self, line: usize, segments: Vec<String>) {
        let mut path = match segments[0].as_str() {
            "crate" => vec!["crate".to_owned()],
            "self" | "super" => [&["crate".to_owned()], &self.module[..]].concat(),
            _ => Vec::new(),
        };
        for segment in segments {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => {
                    path.pop();
                }
                _ => path.push(segment),
            }
        }
        self.found.push(Import { line, path });
    }

    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.push(name.span().start().line, with(&name.ident)),
            syn::UseTree::Rename(name) => self.push(name.span().start().line, with(&name.ident)),
            syn::UseTree::Glob(glob) if !before.is_empty() => {
                self.push(glob.span().start().line, before.to_vec());
            }
            syn::UseTree::Glob(_) => {}
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.tree(before, tree));
            }
        }
    }
}

/// Whether an item is compiled for tests only.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let list = attribute.meta.require_list();
        attribute.path().is_ident("cfg")
            && list.is_ok_and(|list| {
                let words = list.tokens.to_string();
                words.contains("test") || words.contains("loom")
            })
    })
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            self.module.push(module.ident.to_string());
            visit::visit_item_mod(self, module);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let segments = path.segments.iter().map(|s| s.ident.to_string());
            self.push(path.span().start().line, segments.collect());
        }
        visit::visit_path(self, path);
    }
}

/// A module's path below its crate: `src/rib/mod.rs` is `[rib]`, `src/rib/key.rs` is `[rib, key]`,
/// `src/lib.rs` is `[]`.
fn module(path: &str) -> Option<(&str, Vec<String>)> {
    let (name, file) = path.split_once("/src/")?;
    let parts = file.strip_suffix(".rs")?.split('/').map(str::to_owned);
    let mut parts: Vec<_> = parts.collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib")) {
        parts.pop();
    }
    Some((name, parts))
}

/// A file that takes part: neither tests nor programs, whose paths start at another root.
fn modules(sources: &[Source]) -> Vec<(&Source, &str, Vec<String>)> {
    let parts = sources.iter().filter(|s| {
        !s.is_tests() && !s.path.contains("/src/bin/") && !s.path.ends_with("/main.rs")
    });
    parts
        .filter_map(|s| module(&s.path).map(|(name, path)| (s, name, path)))
        .collect()
}

/// The paths that a file names.
///
/// # Panics
/// If the file is not valid Rust code.
fn imports(source: &Source, module: &[String]) -> Vec<Import> {
    let text = source.lines.join("\n");
    let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", source.path));
    let mut paths = Paths {
        module: module.to_vec(),
        found: Vec::new(),
    };
    paths.visit_file(&file);
    paths.found
}

/// Imports against the layers, from a higher crate, of a module that is private to its crate, and
/// of I/O in pure code.
#[must_use]
pub fn wrong_imports(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (source, name, module) in modules(sources) {
        for import in imports(source, &module) {
            let why = [
                against_layers(name, &module, &import.path),
                against_crates(name, &import.path),
                against_purity(&source.path, &import.path),
            ];
            let place = format!(
                "{}:{}: {}",
                source.path,
                import.line,
                import.path.join("::")
            );
            wrong.extend(
                why.into_iter()
                    .flatten()
                    .map(|why| format!("{place}: {why}")),
            );
        }
    }
    wrong
}

fn against_layers(name: &str, module: &[String], path: &[String]) -> Option<String> {
    let (_, layers) = LAYERS.iter().find(|(other, _)| *other == name)?;
    let (from, to) = (module.first()?, path.get(1)?);
    if path[0] != "crate" || from == to {
        return None;
    }
    let layer = |word: &String| layers.iter().position(|layer| layer == word);
    let Some(from_layer) = layer(from) else {
        return Some(format!("{from} has no layer: add it to LAYERS"));
    };
    (layer(to)? > from_layer).then(|| format!("{from} is below {to}"))
}

fn against_crates(name: &str, path: &[String]) -> Option<String> {
    let position = |wanted: &str| CRATES.iter().position(|(folder, ..)| *folder == wanted);
    let own = position(name)?;
    let other = CRATES
        .iter()
        .position(|(_, package, _)| *package == path[0])?;
    if other > own {
        return Some(format!("{name} is below {}", CRATES[other].0));
    }
    let open = CRATES[other].2;
    let closed = other < own
        && !UNRESTRICTED.contains(&name)
        && !open.is_empty()
        && path
            .get(1)
            .is_some_and(|module| !open.contains(&module.as_str()));
    closed.then(|| format!("{} is not for {name}", path[1]))
}

fn against_purity(file: &str, path: &[String]) -> Option<String> {
    let joined = path.join("::");
    let (_, words) = PURE.iter().find(|(folder, _)| file.starts_with(folder))?;
    let word = words.iter().find(|word| {
        joined == **word
            || joined
                .strip_prefix(**word)
                .is_some_and(|rest| rest.starts_with("::"))
    })?;
    Some(format!("pure code must not use {word}"))
}

/// Circles of imports between files of a crate that are not above or below one another.
#[must_use]
pub fn circles(sources: &[Source]) -> Vec<String> {
    let all = modules(sources);
    let known: BTreeMap<(&str, &[String]), usize> = all
        .iter()
        .enumerate()
        .map(|(i, (_, name, path))| ((*name, &path[..]), i))
        .collect();
    let edges: Vec<BTreeSet<usize>> = all
        .iter()
        .map(|(source, name, path)| {
            let targets = imports(source, path).into_iter().filter_map(|import| {
                (import.path[0] == "crate").then_some(())?;
                (1..import.path.len())
                    .rev()
                    .find_map(|end| known.get(&(*name, &import.path[1..=end])).copied())
            });
            let related =
                |to: &usize| all[*to].2.starts_with(path) || path.starts_with(&all[*to].2);
            targets.filter(|to| !related(to)).collect()
        })
        .collect();
    let name = |file: &usize| all[*file].0.path.as_str();
    let circles = strongly_connected(&edges)
        .into_iter()
        .filter(|circle| circle.len() > 1);
    circles
        .map(|circle| circle.iter().map(name).collect::<Vec<_>>().join(", "))
        .collect()
}

/// Sets of nodes that reach one another: both forwards and backwards from each node in turn.
fn strongly_connected(edges: &[BTreeSet<usize>]) -> Vec<Vec<usize>> {
    let mut back = vec![BTreeSet::new(); edges.len()];
    for (from, targets) in edges.iter().enumerate() {
        for to in targets {
            back[*to].insert(from);
        }
    }
    let reached = |edges: &[BTreeSet<usize>], start: usize| {
        let (mut seen, mut open) = (BTreeSet::from([start]), vec![start]);
        while let Some(node) = open.pop() {
            open.extend(
                edges[node]
                    .iter()
                    .copied()
                    .filter(|next| seen.insert(*next)),
            );
        }
        seen
    };
    let mut done = BTreeSet::<usize>::new();
    let mut sets = Vec::new();
    for node in 0..edges.len() {
        if !done.contains(&node) {
            let set: Vec<_> = reached(edges, node)
                .intersection(&reached(&back, node))
                .copied()
                .collect();
            done.extend(&set);
            sets.push(set);
        }
    }
    sets
}

/// The modules that ARCHITECTURE.md names: those at the root of dataplane and control, and those
/// that a packet and a route pass through.
#[must_use]
pub fn names(sources: &[Source]) -> BTreeSet<String> {
    let inside = ["pipeline", "evpn", "fib"];
    let layered = modules(sources)
        .into_iter()
        .filter(|(_, name, _)| LAYERS.iter().any(|(layered, _)| layered == name));
    layered
        .filter_map(|(.., module)| {
            let root = module.first()?;
            let name = module.get(1).filter(|_| inside.contains(&root.as_str()));
            Some(name.unwrap_or(root).clone())
        })
        .collect()
}

/// `use` items at the head of a file that are not in three groups: std, other crates, this crate.
#[must_use]
pub fn import_groups(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources {
        let text = source.lines.join("\n");
        let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", source.path));
        let mut last: Option<(usize, usize)> = None;
        for item in &file.items {
            let item = match item {
                syn::Item::Use(item) => item,
                syn::Item::Mod(_) | syn::Item::ExternCrate(_) => continue,
                // The head of the file ends here.
                _ => break,
            };
            let (line, end) = (item.span().start().line, item.span().end().line);
            let group = group(&item.tree);
            if let Some((before, before_end)) = last {
                let apart = source.lines[before_end..line - 1]
                    .iter()
                    .any(String::is_empty);
                if group < before || (group == before) == apart {
                    wrong.push(format!(
                        "{}:{line}: imports stand as std, crates, ours",
                        source.path
                    ));
                }
            }
            last = Some((group, end));
        }
    }
    wrong
}

fn group(tree: &syn::UseTree) -> usize {
    let first = match tree {
        syn::UseTree::Path(path) => path.ident.to_string(),
        syn::UseTree::Name(name) => name.ident.to_string(),
        _ => String::new(),
    };
    match first.as_str() {
        "std" | "core" | "alloc" => 0,
        "crate" | "self" | "super" => 2,
        _ => 1,
    }
}
