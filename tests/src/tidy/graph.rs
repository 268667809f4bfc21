//! Circles of imports: between files, and between the files and folders of one folder.

use std::collections::{BTreeMap, BTreeSet};

use super::Source;
use super::resolve::{File, Modules};

/// Circles of imports between files of a crate that are not above or below one another, and between
/// folders.
///
/// A folder imports what its files import. A circle of folders that follows from a circle of files
/// is reported once, as that of the files.
#[must_use]
pub fn circles(sources: &[Source]) -> Vec<String> {
    let modules = Modules::of(sources);
    let files = &modules.files;
    let edges = edges(&modules);
    let of_files = circles_of(&edges);
    let name = |file: &usize| files[*file].path.to_owned();
    let mut found: Vec<_> = of_files
        .iter()
        .map(|circle| circle.iter().map(name).collect::<Vec<_>>().join(", "))
        .collect();
    for parent in parents(files) {
        let (nodes, child) = children(files, &parent);
        let mut between = vec![BTreeSet::new(); nodes.len()];
        for (from, targets) in edges.iter().enumerate() {
            let pairs = targets.iter().map(|to| (child[from], child[*to]));
            for (from, to) in pairs {
                if let (Some(from), Some(to)) = (from, to)
                    && from != to
                {
                    between[from].insert(to);
                }
            }
        }
        let known = |circle: &[usize]| {
            of_files.iter().any(|files| {
                let inside = files.iter().filter_map(|file| child[*file]);
                let inside: BTreeSet<_> = inside.filter(|node| circle.contains(node)).collect();
                inside.len() > 1
            })
        };
        let circles = circles_of(&between).into_iter().filter(|c| !known(c));
        found.extend(circles.map(|circle| {
            let names = circle.iter().map(|node| nodes[*node].clone());
            names.collect::<Vec<_>>().join(", ")
        }));
    }
    found
}

/// The files that each file imports, without those above and below it.
fn edges(modules: &Modules<'_>) -> Vec<BTreeSet<usize>> {
    let files = &modules.files;
    let known: BTreeMap<(&str, &[String]), usize> = files
        .iter()
        .enumerate()
        .map(|(i, file)| ((file.package, &file.module[..]), i))
        .collect();
    let targets = |file: &File<'_>| {
        let mut paths = Vec::new();
        for named in &file.named {
            paths.push(named.path.clone());
            paths.push(modules.resolve(file.package, named));
            if named.glob {
                paths.extend(modules.behind_glob(file.package, named));
            }
        }
        let targets = paths.into_iter().filter_map(|path| {
            path.first().filter(|first| *first == "crate")?;
            (1..path.len())
                .rev()
                .find_map(|end| known.get(&(file.package, &path[1..=end])).copied())
        });
        let related = |to: &usize| {
            files[*to].module.starts_with(&file.module)
                || file.module.starts_with(&files[*to].module)
        };
        targets.filter(|to| !related(to)).collect()
    };
    files.iter().map(targets).collect()
}

/// The folders with source files: crate and module.
fn parents<'a>(files: &'a [File<'_>]) -> BTreeSet<(&'a str, &'a [String])> {
    let above =
        |file: &'a File<'_>| (0..file.module.len()).map(|end| (file.package, &file.module[..end]));
    files.iter().flat_map(above).collect()
}

/// The files and folders directly in a folder, by name, and which of them each file is or is in.
fn children(
    files: &[File<'_>],
    (package, parent): &(&str, &[String]),
) -> (Vec<String>, Vec<Option<usize>>) {
    let mut nodes: Vec<String> = Vec::new();
    let mut child = Vec::new();
    for file in files {
        let name = file
            .module
            .get(parent.len())
            .filter(|_| file.package == *package && file.module.starts_with(parent));
        child.push(name.map(|name| {
            let folder = [&[(*package).to_owned(), "src".to_owned()], *parent].concat();
            let node = format!("{}/{name}", folder.join("/"));
            let known = nodes.iter().position(|known| *known == node);
            known.unwrap_or_else(|| {
                nodes.push(node);
                nodes.len() - 1
            })
        }));
    }
    (nodes, child)
}

/// Sets of several nodes that reach one another.
fn circles_of(edges: &[BTreeSet<usize>]) -> Vec<Vec<usize>> {
    let mut sets = strongly_connected(edges);
    sets.retain(|set| set.len() > 1);
    sets
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
