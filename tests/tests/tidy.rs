//! The rules of src/tidy/ hold for the whole workspace.

use vtep_tests::netns::{command, must};
use vtep_tests::tidy::{self, Source, imports, packages, reasons, size, words};

fn none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

fn source(path: &str, text: &str) -> [Source; 1] {
    [Source {
        path: path.into(),
        lines: text.lines().map(str::to_owned).collect(),
    }]
}

#[test]
fn imports_follow_the_layers() {
    none("imports", &imports::wrong_imports(&tidy::sources()));
    for (path, text) in [
        ("dataplane/src/pipeline/x.rs", "use crate::worker::Worker;"),
        (
            "dataplane/src/wire/x.rs",
            "fn f() { super::super::table::g(); }",
        ),
        (
            "dataplane/src/pipeline/x.rs",
            "use std::{fmt, time::Instant};",
        ),
        ("dataplane/src/x.rs", "use vtep_control::config::Config;"),
        ("dataplane/src/fresh/x.rs", "use crate::addr::Vni;"),
        ("control/src/bgp/x.rs", "use mio::net::TcpStream;"),
        ("control/src/rib/x.rs", "fn f() { crate::evpn::g(); }"),
        (
            "control/src/engine/x.rs",
            "use vtep_dataplane::pipeline::Pipeline;",
        ),
    ] {
        assert_eq!(
            imports::wrong_imports(&source(path, text)).len(),
            1,
            "{path}: {text}"
        );
    }
    let right = "// use crate::afxdp;\nuse crate::table::Snapshot;\n#[cfg(test)]\nmod tests { use crate::worker::X; }";
    none(
        "right",
        &imports::wrong_imports(&source("dataplane/src/pipeline/x.rs", right)),
    );
}

#[test]
fn imports_form_no_circle() {
    none("circles", &imports::circles(&tidy::sources()));
    let files = |texts: [(&str, &str); 3]| {
        texts
            .map(|(path, text)| source(path, text))
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
    };
    let circle = files([
        ("control/src/rib/a.rs", "use super::b::B;"),
        ("control/src/rib/b.rs", "fn f() { crate::fib::c::g(); }"),
        ("control/src/fib/c.rs", "use crate::rib::a;"),
    ]);
    assert_eq!(
        imports::circles(&circle),
        ["control/src/rib/a.rs, control/src/rib/b.rs, control/src/fib/c.rs"]
    );
    let parent = files([
        ("control/src/rib/mod.rs", "use self::a::A;"),
        ("control/src/rib/a.rs", "use super::Rib; use super::b::B;"),
        ("control/src/rib/b.rs", "use crate::rib::Rib;"),
    ]);
    none("parent and child", &imports::circles(&parent));
}

#[test]
fn imports_are_in_three_groups() {
    none("imports", &imports::import_groups(&tidy::sources()));
    for wrong in [
        "use mio::Poll;\n\nuse std::fmt;",
        "use std::fmt;\nuse mio::Poll;",
        "use std::fmt;\n\nuse std::io;",
    ] {
        assert_eq!(
            imports::import_groups(&source("control/src/x.rs", wrong)).len(),
            1,
            "{wrong}"
        );
    }
    let right = "use std::fmt;\nuse std::io;\n\nuse mio::Poll;\n\nuse crate::bgp;\nuse super::x;";
    none(
        "right",
        &imports::import_groups(&source("control/src/x.rs", right)),
    );
}

#[test]
fn names_and_prose_use_the_terms_of_the_field() {
    none("words", &words::banned(&tidy::sources()));
    none("words", &words::banned(&words::pages()));
    none("words", &words::banned(&words::texts()));
    for wrong in [
        "// A neighbour.",
        "let neighbour_count = 1;",
        "struct NeighbourTable;",
        "// It rings the\n// bells.",
        "// That is how it goes\n// on.",
        "struct MacOutbox;",
        "/// It goes on.",
        "struct Blame;",
        "fn f() { fib.turn_to(1) }",
        "error(\"nobody\")",
    ] {
        assert_eq!(
            words::banned(&source("control/src/x.rs", wrong)).len(),
            1,
            "{wrong}"
        );
    }
    none(
        "right",
        &words::banned(&source(
            "control/src/x.rs",
            "// mushroom, net/core/neighbour.c",
        )),
    );
}

#[test]
fn pages_have_at_most_120_columns() {
    none("lines", &words::long_lines(&words::pages()));
    let long = "x".repeat(121);
    assert_eq!(words::long_lines(&source("a.md", &long)).len(), 1);
    none(
        "code",
        &words::long_lines(&source("a.md", &format!("```\n{long}\n```\n| {long} |"))),
    );
}

#[test]
fn unsafe_code_is_only_where_it_is_allowed() {
    none("misplaced", &size::misplaced_unsafe(&tidy::sources()));
    assert_eq!(
        size::misplaced_unsafe(&source("control/src/x.rs", concat!("un", "safe { f() }"))).len(),
        1
    );
}

#[test]
fn files_and_functions_are_short() {
    none("files", &size::long_files(&tidy::sources()));
    none("functions", &size::long_functions(&tidy::sources()));
    let long = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(69));
    assert_eq!(size::long_functions(&source("a.rs", &long)).len(), 1);
    assert_eq!(
        size::long_files(&source("a.rs", &"x\n".repeat(501))).len(),
        1
    );
}

#[test]
fn no_work_is_unfinished() {
    none("unfinished", &size::unfinished(&tidy::sources()));
    assert_eq!(
        size::unfinished(&source("a.rs", concat!("// TO", "DO"))).len(),
        1
    );
}

#[test]
fn each_drop_reason_is_in_the_docs() {
    let page = std::fs::read_to_string(tidy::root().join("docs/counters.md"))
        .expect("docs/counters.md is readable");
    let reasons = reasons::reasons(&tidy::sources());
    assert!(reasons.len() > 25, "{reasons:?}");
    let missing: Vec<String> = reasons
        .into_iter()
        .filter(|r| !page.contains(&format!("`{r}`")))
        .collect();
    none("reasons without a line in docs/counters.md", &missing);
}

/// cargo reads the manifests of the packages of all platforms, also of those that are not built
/// here, and downloads what is not in `CARGO_HOME` yet. `scripts/check` fetches them first.
#[test]
fn packages_come_from_crates_io_under_permitted_licenses() {
    let manifest = tidy::root().join("Cargo.toml");
    let words = [
        "cargo",
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--manifest-path",
    ];
    let out = command(
        600,
        &[&words[..], &[manifest.to_str().expect("ASCII")]].concat(),
    );
    let metadata = serde_json::from_str(&must(&out, "cargo metadata")).expect("JSON");
    none("packages", &packages::wrong_packages(&metadata));
    assert!(packages::permitted("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(
        !packages::permitted("GPL-3.0-only")
            && !packages::permitted("")
            && !packages::permitted("MIT AND GPL-3.0-only")
    );
}

#[test]
fn the_architecture_page_names_every_module() {
    let page = std::fs::read_to_string(tidy::root().join("ARCHITECTURE.md")).expect("readable");
    let missing: Vec<String> = imports::names(&tidy::sources())
        .into_iter()
        .filter(|name| !words::contains(&page, name))
        .collect();
    none("modules that ARCHITECTURE.md does not name", &missing);
}
