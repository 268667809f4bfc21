//! Rules for imports: layers of each crate, what crates may use of one another, and what pure code
//! must not use.
//!
//! A path is checked as it is written, and as what it stands for once imports and re-exports are
//! followed. Globs and other names of a whole crate (this workspace's, and the standard library) hide what
//! is imported, and are violations by themselves.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use syn::spanned::Spanned;

use super::Source;
use super::paths::Named;
use super::resolve::Modules;

/// The modules of each layer of a crate, from the bottom up: a module imports only from layers before its own.
pub type Layers = Vec<Vec<String>>;

/// The layers of each crate, by its folder, as ARCHITECTURE.md has them.
static LAYERS: LazyLock<Vec<(String, Layers)>> = LazyLock::new(|| {
    let page = super::root().join("ARCHITECTURE.md");
    let page = std::fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
    layers(&page)
});

/// Crates whose modules have layers.
const LAYERED: &[&str] = &["dataplane", "control"];

/// Crates of this workspace, from the bottom up, with the modules that crates above must not use.
const CRATES: &[(&str, &str, &[&str])] = &[
    ("bpf", "vtep_bpf", &[]),
    ("dataplane", "vtep_dataplane", &["pipeline"]),
    ("control", "vtep_control", &[]),
    ("bench", "vtep_bench", &[]),
    ("tests", "vtep_tests", &[]),
];

/// Crates that may use every module of those below.
const UNRESTRICTED: &[&str] = &["bench", "tests"];

/// Folders of pure code, and paths that it must not name: no I/O, clock, thread or log.
const PURE: &[(&str, &[&[&str]])] = &[
    ("dataplane/src/pipeline/", &[IO, ANY_TIME]),
    ("dataplane/src/wire/", &[IO, ANY_TIME]),
    ("control/src/bgp/", &[IO, CLOCK]),
    ("control/src/rib/", &[IO, CLOCK]),
    ("control/src/evpn/", &[IO, CLOCK]),
];

const IO: &[&str] = &[
    "libbpf_rs",
    "libc",
    "mio",
    "nix",
    "rustix",
    "std::env",
    "std::fs",
    "std::io",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "tracing",
];

const ANY_TIME: &[&str] = &["std::time"];

/// Points in time and durations are values; reading the clock is not pure.
const CLOCK: &[&str] = &[
    "std::time::SystemTime",
    "std::time::Instant::now",
    "std::time::Instant::elapsed",
    "Instant::now",
    "Instant::elapsed",
    "SystemTime::now",
];

/// Modules that pure code must not import as a whole: `time::Instant::now()` would follow.
const WHOLE: &[&str] = &["std::time"];

/// The layers of each crate in the section "Dependency rules" of ARCHITECTURE.md: after a crate's folder, `<`
/// between layers and `,` between the modules of one layer. A line that starts with `<` continues
/// the one before.
///
/// # Panics
/// If the page has no such section.
#[must_use]
pub fn layers(page: &str) -> Vec<(String, Layers)> {
    let section = page
        .split("\n## ")
        .find(|section| section.starts_with("Dependency rules\n"))
        .expect("ARCHITECTURE.md has a section \"Dependency rules\"");
    let mut texts: Vec<(String, String)> = Vec::new();
    for line in section.lines().map(str::trim).filter(|l| l.contains('<')) {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        match texts.last_mut() {
            Some((_, text)) if line.starts_with('<') => text.push_str(line),
            _ if LAYERED.contains(&first) => texts.push((first.into(), rest.into())),
            _ => {}
        }
    }
    let modules = |layer: &str| layer.split(',').map(|m| m.trim().to_owned()).collect();
    texts
        .into_iter()
        .map(|(package, text)| (package, text.split('<').map(modules).collect()))
        .collect()
}

