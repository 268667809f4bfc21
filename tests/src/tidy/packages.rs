//! Packages come from crates.io under permitted licenses.

/// Licenses (SPDX) that are compatible with a program under MIT or Apache-2.0.
const LICENSES: &[&str] = &[
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

/// Packages of `cargo metadata` from elsewhere than crates.io, or whose license leaves no permitted
/// choice.
#[must_use]
pub fn wrong_packages(metadata: &serde_json::Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or("?");
        let source = package["source"].as_str();
        if source.is_some_and(|s| s != "registry+https://github.com/rust-lang/crates.io-index") {
            wrong.push(format!("{name}: from {source:?}, not from crates.io"));
        }
        let license = package["license"].as_str().unwrap_or_default();
        if !permitted(license) {
            wrong.push(format!("{name}: license {license:?}"));
        }
    }
    wrong
}

/// Whether an SPDX expression leaves a choice of [`LICENSES`]: `AND` of `OR`s of names, parentheses
/// as crates use them.
#[must_use]
pub fn permitted(expression: &str) -> bool {
    let flat = expression.replace('/', " OR ").replace(['(', ')'], "");
    let known = |name: &str| LICENSES.contains(&name.trim());
    flat.split(" AND ")
        .all(|part| part.split(" OR ").any(known))
}
