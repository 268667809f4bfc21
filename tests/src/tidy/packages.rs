//! Packages come from crates.io under permitted licences.

/// Licences (SPDX) that suit a program under MIT or Apache-2.0.
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "NCSA",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    "0BSD",
    "CC0-1.0",
    "BSL-1.0",
    "MPL-2.0",
    "LGPL-2.1-only",
    "Apache-2.0 WITH LLVM-exception",
];

/// Packages of `cargo metadata` from elsewhere than crates.io, or whose licence leaves no permitted choice.
#[must_use]
pub fn wrong_packages(metadata: &serde_json::Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or("?");
        let source = package["source"].as_str();
        if source.is_some_and(|s| s != "registry+https://github.com/rust-lang/crates.io-index") {
            wrong.push(format!("{name}: from {source:?}, not from crates.io"));
        }
        let licence = package["license"].as_str().unwrap_or_default();
        if !permitted(licence) {
            wrong.push(format!("{name}: licence {licence:?}"));
        }
    }
    wrong
}

/// Whether an SPDX expression leaves a choice of [`LICENCES`]: `AND` of `OR`s of names, parentheses as crates use them.
#[must_use]
pub fn permitted(expression: &str) -> bool {
    let flat = expression.replace('/', " OR ").replace(['(', ')'], "");
    let known = |name: &str| LICENCES.contains(&name.trim());
    flat.split(" AND ")
        .all(|part| part.split(" OR ").any(known))
}