/// Imports against the layers, from a higher crate, of a module that is private to its crate, and
/// of I/O in pure code; globs and other names of whole crates; files without a layer.
///
/// # Panics
/// If a file is not valid Rust code, or ARCHITECTURE.md cannot be read.
#[must_use]
pub fn wrong_imports(sources: &[Source]) -> Vec<String> {
    let modules = Modules::of(sources);
    let mut wrong = Vec::new();
    for file in &modules.files {
        let why = without_layer(file.package, &file.module);
        wrong.extend(why.map(|why| format!("{}: {why}", file.path)));
        for named in &file.named {
            let resolved = modules.resolve(file.package, named);
            let mut why = BTreeSet::new();
            why.extend(against_roots(named, &resolved));
            for path in [&named.path, &resolved]
                .into_iter()
                .filter(|p| !p.is_empty())
            {
                why.extend(against_layers(file.package, &file.module, path));
                why.extend(against_crates(file.package, path));
                why.extend(against_purity(file.path, path, named.glob));
            }
            let place = format!("{}:{}: {}", file.path, named.line, resolved.join("::"));
            wrong.extend(why.into_iter().map(|why| format!("{place}: {why}")));
        }
    }
    wrong
}

fn against_roots(named: &Named, resolved: &[String]) -> Option<String> {
    let [root] = resolved else { return None };
    let is_ours = CRATES.iter().any(|(_, name, _)| name == root);
    let is_crate = is_ours || ["crate", "std", "core", "alloc"].contains(&root.as_str());
    let what = match named {
        Named { glob: true, .. } => "a glob",
        Named { renamed: true, .. } => "another name",
        _ => return None,
    };
    is_crate.then(|| format!("{what} of a whole crate hides what is imported"))
}

/// A file whose top-level module is in no layer.
fn without_layer(package: &str, module: &[String]) -> Option<String> {
    let (_, layers) = LAYERS.iter().find(|(other, _)| other == package)?;
    let top = module.first()?;
    let why = "has no layer: add it to the dependency rules in ARCHITECTURE.md";
    (!layers.iter().flatten().any(|known| known == top)).then(|| format!("{top} {why}"))
}

fn against_layers(package: &str, module: &[String], path: &[String]) -> Option<String> {
    let (_, layers) = LAYERS.iter().find(|(other, _)| other == package)?;
    let (from, to) = (module.first()?, path.get(1)?);
    if path[0] != "crate" || from == to {
        return None;
    }
    let layer = |word: &String| layers.iter().position(|layer| layer.contains(word));
    (layer(to)? >= layer(from)?).then(|| format!("{from} is not above {to}"))
}

fn against_crates(package: &str, path: &[String]) -> Option<String> {
    let position = |wanted: &str| CRATES.iter().position(|(folder, ..)| *folder == wanted);
    let own = position(package)?;
    let other = CRATES.iter().position(|(_, name, _)| *name == path[0])?;
    if other > own {
        return Some(format!("{package} is below {}", CRATES[other].0));
    }
    let closed = other < own
        && !UNRESTRICTED.contains(&package)
        && path
            .get(1)
            .is_some_and(|module| CRATES[other].2.contains(&module.as_str()));
    closed.then(|| format!("{} is not for {package}", path[1]))
}

fn against_purity(file: &str, path: &[String], glob: bool) -> Option<String> {
    let joined = path.join("::");
    let (_, lists) = PURE.iter().find(|(folder, _)| file.starts_with(folder))?;
    let within = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let mut forbidden = lists.iter().copied().flatten();
    let word = forbidden
        .find(|word| within(&joined, word) || (glob && within(word, &joined)))
        .or_else(|| WHOLE.iter().find(|whole| joined == **whole))?;
    Some(format!("pure code must not use {word}"))
}

/// The modules that ARCHITECTURE.md names: those at the root of dataplane and control, and those
/// that a packet and a route pass through.
#[must_use]
pub fn names(sources: &[Source]) -> BTreeSet<String> {
    let inside = ["pipeline", "evpn", "fib"];
    let files = Modules::of(sources).files;
    let layered = files.iter().filter(|file| LAYERED.contains(&file.package));
    layered
        .filter_map(|file| {
            let root = file.module.first()?;
            let name = file
                .module
                .get(1)
                .filter(|_| inside.contains(&root.as_str()));
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
