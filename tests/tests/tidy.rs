//! The rules of src/tidy.rs hold for the whole workspace.

use vtep_tests::netns::{command, must};
use vtep_tests::tidy::{self, Source};

fn none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

fn source(path: &str, text: &str) -> [Source; 1] {
    [Source { path: path.into(), lines: text.lines().map(str::to_owned).collect() }]
}

#[test]
fn rooms_import_only_what_is_below_them() {
    none("imports", &tidy::wrong_imports(&tidy::sources()));
    let wrong = source("dataplane/src/core/x.rs", "use crate::worker::Worker;\n// crate::afxdp\n");
    assert_eq!(tidy::wrong_imports(&wrong).len(), 1);
}

#[test]
fn unsafe_code_stays_where_it_may_be() {
    none("misplaced", &tidy::misplaced_unsafe(&tidy::sources()));
    assert_eq!(tidy::misplaced_unsafe(&source("control/src/x.rs", concat!("un", "safe { f() }"))).len(), 1);
}

#[test]
fn files_and_functions_are_short() {
    none("files", &tidy::long_files(&tidy::sources()));
    none("functions", &tidy::long_functions(&tidy::sources()));
    let long = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(69));
    assert_eq!(tidy::long_functions(&source("a.rs", &long)).len(), 1);
    assert_eq!(tidy::long_files(&source("a.rs", &"x\n".repeat(501))).len(), 1);
}

#[test]
fn nothing_is_put_off() {
    none("unfinished", &tidy::unfinished(&tidy::sources()));
    assert_eq!(tidy::unfinished(&source("a.rs", concat!("// TO", "DO"))).len(), 1);
}

#[test]
fn each_drop_reason_is_in_the_docs() {
    let page =
        std::fs::read_to_string(tidy::root().join("docs/counters.md")).expect("docs/counters.md stands");
    let reasons = tidy::reasons(&tidy::sources());
    assert!(reasons.len() > 25, "{reasons:?}");
    let missing: Vec<String> = reasons.into_iter().filter(|r| !page.contains(&format!("`{r}`"))).collect();
    none("reasons without a line in docs/counters.md", &missing);
}

/// Of the packages of all platforms cargo wants the manifests, also of those that nothing here is built from: what is not in
/// `CARGO_HOME` yet it downloads. `scripts/check` has fetched them before.
#[test]
fn packages_come_from_crates_io_under_permitted_licences() {
    let manifest = tidy::root().join("Cargo.toml");
    let words = ["cargo", "metadata", "--format-version", "1", "--locked", "--manifest-path"];
    let out = command(600, &[&words[..], &[manifest.to_str().expect("ASCII")]].concat());
    let metadata = serde_json::from_str(&must(&out, "cargo metadata")).expect("JSON");
    none("packages", &tidy::wrong_packages(&metadata));
    assert!(tidy::permitted("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(
        !tidy::permitted("GPL-3.0-only") && !tidy::permitted("") && !tidy::permitted("MIT AND GPL-3.0-only")
    );
}
